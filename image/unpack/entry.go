package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// replace makes a node by a call that fails with EEXIST when there is one
// already; that one is then removed, with everything below it. A node is never
// written to or changed after another entry made it.
func (u *unpacker) replace(parent *dir, base string, create func() error) error {
	err := create()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := u.tree.remove(parent, base); err != nil {
		return wrap("replace the earlier entry", err)
	}
	return create()
}

// remove takes a name out of the tree, which makes kept paths doubtful.
func (t *tree) remove(parent *dir, base string) error {
	t.stale = true
	return removeAll(parent.fd, base)
}

func (u *unpacker) file(parent *dir, base string, h *tar.Header, m meta) error {
	if h.Size > u.limits.Size-u.written {
		return &LimitError{Limit: "size", Max: u.limits.Size}
	}
	fd := -1
	err := u.replace(parent, base, func() (err error) {
		fd, err = ignoringEINTR(func() (int, error) {
			return unix.Openat(parent.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		})
		return err
	})
	if err != nil {
		return wrap("create the file", err)
	}
	err = u.fill(fd, h)
	if err == nil {
		err = u.setNode(fd, parent, m)
	}
	if err == nil {
		err = wrap("set the time", unix.UtimesNanoAt(parent.fd, base, m.times(), unix.AT_SYMLINK_NOFOLLOW))
	}
	return errors.Join(err, wrap("close the file", unix.Close(fd)))
}

// fill writes the content of a file. The holes of a sparse file, which the
// reader delivers as zeros, become holes again.
func (u *unpacker) fill(fd int, h *tar.Header) error {
	sparse := isSparse(h)
	var offset int64
	for offset < h.Size {
		n, err := u.archive.Read(u.buf[:min(int64(len(u.buf)), h.Size-offset)])
		if werr := writeAt(fd, u.buf[:n], offset, sparse); werr != nil {
			return wrap("write the file", werr)
		}
		offset, u.written = offset+int64(n), u.written+int64(n)
		if lerr := u.limits.expand(u.written, u.input()); lerr != nil {
			return lerr
		}
		if err != nil && (!errors.Is(err, io.EOF) || offset < h.Size) {
			return damaged(err, "within its content")
		}
	}
	if sparse {
		return wrap("set the size of the file", unix.Ftruncate(fd, h.Size))
	}
	return nil
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func writeAt(fd int, p []byte, offset int64, sparse bool) error {
	const block = 4 * kib
	var zeros [block]byte
	for len(p) > 0 {
		n := len(p)
		if sparse {
			n = min(n, block-int(offset%block))
			if bytes.Equal(p[:n], zeros[:n]) {
				p, offset = p[n:], offset+int64(n)
				continue
			}
		}
		w, err := ignoringEINTR(func() (int, error) { return unix.Pwrite(fd, p[:n], offset) })
		if err != nil {
			return err
		}
		p, offset = p[w:], offset+int64(w)
	}
	return nil
}

// dir makes a directory, or changes the one that is there.
func (u *unpacker) dir(parent *dir, base, path string, m meta) error {
	d, err := u.mkdir(parent, base, path, false)
	if errors.Is(err, unix.EEXIST) {
		if d, err = u.reopen(parent, base, path); err == nil {
			err = express(d)
		}
	}
	if err != nil {
		return wrap("make the directory", err)
	}
	return u.setDir(d, path, m)
}

// reopen opens a directory that exists. Anything else in its place is replaced,
// and as it hid what the lower layers have under the name, so must the directory.
func (u *unpacker) reopen(parent *dir, base, path string) (*dir, error) {
	fd, err := openDir(parent.fd, base)
	if err == nil {
		return u.tree.keep(path, &dir{fd: fd, depth: parent.depth + 1, linked: parent.linked}), nil
	}
	if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		return nil, err
	}
	if err := u.tree.remove(parent, base); err != nil {
		return nil, err
	}
	return u.mkdir(parent, base, path, true)
}

// mkdir makes a new directory and keeps it open, for its entries come next.
func (u *unpacker) mkdir(parent *dir, base, path string, opaque bool) (*dir, error) {
	if parent.depth >= u.limits.Depth {
		return nil, &LimitError{Limit: "depth", Max: int64(u.limits.Depth)}
	}
	if err := unix.Mkdirat(parent.fd, base, 0o700); err != nil {
		return nil, err
	}
	fd, err := openDir(parent.fd, base)
	if err != nil {
		return nil, err
	}
	if opaque {
		if err := setOpaque(fd); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return u.tree.keep(path, &dir{fd: fd, depth: parent.depth + 1, linked: parent.linked}), nil
}

func (u *unpacker) symlink(parent *dir, base, target string, m meta) error {
	switch {
	case target == "":
		return errors.New("the symbolic link has no target")
	case len(target) > u.limits.PathLength:
		return fmt.Errorf("its target: %w", &LimitError{Limit: "pathLength", Max: int64(u.limits.PathLength)})
	}
	err := u.replace(parent, base, func() error { return unix.Symlinkat(target, parent.fd, base) })
	if err != nil {
		return wrap("make the symbolic link", err)
	}
	return u.setName(parent, base, m)
}

// link makes a second name for what the layer has already unpacked. The target
// itself is never followed when it is a symbolic link, and mode and owner of
// the entry are ignored: they are the target's (CVE-2021-32760).
func (u *unpacker) link(parent *dir, base, target string) error {
	name, err := u.limits.clean(target)
	if err != nil {
		return fmt.Errorf("its target %s: %w", quote(target), err)
	}
	if name == "" {
		return errors.New("a hard link cannot lead to the root of the layer")
	}
	up, last := split(name)
	from, err := u.tree.lookup(up)
	if err == nil {
		err = u.hardLink(from, last, parent, base)
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return fmt.Errorf("the hard link leads to %s, which the layer does not contain", quote(target))
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("the hard link leads to %s, which is no file", quote(target))
	}
	return wrap("make the hard link", err)
}

func (u *unpacker) hardLink(from *dir, target string, parent *dir, base string) error {
	err := unix.Linkat(from.fd, target, parent.fd, base, 0)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var old, existing unix.Stat_t
	if err := unix.Fstatat(from.fd, target, &old, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fstatat(parent.fd, base, &existing, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if old.Dev == existing.Dev && old.Ino == existing.Ino {
		return nil
	}
	return u.replace(parent, base, func() error { return unix.Linkat(from.fd, target, parent.fd, base, 0) })
}

func (u *unpacker) fifo(parent *dir, base string, m meta) error {
	err := u.replace(parent, base, func() error { return unix.Mknodat(parent.fd, base, unix.S_IFIFO|0o600, 0) })
	if err != nil {
		return wrap("make the FIFO", err)
	}
	if err := u.setName(parent, base, m); err != nil {
		return err
	}
	// The name is a FIFO that was made just now, so there is no link to follow.
	return wrap("set the mode", unix.Fchmodat(parent.fd, base, m.mode, 0))
}
