// Package rights gives up rights of this process, for all threads and for
// good: most capabilities, and gaining any by execve. It never gains any.
//
// The kernel keeps both for each thread (capabilities(7), prctl(2)), so a Go
// program has to give them up on all of its threads at once.
package rights

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// GiveUp sets no_new_privs and keeps, of the capabilities that the process
// has, those named. The bounding set may stay: with no_new_privs, execve adds
// nothing.
func GiveUp(keep ...uint) error {
	if Cgo {
		return errors.New("rkt-fetch was built with cgo; build it with CGO_ENABLED=0, as 'make build' does")
	}
	if err := allThreads("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var kept [2]uint32
	for _, c := range keep {
		kept[c/32] |= 1 << (c % 32)
	}
	for i := range caps {
		caps[i].Permitted &= kept[i]
		caps[i].Effective = caps[i].Permitted
		caps[i].Inheritable = 0
	}
	return allThreads("drop capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&caps[0])), 0)
}
