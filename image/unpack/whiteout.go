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
		parent, err := u.parent(up)
		if err != nil {
			return true, err
		}
		u.stats.Whiteouts++
		return true, setOpaque(parent.fd)
	case strings.HasPrefix(base, metaPrefix):
		return true, nil
	case !strings.HasPrefix(base, whiteoutPrefix):
		return false, nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return true, fmt.Errorf("a whiteout of %q hides nothing that a layer can contain", hidden)
	}
	parent, err := u.parent(up)
	if err != nil {
		return true, err
	}
	u.stats.Whiteouts++
	return true, hide(parent.fd, hidden)
}

// hide makes a whiteout unless the layer itself has the name: then a file
// already hides what is below it, and a directory must be opaque to do so.
func hide(parent int, name string) error {
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
	return setOpaque(fd)
}

func setOpaque(fd int) error {
	return wrap("make the directory opaque", unix.Fsetxattr(fd, opaqueXattr, []byte("y"), 0))
}

// isWhiteout tells the node that hides a name of the lower layers.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isOpaque(fd int) (bool, error) {
	var value [2]byte
	n, err := unix.Fgetxattr(fd, opaqueXattr, value[:])
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	return err == nil && n == 1 && value[0] == 'y', err
}

// wrap says what failed, and nothing when nothing did.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
