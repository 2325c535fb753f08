package unpack

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// openDirs is how many directories are kept open. Archives are sorted by
	// directory, so the parent of an entry is nearly always among them.
	openDirs = 64
	// scopedRetries bounds the repeats of openat2, which gives up with EAGAIN
	// when something is renamed or mounted anywhere while it resolves "..".
	scopedRetries = 1000
)

// dir is an open directory of the tree. It stays open for as long as the entry
// for which it was looked up is worked on.
type dir struct {
	fd     int
	depth  int    // directories above it, symbolic links resolved
	linked bool   // its path leads through a symbolic link
	gid    uint32 // a new file may inherit it
	used   uint64
}

// tree resolves clean names inside a root directory. A name that was resolved
// once is kept with its descriptor until something was removed from the tree.
type tree struct {
	top   *dir
	open  map[string]*dir
	clock uint64
	stale bool
	depth int // that a directory may have
	uid   uint32
	gid   uint32
}

// openTree borrows root: it must stay open longer than the tree.
func openTree(root *os.File, depth int) (*tree, error) {
	t := &tree{open: map[string]*dir{}, depth: depth, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", root.Name(), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("stat directory %q: %w", root.Name(), err)
	}
	t.top = &dir{fd: fd, gid: st.Gid}
	return t, nil
}

func (t *tree) close() {
	t.forget()
	unix.Close(t.top.fd)
}

// forget closes what is kept.
func (t *tree) forget() {
	for path, d := range t.open {
		unix.Close(d.fd)
		delete(t.open, path)
	}
	t.stale = false
}

// refresh begins a new entry: what was removed by the last one may have been
// a part of the paths that are kept.
func (t *tree) refresh() {
	if t.stale {
		t.forget()
	}
}

// keep takes over d, closing the directory that was used least recently.
func (t *tree) keep(path string, d *dir) *dir {
	if len(t.open) >= openDirs {
		var oldest string
		least := t.clock + 1
		for p, d := range t.open {
			if d.used < least {
				oldest, least = p, d.used
			}
		}
		unix.Close(t.open[oldest].fd)
		delete(t.open, oldest)
	}
	if old := t.open[path]; old != nil {
		unix.Close(old.fd)
	}
	t.clock++
	d.used = t.clock
	t.open[path] = d
	return d
}

// lookup opens the directory that a clean name leads to, "" being the root.
func (t *tree) lookup(path string) (*dir, error) {
	if path == "" {
		return t.top, nil
	}
	if d := t.open[path]; d != nil {
		t.clock++
		d.used = t.clock
		return d, nil
	}
	depth, linked := strings.Count(path, "/")+1, false
	fd, err := t.resolve(path, 0, unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.ELOOP) {
		linked = true
		if fd, err = t.resolve(path, 0, 0); err == nil {
			depth, err = t.measure(fd)
		}
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return t.keep(path, &dir{fd: fd, depth: depth, linked: linked, gid: st.Gid}), nil
}

// measure counts the directories from the root down to fd, which symbolic links
// led to: by them a short name can reach deeper than any long one. It closes fd
// when it fails.
func (t *tree) measure(fd int) (depth int, err error) {
	var root, st unix.Stat_t
	if err := unix.Fstat(t.top.fd, &root); err != nil {
		unix.Close(fd)
		return 0, err
	}
	at := fd
	for ; depth <= t.depth+1; depth++ {
		if err = unix.Fstat(at, &st); err != nil || st.Ino == root.Ino && st.Dev == root.Dev {
			break
		}
		var up int
		up, err = ignoringEINTR(func() (int, error) {
			return unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			break
		}
		if at != fd {
			unix.Close(at)
		}
		at = up
	}
	if at != fd {
		unix.Close(at)
	}
	if err != nil {
		unix.Close(fd)
	}
	return depth, err
}

// resolve opens a directory by a path that the kernel keeps inside the root,
// symbolic links included.
func (t *tree) resolve(path string, flags, how uint64) (int, error) {
	open := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV | how,
	}
	for range scopedRetries {
		fd, err := unix.Openat2(t.top.fd, path, &open)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// parent opens the directory that an entry goes into and makes what is missing
// of it.
func (u *unpacker) parent(path string) (*dir, error) {
	d, err := u.tree.lookup(path)
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return u.makeParent(path, err)
	}
	return nil, explain(path, err)
}

// makeParent makes a directory that is missing, or in whose place there is
// something else than a directory.
func (u *unpacker) makeParent(path string, cause error) (*dir, error) {
	up, base := split(path)
	above, err := u.parent(up)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	replaces := false
	switch err := unix.Fstatat(above.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return nil, explain(path, err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return nil, explain(path, cause)
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return nil, fmt.Errorf("its parent %s is a symbolic link that leads to no directory of the layer", quote(path))
	default:
		replaces = true
		if err := u.tree.remove(above, base); err != nil {
			return nil, explain(path, err)
		}
	}
	d, err := u.mkdir(above, base, path, replaces)
	if err != nil {
		return nil, fmt.Errorf("make parent %s: %w", quote(path), err)
	}
	return d, u.imply(d, path)
}

func explain(path string, err error) error {
	switch {
	case errors.Is(err, unix.ELOOP):
		return fmt.Errorf("its parent %s is a loop of symbolic links", quote(path))
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("its parent %s is a mount point", quote(path))
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("the kernel is too old: openat2 needs Linux 5.6")
	}
	return fmt.Errorf("open parent %s: %w", quote(path), err)
}

// openDir opens a directory by its own name, never through a symbolic link:
// the error is ENOTDIR or ELOOP when there is something else.
func openDir(parent int, name string) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// ignoringEINTR repeats a call that a signal of the Go runtime interrupted.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
