package linux

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Script is a process to be, as data: the system calls that a new process
// makes, in order, and the program that it then becomes.
//
// It exists because a namespace is entered, rights are given up and a system
// call filter is loaded between fork and exec, where a Go program cannot run
// ordinary code, and because a second start of a Go program, the usual way
// around, costs milliseconds. The child is made as by vfork(2): it shares our
// memory while it works through the script, so that nothing has to be copied,
// and is written in assembly, so that it needs nothing of Go's.
//
// A Script is used once, by one goroutine.
type Script struct {
	calls []call
	names []string // of calls
	execs []call
	paths []string // of execs
	pins  []any
	// cgroup, if not negative, is a cgroup v2 directory in which the child is
	// born (clone3(2), CLONE_INTO_CGROUP).
	cgroup int
	flags  uint64
}

// call is one system call. The assembly knows its layout.
type call struct {
	nr   uintptr
	args [6]uintptr
	// mark, of a call: not 0 if it may fail. Of an exec: why it failed.
	mark uintptr
}

// outcome is what the child leaves behind if it fails. The assembly knows its
// layout.
type outcome struct {
	left  int // calls left, from the one that failed; -1: no exec succeeded
	errno uintptr
}

// NewScript is an empty script for a child with the clone(2) flags given
// (CLONE_NEW… only).
func NewScript(cloneFlags uint64) *Script {
	return &Script{cgroup: -1, flags: cloneFlags}
}

// SetCgroup lets the child be born in a cgroup v2 directory. The descriptor
// stays the caller's.
func (s *Script) SetCgroup(fd int) { s.cgroup = fd }

// Call adds a system call that must not fail. Arguments are kept as they are:
// use Ptr and Str for memory.
func (s *Script) Call(name string, nr uintptr, args ...uintptr) {
	c := call{nr: nr}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
	s.names = append(s.names, name)
}

// Try adds a system call whose failure does not matter.
func (s *Script) Try(name string, nr uintptr, args ...uintptr) {
	s.Call(name, nr, args...)
	s.calls[len(s.calls)-1].mark = 1
}

// CloseFrom closes the descriptors from low on (close_range(2)), or lets exec
// close them with CLOSE_RANGE_CLOEXEC as flags.
func (s *Script) CloseFrom(low int, flags uintptr) {
	s.Call("close descriptors", unix.SYS_CLOSE_RANGE, uintptr(low), math.MaxUint32, flags)
}

// Unblock lets signals through, which reach the child from here on: those that
// the calling thread lets through. It must come before a system call filter.
func (s *Script) Unblock() {
	mask := &unix.Sigset_t{}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, mask); err != nil {
		*mask = unix.Sigset_t{}
	}
	s.Call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, Ptr(s, mask), 0, 8)
}

// Exec adds a program to become. Several may be given: the child tries them in
// order, as a search along PATH does.
func (s *Script) Exec(path string, argv, env []string) {
	s.exec(path, call{nr: unix.SYS_EXECVE, args: [6]uintptr{s.Str(path), s.strs(argv), s.strs(env)}})
}

// ExecFD adds the program open at a descriptor (execveat(2), AT_EMPTY_PATH).
func (s *Script) ExecFD(fd int, name string, argv, env []string) {
	s.exec(name, call{nr: unix.SYS_EXECVEAT,
		args: [6]uintptr{uintptr(fd), s.Str(""), s.strs(argv), s.strs(env), unix.AT_EMPTY_PATH}})
}

func (s *Script) exec(path string, c call) {
	s.execs = append(s.execs, c)
	s.paths = append(s.paths, path)
}

