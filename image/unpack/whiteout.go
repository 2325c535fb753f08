package unpack

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // AUFS kept its own files under such names
	opaqueMarker   = ".wh..wh..opq"

	opaqueXattr = "user.overlay.opaque"
	// impliedXattr marks a directory that the layer has no entry for. Where a
	// lower layer has one, its owner, mode and times are meant. Overlayfs hides
	// every attribute of this prefix, and ignores those that it does not know.
	impliedXattr = "user.overlay.rkt.implied"
)

// whiteout applies a name that hides something of the lower layers. It reports
// false for a name that is none. A whiteout never touches what its own layer
// contains, whichever of the two comes first in the archive.
func (u *unpacker) whiteout(name string) (done bool, err error) {
	if !strings.Contains(name, whiteoutPrefix) {
		return false, nil
	}
	up, base := split(name)
	for part := range strings.SplitSeq(up, "/") {
		if strings.HasPrefix(part, metaPrefix) {
			return true, nil
		}
	}
	switch {
	case base == opaqueMarker:
	case strings.HasPrefix(base, metaPrefix):
		return true, nil
	case !strings.HasPrefix(base, whiteoutPrefix):
		return false, nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return true, fmt.Errorf("a whiteout of %q hides nothing that a layer can contain", hidden)
	}
	u.stats.Whiteouts++
	parent, err := u.hidingParent(up)
	if parent == nil || err != nil {
		return true, err
	}
	if base == opaqueMarker {
		return true, makeOpaque(parent.fd)
	}
	return true, hide(parent.fd, hidden)
}

// hidingParent opens or makes the directory of a whiteout. It returns nil when
// the layer has something else in its place, even a symbolic link to another
// directory: that already hides what is meant.
func (u *unpacker) hidingParent(path string) (*dir, error) {
	d, err := u.tree.lookup(path)
	switch {
	case err == nil && d.linked, errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, nil
	case err == nil:
		return d, nil
	case !errors.Is(err, unix.ENOENT):
		return nil, explain(path, err)
	}
	up, base := split(path)
	above, err := u.hidingParent(up)
	if above == nil || err != nil {
		return nil, err
	}
	d, err = u.mkdir(above, base, path, false)
	if errors.Is(err, unix.EEXIST) { // a symbolic link to nowhere
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make parent %s: %w", quote(path), err)
	}
	return d, u.imply(d, path)
}

// hide makes a whiteout unless the layer itself has the name: then a file
// already hides what is below it, and a directory must be opaque to do so. In
// an opaque directory there is nothing left to hide, and overlayfs, which has
// nothing to merge there, would list the whiteout.
func hide(parent int, name string) error {
	if opaque, err := isOpaque(parent); opaque || err != nil {
		return err
	}
	err := unix.Mknodat(parent, name, unix.S_IFCHR, 0)
	if !errors.Is(err, unix.EEXIST) {
		return wrap("make a whiteout", err)
	}
	fd, err := openDir(parent, name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return makeOpaque(fd)
}

// makeOpaque marks a directory that may have entries. Its whiteouts go.
func makeOpaque(fd int) error {
	if opaque, err := isOpaque(fd); opaque || err != nil {
		return err
	}
	names, err := list(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if isWhiteout(&st) {
			if err := unix.Unlinkat(fd, name, 0); err != nil {
				return err
			}
		}
	}
	return setOpaque(fd)
}

func setOpaque(fd int) error {
	return wrap("make the directory opaque", unix.Fsetxattr(fd, opaqueXattr, []byte("y"), 0))
}

// isWhiteout tells the node that hides a name of the lower layers.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isOpaque(fd int) (bool, error)  { return marked(fd, opaqueXattr) }
func isImplied(fd int) (bool, error) { return marked(fd, impliedXattr) }

// marked reports whether a directory has an attribute with the value "y".
func marked(fd int, name string) (bool, error) {
	var value [2]byte
	n, err := unix.Fgetxattr(fd, name, value[:])
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ERANGE) {
		return false, nil
	}
	return err == nil && n == 1 && value[0] == 'y', err
}

// imply gives a directory that was made without an entry what lies nearest.
func (u *unpacker) imply(d *dir, path string) error {
	err := unix.Fsetxattr(d.fd, impliedXattr, []byte("y"), 0)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return wrap("mark the directory", err)
	}
	return u.setDir(d, path, meta{mode: 0o755, uid: u.tree.uid, gid: u.tree.gid})
}

// express undoes imply when there is an entry after all.
func express(d *dir) error {
	err := unix.Fremovexattr(d.fd, impliedXattr)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return wrap("unmark the directory", err)
}

// wrap says what failed, and nothing when nothing did.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
