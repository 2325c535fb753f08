package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Merge moves a tree that Unpack made onto another one, as overlayfs would show
// the two, and leaves neither whiteouts nor opaque markers behind. Layer by
// layer it builds the root file system of an image. Both directories must be
// on one file system; what remains of layer is for the caller to remove.
func Merge(ctx context.Context, layer, root *os.File) error {
	m := merger{ctx: ctx}
	var st unix.Stat_t
	err := unix.Fstat(int(root.Fd()), &st)
	if err == nil {
		err = m.dirs(int(layer.Fd()), int(root.Fd()), &st)
	}
	return wrap("merge the layer", err)
}

type merger struct{ ctx context.Context }

// dirs merges two open directories, of which the lower one was as below says,
// or is new. The upper one's metadata wins unless it is only implied; it is set
// last because moving entries changes the times.
func (m merger) dirs(upper, lower int, below *unix.Stat_t) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	opaque, err := isOpaque(upper)
	if err != nil {
		return err
	}
	if opaque {
		below = nil
		if err := removeEntries(lower); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(upper, &st); err != nil {
		return err
	}
	names, err := list(upper)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := m.entry(upper, lower, name); err != nil {
			return fmt.Errorf("%s: %w", quote(name), err)
		}
	}
	implied, err := isImplied(upper)
	if err != nil {
		return err
	}
	if implied && below != nil {
		return unix.UtimesNanoAt(lower, ".", []unix.Timespec{below.Atim, below.Mtim}, 0)
	}
	return copyMeta(upper, lower, &st)
}

func (m merger) entry(upper, lower int, name string) error {
	var st, below unix.Stat_t
	if err := unix.Fstatat(upper, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if isWhiteout(&st) {
		return removeAll(lower, name)
	}
	err := unix.Fstatat(lower, name, &below, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	exists := err == nil
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if exists && below.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := removeAll(lower, name); err != nil {
				return err
			}
		}
		return unix.Renameat(upper, name, lower, name)
	}
	if exists && below.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := unix.Unlinkat(lower, name, 0); err != nil {
			return err
		}
		exists = false
	}
	if !exists {
		if err := unix.Mkdirat(lower, name, 0o700); err != nil {
			return err
		}
		return m.pair(upper, lower, name, nil)
	}
	return m.pair(upper, lower, name, &below)
}

// pair merges two directories of one name.
func (m merger) pair(upper, lower int, name string, below *unix.Stat_t) error {
	from, err := openDir(upper, name)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openDir(lower, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return m.dirs(from, to, below)
}

// copyMeta gives a directory the owner, mode, extended attributes and times of
// another one.
func copyMeta(from, to int, st *unix.Stat_t) error {
	keep, err := xattrs(from)
	if err != nil {
		return err
	}
	old, err := xattrs(to)
	if err != nil {
		return err
	}
	for name := range old {
		if _, ok := keep[name]; !ok && kept(name) {
			if err := unix.Fremovexattr(to, name); err != nil {
				return err
			}
		}
	}
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	for name, value := range keep {
		if kept(name) {
			if err := setXattr(to, xattr{name, value}); err != nil {
				return err
			}
		}
	}
	return unix.UtimesNanoAt(to, ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
}
