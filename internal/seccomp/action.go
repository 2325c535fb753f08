package seccomp

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An action is what a filter returns to the kernel: the deed in the upper
// half, its data (an errno, a tracer's message) in the lower.
type action uint32

const (
	killProcess action = unix.SECCOMP_RET_KILL_PROCESS
	enosys      action = unix.SECCOMP_RET_ERRNO | action(unix.ENOSYS)

	deedMask = unix.SECCOMP_RET_ACTION_FULL

	maxErrno = 4095 // MAX_ERRNO: the kernel would silently lower what is above
)

func (a action) deed() action { return a & deedMask }

// permissive says that the call is carried out.
func (a action) permissive() bool {
	return a.deed() == unix.SECCOMP_RET_ALLOW || a.deed() == unix.SECCOMP_RET_LOG
}

// stricter orders actions as the kernel does when several filters disagree.
func (a action) stricter(than action) bool { return int32(a.deed()) < int32(than.deed()) }

func newAction(name specs.LinuxSeccompAction, errno *uint) (action, error) {
	switch name {
	case specs.ActErrno:
		return withData(name, unix.SECCOMP_RET_ERRNO, errno, maxErrno)
	case specs.ActTrace:
		return withData(name, unix.SECCOMP_RET_TRACE, errno, unix.SECCOMP_RET_DATA)
	case specs.ActNotify:
		return 0, fmt.Errorf("action %q needs an agent that answers each call, which rkt does not start; use %q", name, specs.ActErrno)
	}
	var deed action
	switch name {
	case specs.ActAllow:
		deed = unix.SECCOMP_RET_ALLOW
	case specs.ActLog:
		deed = unix.SECCOMP_RET_LOG
	case specs.ActTrap:
		deed = unix.SECCOMP_RET_TRAP
	case specs.ActKill, specs.ActKillThread:
		deed = unix.SECCOMP_RET_KILL_THREAD
	case specs.ActKillProcess:
		deed = killProcess
	case "":
		return 0, fmt.Errorf("action is missing")
	default:
		return 0, fmt.Errorf("action %q is unknown", name)
	}
	if errno != nil {
		return 0, fmt.Errorf("action %q takes no errno, but %d is given", name, *errno)
	}
	return deed, nil
}

func withData(name specs.LinuxSeccompAction, deed action, errno *uint, limit uint) (action, error) {
	data := uint(unix.EPERM)
	if errno != nil {
		data = *errno
	}
	if data > limit {
		return 0, fmt.Errorf("errno %d of action %q is larger than %d", data, name, limit)
	}
	return deed | action(data), nil
}

// Flags returns what the profile wants as flags of seccomp(2). A filter that
// is loaded without them is weaker or slower than the profile asks for, so
// the loader must pass them.
func Flags(p *specs.LinuxSeccomp) (uint, error) {
	var flags uint
	for _, name := range p.Flags {
		switch name {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// The thread that loads the filter is the one that calls
			// execve, which ends all others.
		case specs.LinuxSeccompFlagWaitKillableRecv:
			return 0, fmt.Errorf("seccomp flag %q goes with action %q, which rkt does not support", name, specs.ActNotify)
		default:
			return 0, fmt.Errorf("seccomp flag %q is unknown", name)
		}
	}
	return flags, nil
}
