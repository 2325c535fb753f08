package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/control"
)

// entered is a process that was started by a request.
type entered struct {
	exit chan int // its exit code, once
}

// serve accepts connections on the control socket for as long as the pod
// lives. Each is one request, handled on a goroutine of its own.
func (s *supervisor) serve() error {
	if err := unix.SetNonblock(control.SocketFD, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	// A file rather than a net.Listener: package net would double init.
	raw, err := os.NewFile(control.SocketFD, control.Socket).SyscallConn()
	if err != nil {
		return err
	}
	go func() {
		for {
			conn := -1
			err := raw.Read(func(fd uintptr) bool {
				conn, _, err = unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
				return !errors.Is(err, unix.EAGAIN)
			})
			if err != nil {
				return // the socket is closed
			}
			if conn >= 0 {
				go s.handle(conn)
			}
		}
	}()
	return nil
}

func (s *supervisor) handle(conn int) {
	defer unix.Close(conn)
	var req control.Request
	fds, err := control.Receive(conn, &req)
	if err != nil {
		return // nobody is left to tell
	}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	switch {
	case req.Exec != nil:
		err = s.exec(conn, req.Exec, fds)
	case req.Stop != nil:
		s.stop(req.Stop.Timeout, req.Stop.Force)
		err = control.Send(conn, control.Reply{})
	default:
		err = errors.New("request is not understood, stage1 and init are of different versions")
	}
	if err != nil {
		_ = control.Send(conn, control.Reply{Error: err.Error()})
	}
}

// exec starts a process in the context of an app and stays with it. What the
// process has is what the app has: nothing of the client but stdio reaches it.
func (s *supervisor) exec(conn int, req *control.Exec, fds []int) error {
	a, err := s.find(req.App)
	if err != nil {
		return err
	}
	if len(req.Args) == 0 {
		return errors.New("there is nothing to execute")
	}
	var (
		stdio  [3]int
		master = -1
	)
	if req.Terminal {
		var slave int
		if master, slave, err = openTerminal(a); err != nil {
			return err
		}
		defer unix.Close(master)
		defer unix.Close(slave)
		stdio = [3]int{slave, slave, slave}
	} else if stdio, err = take(fds); err != nil {
		return err
	}
	e, pid, pidfd, err := s.startEntered(a, req, stdio)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	var pass []int
	if req.Terminal {
		pass = []int{master}
	}
	if err := control.Send(conn, control.Reply{}, pass...); err != nil {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		<-e.exit
		return nil
	}
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		listen(conn, pid, pidfd)
	}()
	code := <-e.exit
	_ = control.Send(conn, control.Reply{Exit: &code})
	// Ends listen, which must not outlive the descriptors that it uses.
	_ = unix.Shutdown(conn, unix.SHUT_RDWR)
	<-listened
	return nil
}

func (s *supervisor) startEntered(a *app, req *control.Exec, stdio [3]int) (*entered, int, int, error) {
	env := a.environment(req.Env)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.status.State != pod.AppRunning || s.stopping {
		return nil, 0, -1, fmt.Errorf("app %q is not running", a.plan.Name)
	}
	pid, pidfd, err := a.script(req.Args, env, stdio, req.Terminal).Start()
	if err != nil {
		return nil, 0, -1, explain(req.Args, err)
	}
	e := &entered{exit: make(chan int, 1)}
	s.entered[pid] = e
	return e, pid, pidfd, nil
}

// listen passes on signals, and kills the process when its client is gone. It
// sends by pidfd: the process may have been reaped.
func listen(conn, pid, pidfd int) {
	for {
		var req control.Request
		fds, err := control.Receive(conn, &req)
		for _, fd := range fds {
			unix.Close(fd)
		}
		if errors.Is(err, io.EOF) || err != nil {
			if unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) == nil {
				_ = unix.Kill(-pid, unix.SIGKILL) // the rest of its session's first group
			}
			return
		}
		if req.Signal != nil {
			_ = unix.PidfdSendSignal(pidfd, unix.Signal(req.Signal.Number), nil, 0)
		}
	}
}

func (s *supervisor) find(name string) (*app, error) {
	if name == "" && len(s.apps) == 1 {
		return s.apps[0], nil
	}
	for _, a := range s.apps {
		if a.plan.Name == name {
			return a, nil
		}
	}
	return nil, fmt.Errorf("the pod has no app %q", name)
}

// take moves the three descriptors of a client to where a script can use them.
func take(fds []int) ([3]int, error) {
	var stdio [3]int
	if len(fds) != len(stdio) {
		return stdio, fmt.Errorf("request has %d descriptors instead of %d", len(fds), len(stdio))
	}
	for i := range fds {
		var err error
		if fds[i], err = linux.AboveStdio(fds[i]); err != nil {
			return stdio, err
		}
		stdio[i] = fds[i]
	}
	return stdio, nil
}
