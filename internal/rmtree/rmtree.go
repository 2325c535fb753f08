// Package rmtree deletes directory trees that somebody else has filled, such
// as an app's writable layer.
//
// It differs from os.RemoveAll in what a hostile tree can do to it: a tree
// deeper than any path or any number of descriptors is deleted as well, so are
// files that were made immutable, and it never goes into another file system,
// so what is mounted somewhere inside stays untouched and is an error.
package rmtree

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the open descriptors. A directory that lies deeper is moved
// up below the tree's top first.
const maxDepth = 32

// Remove deletes path and all below it. A path that does not exist is fine.
// The parts of path before the last one are trusted.
func Remove(path string) error {
	err := unix.Unlink(path)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	top, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	r := &remover{top: top}
	err = r.empty(top, 0)
	for err == nil && r.pending { // directories were moved up after top had been read
		r.pending = false
		err = r.empty(top, 0)
	}
	_ = unix.Close(top)
	if err != nil {
		return fmt.Errorf("remove %q: %w", path, err)
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

type remover struct {
	top     int
	moved   int  // how many directories were moved up, for their names
	pending bool // some of them may not have been met yet
}

// empty deletes everything in an open directory.
func (r *remover) empty(dir, depth int) error {
	buf := make([]byte, 8192)
	for {
		// Deleting may make the kernel skip entries: read until there are none.
		if _, err := unix.Seek(dir, 0, 0); err != nil {
			return err
		}
		found := false
		for {
			n, err := unix.ReadDirent(dir, buf)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			if n <= 0 {
				break
			}
			_, _, names := unix.ParseDirent(buf[:n], -1, nil)
			for _, name := range names {
				found = true
				if err := r.remove(dir, name, depth); err != nil {
					return fmt.Errorf("%q: %w", name, err)
				}
			}
		}
		if !found {
			return nil
		}
	}
}

// remove deletes one entry of a directory.
func (r *remover) remove(dir int, name string, depth int) error {
	err := unlink(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return describe(err)
	}
	if depth >= maxDepth {
		return r.moveUp(dir, name)
	}
	sub, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return describe(err)
	}
	err = r.empty(sub, depth+1)
	_ = unix.Close(sub)
	if err != nil {
		return err
	}
	if err := unlink(dir, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return describe(err)
	}
	return nil
}

func (r *remover) moveUp(dir int, name string) error {
	for {
		to := ".rmtree-" + strconv.Itoa(r.moved)
		r.moved++
		err := unix.Renameat2(dir, name, r.top, to, unix.RENAME_NOREPLACE)
		if err == unix.EEXIST {
			continue
		}
		if err == unix.EPERM && mutable(dir, name) {
			err = unix.Renameat2(dir, name, r.top, to, unix.RENAME_NOREPLACE)
		}
		r.pending = true
		return describe(err)
	}
}

// unlink is unlinkat(2); on EPERM it makes the file and its directory mutable
// and tries once more.
func unlink(dir int, name string, flags int) error {
	err := unix.Unlinkat(dir, name, flags)
	if err == unix.EPERM && mutable(dir, name) {
		return unix.Unlinkat(dir, name, flags)
	}
	return err
}

// mutable clears the flags "immutable" and "append only" of a directory and of
// a file in it, and reports whether one was set.
func mutable(dir int, name string) bool {
	changed := clearFlags(dir)
	// Only regular files and directories can have them, and only those are
	// opened: opening a device or a FIFO may do something.
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return changed
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return changed
	}
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return changed
	}
	defer unix.Close(fd)
	return clearFlags(fd) || changed
}

func clearFlags(fd int) bool {
	const hindering = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // the same bits as FS_IMMUTABLE_FL and FS_APPEND_FL
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&hindering == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^hindering)) == nil
}

func describe(err error) error {
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("something is mounted there, unmount it first: %w", err)
	}
	return err
}