// Str is the address of a NUL-terminated copy that lives as long as the script.
func (s *Script) Str(v string) uintptr {
	b := append([]byte(v), 0)
	s.pins = append(s.pins, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Bytes is the address of b, which must not be empty.
func (s *Script) Bytes(b []byte) uintptr {
	s.pins = append(s.pins, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Ptr keeps v, a pointer, alive as long as the script and returns its address.
func Ptr[T any](s *Script, v *T) uintptr {
	s.pins = append(s.pins, v)
	return uintptr(unsafe.Pointer(v))
}

func (s *Script) strs(list []string) uintptr {
	ptrs := make([]uintptr, len(list)+1)
	for i, v := range list {
		ptrs[i] = s.Str(v)
	}
	s.pins = append(s.pins, ptrs)
	return uintptr(unsafe.Pointer(&ptrs[0]))
}

// StepError tells which step of a script failed in the child. It unwraps to
// the errno.
type StepError struct {
	Step string
	Err  unix.Errno
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// ExecError is a StepError of the last step: no candidate could be executed.
type ExecError struct {
	Path string
	Err  unix.Errno
}

func (e *ExecError) Error() string { return fmt.Sprintf("execute %q: %v", e.Path, e.Err) }
func (e *ExecError) Unwrap() error { return e.Err }

// Start makes the child and returns when it has become its program. The pidfd
// belongs to the caller, who also has to wait for pid; if an error is
// returned there is neither, and the child has been reaped.
//
// The child has default signal dispositions, except for signals that we
// ignore, and blocks all signals until Unblock.
func (s *Script) Start() (pid, pidfd int, err error) {
	if len(s.execs) == 0 {
		return 0, -1, errors.New("start process: nothing to execute")
	}
	if len(s.calls) == 0 {
		s.Unblock()
	}
	fd := int32(-1)
	args := &cloneArgs{
		flags:      s.flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PIDFD,
		pidfd:      uint64(uintptr(unsafe.Pointer(&fd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if s.cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(s.cgroup)
	}
	res := &outcome{}
	syscall.ForkLock.Lock()
	// Blocks all signals: Go's handlers must not run on the child.
	runtimeBeforeFork()
	r := cloneScript(args, unsafe.Sizeof(*args), &s.calls[0], uintptr(len(s.calls)), &s.execs[0], uintptr(len(s.execs)), res)
	runtimeAfterFork()
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(s)
	runtime.KeepAlive(&fd)
	if r > ^uintptr(4095) {
		return 0, -1, os.NewSyscallError("clone3", unix.Errno(-r))
	}
	pid, pidfd = int(r), int(fd)
	if err := s.failure(res); err != nil {
		unix.Close(pidfd)
		reap(pid)
		return 0, -1, err
	}
	return pid, pidfd, nil
}

// failure explains what the child left behind. As execvp(3), it prefers to
// report of several programs the first that was there but could not be
// executed.
func (s *Script) failure(res *outcome) error {
	if res.left > 0 {
		return &StepError{Step: s.names[len(s.calls)-res.left], Err: unix.Errno(res.errno)}
	}
	if res.left == 0 {
		return nil
	}
	err := unix.ENOENT
	for _, e := range s.execs {
		if e.mark != 0 && unix.Errno(e.mark) != unix.ENOENT && unix.Errno(e.mark) != unix.ENOTDIR {
			err = unix.Errno(e.mark)
			break
		}
	}
	return &ExecError{Path: strings.Join(s.paths, ":"), Err: err}
}

func reap(pid int) {
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, _, _, exitSignal, _, _, _, _, _, cgroup uint64
}

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// cloneScript makes the child, in which it never returns, and returns what
// clone3 returned.
//
//go:noescape
func cloneScript(args *cloneArgs, size uintptr, calls *call, ncalls uintptr, execs *call, nexecs uintptr, res *outcome) (r uintptr)

// AboveStdio returns fd, or a close-on-exec duplicate beyond stdio's numbers so
// that a child can put it there. The original is closed if it was too low.
func AboveStdio(fd int) (int, error) {
	if fd > 2 {
		return fd, nil
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, os.NewSyscallError("fcntl", err)
	}
	unix.Close(fd)
	return high, nil
}
