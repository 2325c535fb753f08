// Package failpoint marks the instants between two durable steps, so that a
// test can kill the process exactly there.
//
// In a program built with the tag "failpoint", the environment variable
// RKT_FAILPOINT=NAME[:N] makes the N-th hit (default: the first) of that name
// end the process as SIGKILL would: no deferred call runs, no buffer is
// flushed. RKT_FAILPOINT_TRACE=FILE appends the name of every hit to FILE, so
// that a test can learn which points a scenario passes. Without the tag, Hit
// compiles to nothing.
//
// Names are "package.thing.step", the step being what has just been done.
package failpoint
