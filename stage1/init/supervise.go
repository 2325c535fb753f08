package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// supervisor is the state of init. The lock is held from before a process is
// started until it is known, so that its end cannot be missed.
type supervisor struct {
	plan *plan.Pod
	apps []*app
	out  outputs
	// signals come from stage1, children from the kernel: some child ended.
	signals, children chan os.Signal
	terms             int

	mu       sync.Mutex
	entered  map[int]*entered // by pid
	running  int              // apps whose process has not ended
	code     int              // of the first app that failed
	stopping bool
	timers   []*time.Timer
}

// newSupervisor builds the pod as far as it goes without running anything of
// the images.
func newSupervisor(p *plan.Pod, signals, children chan os.Signal) (*supervisor, error) {
	s := &supervisor{plan: p, signals: signals, children: children, entered: map[int]*entered{}}
	if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
		return nil, fmt.Errorf("set host name %q: %w", p.Hostname, err)
	}
	if p.Loopback {
		if err := linux.LoopbackUp(); err != nil {
			return nil, fmt.Errorf("bring up the loopback interface: %w", err)
		}
	}
	if err := makePrivate(); err != nil {
		return nil, err
	}
	for i := range p.Apps {
		a, err := newApp(&p.Apps[i], p.Cgroups, p.Base)
		if err != nil {
			return nil, fmt.Errorf("app %q: %w", p.Apps[i].Name, err)
		}
		a.alone = len(p.Apps) == 1
		s.apps = append(s.apps, a)
	}
	if err := leaveHost(p); err != nil {
		return nil, err
	}
	for _, a := range s.apps {
		if err := a.isolate(); err != nil {
			return nil, fmt.Errorf("app %q: %w", a.plan.Name, err)
		}
	}
	return s, nil
}

// run starts the apps in order, waits until the pod is over, and returns its
// exit code: that of the first app that failed, else 0.
func (s *supervisor) run() (int, error) {
	if err := s.serve(); err != nil {
		return failure, fmt.Errorf("serve the control socket: %w", err)
	}
	for _, a := range s.apps {
		if err := s.start(a); err != nil {
			s.stop(0, false)
			s.loop()
			return failure, err
		}
	}
	s.loop()
	return s.code, nil
}

// loop reacts to signals until the last process of the pod is gone.
func (s *supervisor) loop() {
	for !s.reap() {
		select {
		case <-s.children:
		case sig := <-s.signals:
			s.forward(sig)
		}
	}
	s.out.drain()
}

// start starts an app's own process.
func (s *supervisor) start(a *app) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil
	}
	env := a.environment(nil)
	stdio, err := s.out.open(a, s.plan.Terminal)
	if err == nil {
		script := a.script(a.plan.Process.Args, env, stdio.child, s.plan.Terminal)
		a.pid, a.pidfd, err = script.Start()
		stdio.started()
	}
	now := time.Now()
	a.status.UID, a.status.GID = a.id.uid, a.id.gid
	if err != nil {
		err = fmt.Errorf("start app %q: %w", a.plan.Name, explain(a.plan.Process.Args, err))
		code := failure
		a.status.State, a.status.Finished, a.status.ExitCode, a.status.Error = pod.AppExited, &now, &code, err.Error()
		return errors.Join(err, a.saveStatus())
	}
	s.running++
	a.status.State, a.status.Pid, a.status.Started = pod.AppRunning, a.pid, &now
	return a.saveStatus()
}

// reap takes note of all processes that have ended: those of the apps, those
// that entered, and those that had lost their parent. It reports whether none
// is left.
func (s *supervisor) reap() bool {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil: // ECHILD
			return true
		case pid == 0:
			return false
		default:
			s.ended(pid, ws)
		}
	}
}

// ended takes note of the end of a process.
func (s *supervisor) ended(pid int, ws unix.WaitStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := exitCode(ws)
	if e, ok := s.entered[pid]; ok {
		delete(s.entered, pid)
		e.exit <- code
		return
	}
	for _, a := range s.apps {
		if a.pid == pid && a.status.State == pod.AppRunning {
			s.appEnded(a, ws, code)
		}
	}
}

func (s *supervisor) appEnded(a *app, ws unix.WaitStatus, code int) {
	now := time.Now()
	a.status.State, a.status.Pid, a.status.Finished, a.status.ExitCode = pod.AppExited, 0, &now, &code
	if ws.Signaled() {
		a.status.Signal = unix.SignalName(ws.Signal())
	}
	if err := a.saveStatus(); err != nil {
		fmt.Fprintf(os.Stderr, "rkt: %v\n", err)
	}
	if s.running--; s.running == 0 {
		s.stopping = true
		s.setCode(code)
		killRest()
		return
	}
	if code != 0 && !s.stopping {
		s.setCode(code)
		s.stopLocked(0, false)
	}
}

// killRest ends what apps left behind. It is not called for nothing: the kernel
// looks at every process of the host for it.
func killRest() {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != unix.ECHILD {
		_ = unix.Kill(-1, unix.SIGKILL)
	}
}

func (s *supervisor) setCode(code int) {
	if s.code == 0 {
		s.code = code
	}
}

// exitCode is what a shell would report.
func exitCode(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// stop asks all apps to end, each with its own stop signal, and kills them
// when the time is over; a timeout of 0 is each app's own.
func (s *supervisor) stop(timeout time.Duration, force bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked(timeout, force)
}

func (s *supervisor) stopLocked(timeout time.Duration, force bool) {
	s.stopping = true
	for _, a := range s.apps {
		if a.status.State != pod.AppRunning {
			continue
		}
		if force {
			_ = unix.Kill(a.pid, unix.SIGKILL)
			continue
		}
		_ = unix.Kill(a.pid, unix.Signal(a.plan.StopSignal))
		_ = unix.Kill(a.pid, unix.SIGCONT) // a stopped process cannot hear
		after := timeout
		if after == 0 {
			after = time.Duration(a.plan.StopTimeout) * time.Second
		}
		s.timers = append(s.timers, time.AfterFunc(after, func() { s.stop(0, true) }))
	}
	if s.running == 0 {
		killRest()
	}
}

// forward passes on what stage1 was sent. SIGTERM asks for the end of the pod;
// a second one does not wait any longer.
func (s *supervisor) forward(sig os.Signal) {
	switch sig {
	case unix.SIGTERM:
		s.terms++
		s.stop(0, s.terms > 1)
	case unix.SIGWINCH:
		s.out.resize()
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range s.apps {
			if a.status.State == pod.AppRunning {
				_ = unix.Kill(a.pid, sig.(unix.Signal))
			}
		}
	}
}
