package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Pauses between two looks at a pod that no process can be waited for yet,
// and the longest wait for a process without a look at the lock.
const (
	firstPause = time.Millisecond
	maxPause   = 100 * time.Millisecond
	maxTrust   = time.Second
)

// Wait waits until the pod is dead, or until ctx ends. It wakes up when stage1
// ends; nothing polls in between.
func (p *Pod) Wait(ctx context.Context) error {
	pause := firstPause
	for {
		phase, err := p.Phase()
		if err != nil {
			return err
		}
		if phase.Dead() {
			return nil
		}
		waited := false
		if phase == Running {
			if waited, err = p.waitProcess(ctx); err != nil {
				return err
			}
		}
		if waited {
			pause = firstPause
			continue
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

// WaitStarted waits until stage1 has written its pid, that is until init
// answers. It fails when the pod is dead before.
func (p *Pod) WaitStarted(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		pid, _, err := p.Pid()
		if err != nil {
			return err
		}
		phase, err := p.Phase()
		if err != nil {
			return err
		}
		switch {
		case phase.Dead():
			return fmt.Errorf("pod %s has exited", p.UUID)
		case phase != Running:
			return fmt.Errorf("pod %s is not running, it is %s", p.UUID, phase)
		case pid != 0:
			return nil
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// waitProcess waits for the end of the process that the file pid names. It
// reports false when there is none to wait for. The wait is bounded, because
// the number may be another's by now if the lock's holder is not stage1.
func (p *Pod) waitProcess(ctx context.Context) (bool, error) {
	pid, _, err := p.Pid()
	if err != nil || pid == 0 {
		return false, err
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("wait for process %d of pod %s: %w", pid, p.UUID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd") // non-blocking: the runtime's poller waits, and a deadline ends it
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(maxTrust)); err != nil {
		return false, fmt.Errorf("wait for process %d of pod %s: %w", pid, p.UUID, err)
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	ended := false
	err = conn.Read(func(fd uintptr) bool {
		ended = readable(int(fd))
		return ended
	})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, fmt.Errorf("wait for process %d of pod %s: %w", pid, p.UUID, err)
	}
	// When the process has ended and the pod has not, somebody else holds the
	// lock: then only looking again, with pauses, helps.
	held, err := p.isHeld()
	return !ended || !held, err
}

func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return err == nil && n > 0
	}
}
