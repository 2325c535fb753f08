//go:build !cgo

package rights

import (
	"fmt"
	"syscall"
)

// Cgo says that this program was built with cgo, and cannot give up anything.
const Cgo = false

// allThreads makes a system call on every thread of the process, as the kernel
// keeps no_new_privs and capabilities for each of them.
//
//go:uintptrescapes
func allThreads(what string, call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}
