//go:build cgo

package rights

import "syscall"

// Cgo says that this program was built with cgo, and cannot give up anything:
// there are threads that Go does not know. The way to reach them, a signal to
// each, needs /proc, and there is none when the root directory is a layer's.
const Cgo = true

func allThreads(string, uintptr, uintptr, uintptr, uintptr) error { return syscall.ENOTSUP }
