package unpack

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Remove removes a name in an open directory and everything below it, following
// nothing.
func Remove(parent *os.File, name string) error {
	return wrap("remove "+quote(name), removeAll(int(parent.Fd()), name))
}

// removeAll removes a name and everything below it, following nothing. That
// there is nothing is no error.
func removeAll(parent int, name string) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if unix.Unlinkat(parent, name, unix.AT_REMOVEDIR) == nil {
		return nil
	}
	fd, err := openDir(parent, name)
	if err != nil {
		return err
	}
	err = removeEntries(fd)
	unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

func removeEntries(fd int) error {
	names, err := list(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeAll(fd, name); err != nil {
			return err
		}
	}
	return nil
}

// list returns the names in an open directory, sorted.
func list(fd int) ([]string, error) {
	again, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(again), "directory")
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
