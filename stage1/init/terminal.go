package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
)

// openTerminal makes a pseudoterminal on the app's own devpts, through the
// mount that init made, never through a path that the app could have replaced
// (CVE-2025-52565).
func openTerminal(a *app) (master, slave int, err error) {
	if a.pts < 0 {
		return -1, -1, errors.New("open terminal: the app has no devpts")
	}
	master, err = unix.Openat(a.pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("open terminal: %w", err)
	}
	if slave, err = openSlave(a, master); err != nil {
		unix.Close(master)
		return -1, -1, fmt.Errorf("open terminal: %w", err)
	}
	if slave, err = linux.AboveStdio(slave); err != nil {
		unix.Close(master)
		return -1, -1, err
	}
	return master, slave, nil
}

func openSlave(a *app, master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, err
	}
	// TIOCGPTPEER does not go through a path either.
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	if err := unix.Fchown(int(fd), int(a.id.uid), -1); err != nil {
		unix.Close(int(fd))
		return -1, err
	}
	return int(fd), nil
}

// copySize gives a terminal the size of another. A caller without a terminal
// has no size to give.
func copySize(from, to int) {
	if size, err := unix.IoctlGetWinsize(from, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(to, unix.TIOCSWINSZ, size)
	}
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
