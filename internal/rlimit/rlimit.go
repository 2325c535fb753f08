// Package rlimit remembers the limit on open files that this process was
// started with.
//
// Go's package syscall raises the soft limit to the hard one while it is
// initialised, and restores it only in children that it starts itself
// (go.dev/issue/46279). A pod must get the limits of its caller, so the value is
// read before: packages are initialised in the order of their import paths as
// far as their imports allow (language specification, "Program
// initialization"), and this one imports nothing.
package rlimit

// Limit is a soft and a hard limit as of prlimit(2).
type Limit struct{ Soft, Hard uint64 }

// NoFile is RLIMIT_NOFILE as the caller of this program had set it.
var NoFile = read()

func read() Limit {
	var l Limit
	getNoFile(&l)
	return l
}

// getNoFile calls prlimit(0, RLIMIT_NOFILE, NULL, l).
func getNoFile(l *Limit)
