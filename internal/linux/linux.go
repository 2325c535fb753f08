// Package linux has the kernel's interfaces that rkt needs and that
// golang.org/x/sys/unix gives only in pieces: typed, one kernel thing a file.
//
// It decides nothing about pods.
package linux
