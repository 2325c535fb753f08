package linux

import (
	"encoding/binary"
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
// around, costs milliseconds (reference: go.dev/issue/8676). The child makes
// raw system calls only: it allocates nothing and takes no lock.
//
// A Script is used once, by one goroutine.
type Script struct {
	calls []call
	execs []call
	pins  []any
	// cgroup, if not negative, is a cgroup v2 directory in which the child is
	// born (clone3(2), CLONE_INTO_CGROUP).
	cgroup int
	flags  uint64
	low    int // the pipe's descriptor must not be below
}

type call struct {
	nr   uintptr
	args [6]uintptr
	name string
	// optional calls may fail: the child goes on.
	optional bool
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
	c := call{nr: nr, name: name}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
}

// Try adds a system call whose failure does not matter.
func (s *Script) Try(name string, nr uintptr, args ...uintptr) {
	s.Call(name, nr, args...)
	s.calls[len(s.calls)-1].optional = true
}

// CloseFrom closes the descriptors from low on (close_range(2)), or lets exec
// close them with CLOSE_RANGE_CLOEXEC as flags. The pipe by which the child
// reports is spared; it lives at low or above.
func (s *Script) CloseFrom(low int, flags uintptr) {
	s.low = max(s.low, low)
	s.Call("close descriptors", unix.SYS_CLOSE_RANGE, uintptr(low), 0, flags)
	s.Call("close descriptors", unix.SYS_CLOSE_RANGE, 0, math.MaxUint32, flags)
}

// spare completes the calls of CloseFrom with the pipe's descriptor.
func (s *Script) spare(pipe int) {
	for i := range s.calls {
		switch c := &s.calls[i]; {
		case c.nr != unix.SYS_CLOSE_RANGE:
		case c.args[1] == math.MaxUint32:
			c.args[0] = uintptr(pipe + 1)
		case c.args[0] == uintptr(pipe):
			c.optional = true // an empty range, which the kernel refuses
			c.args[1] = uintptr(pipe - 1)
		default:
			c.args[1] = uintptr(pipe - 1)
		}
	}
}

// Exec adds a program to become. Several may be given: the child tries them in
// order, as a search along PATH does.
func (s *Script) Exec(path string, argv, env []string) {
	s.execs = append(s.execs, call{nr: unix.SYS_EXECVE, name: path, args: [6]uintptr{s.Str(path), s.strs(argv), s.strs(env)}})
}

// ExecFD adds the program open at a descriptor (execveat(2), AT_EMPTY_PATH).
func (s *Script) ExecFD(fd int, name string, argv, env []string) {
	s.execs = append(s.execs, call{nr: unix.SYS_EXECVEAT, name: name,
		args: [6]uintptr{uintptr(fd), s.Str(""), s.strs(argv), s.strs(env), unix.AT_EMPTY_PATH}})
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
// The child's signal mask and dispositions are Go's defaults for children:
// nothing blocked, everything default.
func (s *Script) Start() (pid, pidfd int, err error) {
	if len(s.execs) == 0 {
		return 0, -1, fmt.Errorf("start process: nothing to execute")
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, -1, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	report, err := unix.FcntlInt(uintptr(pipe[1]), unix.F_DUPFD_CLOEXEC, max(s.low, 3))
	unix.Close(pipe[1])
	if err != nil {
		return 0, -1, os.NewSyscallError("fcntl", err)
	}
	s.spare(report)
	pidfd = -1
	fd32 := int32(-1)
	args := cloneArgs{
		flags:      s.flags | unix.CLONE_PIDFD,
		pidfd:      uint64(uintptr(unsafe.Pointer(&fd32))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if s.cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(s.cgroup)
	}
	syscall.ForkLock.Lock()
	pid, errno := forkScript(&args, s.calls, s.execs, uintptr(report))
	syscall.ForkLock.Unlock()
	unix.Close(report)
	runtime.KeepAlive(s)
	if errno != 0 {
		return 0, -1, os.NewSyscallError("clone3", errno)
	}
	pidfd = int(fd32)
	if err := s.report(pipe[0]); err != nil {
		unix.Close(pidfd)
		reap(pid)
		return 0, -1, err
	}
	return pid, pidfd, nil
}

// report reads what failed in the child; nothing, if it got to exec.
func (s *Script) report(fd int) error {
	var msg [8]byte
	n := 0
	for n < len(msg) {
		m, err := unix.Read(fd, msg[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			break
		}
		n += m
	}
	if n == 0 {
		return nil
	}
	step := int(binary.NativeEndian.Uint32(msg[:4]))
	errno := unix.Errno(binary.NativeEndian.Uint32(msg[4:]))
	if step < len(s.calls) {
		return &StepError{Step: s.calls[step].name, Err: errno}
	}
	names := make([]string, len(s.execs))
	for i, e := range s.execs {
		names[i] = e.name
	}
	return &ExecError{Path: strings.Join(names, ":"), Err: errno}
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
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()

// forkScript forks. Everything after clone3 in the child is raw system calls:
// no allocation, no lock, no stack growth (the functions that it calls are
// assembly or nosplit), as in syscall.forkAndExecInChild1. The memory is a
// copy, not shared, so the parent goes on at once.
//
//go:noinline
//go:norace
//go:nocheckptr
func forkScript(args *cloneArgs, calls, execs []call, pipe uintptr) (int, unix.Errno) {
	var (
		errno, first unix.Errno
		i            int
		msg          [2]uint32
	)
	runtimeBeforeFork()
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		runtimeAfterFork()
		return int(pid), errno
	}
	runtimeAfterForkInChild()
	for i = 0; i < len(calls); i++ {
		c := &calls[i]
		_, _, errno = unix.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if errno != 0 && !c.optional {
			goto fail
		}
	}
	// As execvp(3): keep looking where a candidate is not there, and prefer
	// to report that one was there but could not be executed.
	for i = 0; i < len(execs); i++ {
		c := &execs[i]
		_, _, errno = unix.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if first == 0 || first == unix.ENOENT {
			first = errno
		}
		if errno != unix.ENOENT && errno != unix.ENOTDIR && errno != unix.EACCES {
			break
		}
	}
	errno = first
	i = len(calls)
fail:
	msg[0], msg[1] = uint32(i), uint32(errno)
	unix.RawSyscall(unix.SYS_WRITE, pipe, uintptr(unsafe.Pointer(&msg[0])), 8)
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 254, 0, 0)
	}
}

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
