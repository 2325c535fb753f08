package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
)

// outputs carries what apps write to the caller of rkt and to the apps' logs.
type outputs struct {
	copies sync.WaitGroup
	mu     sync.Mutex
	master int // of the pod's terminal, 0 if there is none
}

// stdio is what a new app process gets. The descriptors are closed by started.
type stdio struct {
	child [3]int
	close []int
}

// started closes what only the child needs.
func (s *stdio) started() {
	for _, fd := range s.close {
		unix.Close(fd)
	}
}

// open arranges an app's stdio: pipes, of which init copies to the caller and
// to the log, or a terminal that it connects with the caller's.
//
// Input is the caller's own descriptor, unless that is a terminal: a process
// of the pod must never hold the host's terminal (CVE-2017-5226).
func (o *outputs) open(a *app, terminal bool) (*stdio, error) {
	log := &logFile{name: a.file(logName)}
	if terminal {
		return o.openTerminal(a, log)
	}
	s := &stdio{}
	in, err := input(a)
	if err != nil {
		return s, err
	}
	s.child[0] = in
	s.close = append(s.close, in)
	for i, stream := range []string{"stdout", "stderr"} {
		fd := i + 1
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return s, os.NewSyscallError("pipe2", err)
		}
		if p[1], err = linux.AboveStdio(p[1]); err != nil {
			return s, err
		}
		s.child[fd] = p[1]
		s.close = append(s.close, p[1])
		// /dev/stdout can be opened again by path, by the app's user too.
		if err := unix.Fchown(p[1], int(a.id.uid), int(a.id.gid)); err != nil {
			return s, os.NewSyscallError("fchown", err)
		}
		if err := o.copy(p[0], fd, &logStream{file: log, stream: stream}); err != nil {
			return s, err
		}
	}
	return s, nil
}

// input is the caller's standard input for the only app of a pod.
func input(a *app) (int, error) {
	if a.alone && !isTerminal(0) {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EBADF) { // started without standard input
			return -1, os.NewSyscallError("fcntl", err)
		}
	}
	fd, err := unix.Open(devicesDir+"/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open null device: %w", err)
	}
	return linux.AboveStdio(fd)
}

func (o *outputs) openTerminal(a *app, log *logFile) (*stdio, error) {
	master, slave, err := openTerminal(a)
	if err != nil {
		return &stdio{}, err
	}
	copySize(0, master)
	in, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return &stdio{}, os.NewSyscallError("fcntl", err)
	}
	o.mu.Lock()
	o.master = in
	o.mu.Unlock()
	if err := o.copy(master, 1, &logStream{file: log, stream: "stdout"}); err != nil {
		return &stdio{}, err
	}
	go pump(0, in)
	return &stdio{child: [3]int{slave, slave, slave}, close: []int{slave}}, nil
}

// resize follows a change of the caller's terminal.
func (o *outputs) resize() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.master != 0 {
		copySize(0, o.master)
	}
}

// copy passes on from one descriptor, which it owns, to the caller and the
// log, until its writers are gone. The descriptor is polled, so that waiting
// costs no thread.
func (o *outputs) copy(fd, to int, log *logStream) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	from := os.NewFile(uintptr(fd), log.stream)
	o.copies.Go(func() {
		defer from.Close()
		defer log.close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n <= 0 || err != nil { // end of file, or EIO: the terminal's last user is gone
				return
			}
			if to >= 0 && writeAll(to, buf[:n]) != nil {
				to = -1 // the caller does not listen any more, the log does
			}
			log.write(buf[:n])
		}
	})
	return nil
}

// drain waits until all output has been passed on. No writer may be left.
func (o *outputs) drain() { o.copies.Wait() }

// pump copies until an end is gone.
func pump(from, to int) {
	buf := make([]byte, 4<<10)
	for {
		n, err := unix.Read(from, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || writeAll(to, buf[:n]) != nil {
			return
		}
	}
}

// writeAll writes everything, also to a caller's descriptor that does not
// block.
func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		default:
			data = data[n:]
		}
	}
	return nil
}
