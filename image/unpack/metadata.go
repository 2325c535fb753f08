package unpack

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	xattrRecord = "SCHILY.xattr."
	accessACL   = "system.posix_acl_access"
	defaultACL  = "system.posix_acl_default"
)

// meta is what an entry says about its node, checked.
type meta struct {
	mode     uint32
	uid, gid uint32
	atime    time.Time
	mtime    time.Time
	xattrs   []xattr
}

type xattr struct{ name, value string }

func (u *unpacker) meta(h *tar.Header) (meta, error) {
	m := meta{mode: uint32(h.Mode & 0o7777), atime: h.AccessTime, mtime: h.ModTime}
	var err error
	if m.uid, err = id("user", h.Uid); err != nil {
		return m, err
	}
	if m.gid, err = id("group", h.Gid); err != nil {
		return m, err
	}
	size := 0
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok {
			continue
		}
		if size += len(name) + len(value); size > u.limits.Xattrs {
			return m, &LimitError{Limit: "xattrs", Max: int64(u.limits.Xattrs)}
		}
		if !keepXattr(h.Typeflag, name) {
			u.stats.Xattrs++
			continue
		}
		m.xattrs = append(m.xattrs, xattr{name, value})
	}
	return m, nil
}

// id checks a number that the kernel would take modulo 2^32, and of which it
// reads 2^32-1 as "leave it as it is".
func id(what string, n int) (uint32, error) {
	if n < 0 || int64(n) >= math.MaxUint32 {
		return 0, fmt.Errorf("the %s %d is out of range", what, n)
	}
	return uint32(n), nil
}

// keepXattr reports whether an extended attribute is a part of the image: not
// one that steers overlayfs (user.overlay.*, trusted.*) or that belongs to the
// host's security modules.
func keepXattr(flag byte, name string) bool {
	switch flag {
	case tar.TypeDir:
		return kept(name)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return kept(name) && name != defaultACL
	}
	return false
}

func kept(name string) bool {
	switch name {
	case "security.capability", accessACL, defaultACL:
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// times are those of access and of change; an archive seldom has the former.
func (m *meta) times() []unix.Timespec {
	atime := m.atime
	if atime.IsZero() {
		atime = m.mtime
	}
	return []unix.Timespec{timespec(atime), timespec(m.mtime)}
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// inherits reports whether a node that was made in parent has m's owner
// without being told. Its group may be the parent's (set-group-ID, or a mount
// with "grpid").
func (u *unpacker) inherits(parent *dir, m meta) bool {
	return m.uid == u.tree.uid && m.gid == u.tree.gid && parent.gid == u.tree.gid
}

// setNode sets owner, mode and extended attributes of an open file, in the
// order in which one would otherwise undo the other: a change of owner clears
// set-user-ID and security.capability.
func (u *unpacker) setNode(fd int, parent *dir, m meta) error {
	if parent == nil || !u.inherits(parent, m) {
		if err := unix.Fchown(fd, int(m.uid), int(m.gid)); err != nil {
			return owned(m, err)
		}
	}
	if err := unix.Fchmod(fd, m.mode); err != nil {
		return wrap("set the mode", err)
	}
	for _, x := range m.xattrs {
		if x.name == defaultACL {
			continue
		}
		if err := setXattr(fd, x); err != nil {
			return err
		}
	}
	return nil
}

// setName sets owner and time of a node that cannot be opened.
func (u *unpacker) setName(parent *dir, base string, m meta) error {
	if !u.inherits(parent, m) {
		if err := unix.Fchownat(parent.fd, base, int(m.uid), int(m.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return owned(m, err)
		}
	}
	return wrap("set the time", unix.UtimesNanoAt(parent.fd, base, m.times(), unix.AT_SYMLINK_NOFOLLOW))
}

// setDir sets a directory's owner, mode and extended attributes at once, and
// at the end what the making of its entries would change or be changed by.
func (u *unpacker) setDir(d *dir, path string, m meta) error {
	if err := u.setNode(d.fd, nil, m); err != nil {
		return err
	}
	d.gid = m.gid
	return u.dirs.add(path, m)
}

func setXattr(fd int, x xattr) error {
	err := unix.Fsetxattr(fd, x.name, []byte(x.value), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("set extended attribute %s: the file system has none of this kind", quote(x.name))
	}
	return wrap("set extended attribute "+quote(x.name), err)
}

func owned(m meta, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("give the node to user %d and group %d: %w; images can only be unpacked by root", m.uid, m.gid, err)
	}
	return fmt.Errorf("give the node to user %d and group %d: %w", m.uid, m.gid, err)
}

// laterDirs remembers what is set on directories when all entries are there.
type laterDirs struct {
	dirs  map[string]laterDir
	count int
	space int64
	limit int64
}

type laterDir struct {
	order int
	times [2]unix.Timespec
	acl   string
}

func newLaterDirs(limit int64) *laterDirs {
	return &laterDirs{dirs: map[string]laterDir{}, space: limit, limit: limit}
}

func (l *laterDirs) add(path string, m meta) error {
	const each = 128 // of a map's slot
	l.count++
	d := laterDir{order: l.count, times: [2]unix.Timespec(m.times())}
	for _, x := range m.xattrs {
		if x.name == defaultACL {
			d.acl = x.value
		}
	}
	old, again := l.dirs[path]
	l.space += int64(len(old.acl) - len(d.acl))
	if !again {
		l.space -= int64(len(path) + each)
	}
	if l.space < 0 {
		return &LimitError{Limit: "directories", Max: l.limit}
	}
	l.dirs[path] = d
	return nil
}

// apply sets what was remembered, in the order of the archive, as two names may
// lead to one directory. One that a later entry replaced is passed over.
func (l *laterDirs) apply(t *tree) error {
	t.forget()
	paths := slices.SortedFunc(maps.Keys(l.dirs), func(a, b string) int {
		return cmp.Compare(l.dirs[a].order, l.dirs[b].order)
	})
	for _, path := range paths {
		d := l.dirs[path]
		if err := d.apply(t, path); err != nil {
			return fmt.Errorf("entry %s: %w", quote(path), err)
		}
	}
	return nil
}

func (d *laterDir) apply(t *tree, path string) error {
	if path == "" {
		path = "."
	}
	fd, err := t.resolve(path, unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return wrap("open the directory", err)
	}
	defer unix.Close(fd)
	if d.acl != "" {
		if err := setXattr(fd, xattr{defaultACL, d.acl}); err != nil {
			return err
		}
	}
	return wrap("set the time", unix.UtimesNanoAt(fd, ".", d.times[:], 0))
}

// xattrs reads the extended attributes of an open node.
func xattrs(fd int) (map[string]string, error) {
	n, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, wrap("list the extended attributes", err)
	}
	names := make([]byte, 64*kib) // XATTR_LIST_MAX
	if n, err = unix.Flistxattr(fd, names); err != nil {
		return nil, wrap("list the extended attributes", err)
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 64*kib) // XATTR_SIZE_MAX
		size, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", quote(name), err)
		}
		all[name] = string(value[:size])
	}
	return all, nil
}
