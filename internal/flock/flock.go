// Package flock locks files and directories with flock(2).
//
// The lock belongs to the open file description: the kernel drops it when the
// last descriptor of it is closed, also by SIGKILL, and it outlives an exec
// that keeps the descriptor. Two Locks of one path exclude each other within a
// process as well as between processes. The package never creates, removes or
// renames anything but what Create is asked to make.
package flock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked says that somebody else holds a lock that excludes the one tried.
var ErrLocked = errors.New("is locked by another process")

// Lock is an open file or directory that can be locked. Its zero value is not
// usable. It may be used by one goroutine at a time.
type Lock struct {
	file *os.File
}

// Open opens an existing file or directory, not locked yet. A symbolic link as
// the last part of path is refused.
func Open(path string) (*Lock, error) {
	return openFile(path, unix.O_RDONLY, 0)
}

// Create opens a file, making it with perm when it does not exist, not locked
// yet.
func Create(path string, perm os.FileMode) (*Lock, error) {
	return openFile(path, unix.O_RDWR|unix.O_CREAT, uint32(perm.Perm()))
}

// openFile is os.OpenFile without the attempt to poll what cannot be polled, which
// costs five system calls.
func openFile(path string, flags int, perm uint32) (*Lock, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		switch {
		case err == nil:
			return Of(os.NewFile(uintptr(fd), path)), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// Of makes a Lock of a descriptor that is open already, for example one that
// was inherited with its lock held. The Lock owns f from here on.
func Of(f *os.File) *Lock { return &Lock{file: f} }

// Shared waits until nobody holds the lock exclusively, and takes a share. On
// a Lock that is held already it changes the kind, not atomically.
func (l *Lock) Shared() error { return l.flock(unix.LOCK_SH) }

// Exclusive waits until nobody else holds the lock in any way, and takes it.
func (l *Lock) Exclusive() error { return l.flock(unix.LOCK_EX) }

// TryShared is Shared that returns ErrLocked where it would wait.
func (l *Lock) TryShared() error { return l.flock(unix.LOCK_SH | unix.LOCK_NB) }

// TryExclusive is Exclusive that returns ErrLocked where it would wait.
func (l *Lock) TryExclusive() error { return l.flock(unix.LOCK_EX | unix.LOCK_NB) }

// Unlock gives the lock up for every descriptor of the same open file
// description, and keeps the Lock open.
func (l *Lock) Unlock() error { return l.flock(unix.LOCK_UN) }

func (l *Lock) flock(how int) error {
	for {
		err := unix.Flock(int(l.file.Fd()), how)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("%q %w", l.file.Name(), ErrLocked)
		default:
			return &os.PathError{Op: "flock", Path: l.file.Name(), Err: err}
		}
	}
}

// Is reports whether path names the very file or directory that is open here.
// Who removes or renames locked things and who waits for them uses it to find
// out whether the lock was worth waiting for.
func (l *Lock) Is(path string) (bool, error) {
	named, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	open, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(named, open), nil
}

// File is the open file, which stays the Lock's: close the Lock, not the file.
func (l *Lock) File() *os.File { return l.file }

// Inherit clears close-on-exec and returns the descriptor's number, so that
// the program that this process becomes by exec holds the lock on. (For a
// child process, put File into exec.Cmd.ExtraFiles instead.)
func (l *Lock) Inherit() (int, error) {
	fd := int(l.file.Fd())
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return -1, &os.PathError{Op: "keep open over exec", Path: l.file.Name(), Err: err}
	}
	return fd, nil
}

// Close closes the descriptor, which drops the lock unless a duplicate of the
// descriptor is open elsewhere.
func (l *Lock) Close() error { return l.file.Close() }
