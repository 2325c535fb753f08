//go:build cgo

package sandbox

import "syscall"

// With cgo there are threads that Go does not know. The way to reach them, a
// signal to each, needs /proc, and there is none when the root directory is the
// layer's.
const builtWithCgo = true

func allThreads(string, uintptr, uintptr, uintptr, uintptr) error { return syscall.ENOTSUP }
