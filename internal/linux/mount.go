package linux

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Mount is a detached mount: it has no place in any mount namespace until
// it is attached, and vanishes when it is closed before.
type Mount struct{ fd int }

// Option is a file system's own parameter; a Flag has no value.
type Option struct {
	Key, Value string
	Flag       bool
}

// NewMount makes a file system instance with the new mount API
// (fsopen(2), fsconfig(2), fsmount(2)). attr are MOUNT_ATTR_… bits.
func NewMount(fstype, source string, opts []Option, attr int) (*Mount, error) {
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open file system %s: %w", fstype, err)
	}
	defer unix.Close(ctx)
	if source != "" {
		if err := unix.FsconfigSetString(ctx, "source", source); err != nil {
			return nil, fmt.Errorf("set source of %s: %w", fstype, reason(ctx, err))
		}
	}
	for _, o := range opts {
		if o.Flag {
			err = unix.FsconfigSetFlag(ctx, o.Key)
		} else {
			err = unix.FsconfigSetString(ctx, o.Key, o.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("set option %s=%s of %s: %w", o.Key, o.Value, fstype, reason(ctx, err))
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("create file system %s: %w", fstype, reason(ctx, err))
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, fmt.Errorf("mount file system %s: %w", fstype, err)
	}
	return &Mount{fd}, nil
}

// reason adds the kernel's own words, which a file system context keeps as a
// queue of messages "e …", to an error.
func reason(ctx int, err error) error {
	buf := make([]byte, 1024)
	n, rerr := unix.Read(ctx, buf)
	if rerr != nil || n < 3 {
		return err
	}
	for n > 2 && buf[n-1] == '\n' {
		n--
	}
	return fmt.Errorf("%w (%s)", err, buf[2:n])
}

// Clone makes a detached copy of what is mounted at a path below dirfd; with
// recursive, of the mounts below it too.
func Clone(dirfd int, path string, recursive bool) (*Mount, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_SYMLINK_NOFOLLOW)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(dirfd, path, flags)
	if err != nil {
		return nil, fmt.Errorf("clone mount of %q: %w", path, err)
	}
	return &Mount{fd}, nil
}

// SetAttr sets and clears MOUNT_ATTR_… bits, and the propagation type if not 0
// (mount_setattr(2)).
func (m *Mount) SetAttr(set, clear, propagation uint64, recursive bool) error {
	return setAttr(m.fd, "", set, clear, propagation, recursive)
}

// SetAttrAt is SetAttr for what is mounted at a path.
func SetAttrAt(dirfd int, path string, set, clear, propagation uint64, recursive bool) error {
	return setAttr(dirfd, path, set, clear, propagation, recursive)
}

func setAttr(fd int, path string, set, clear, propagation uint64, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := &unix.MountAttr{Attr_set: set, Attr_clr: clear, Propagation: propagation}
	if err := unix.MountSetattr(fd, path, flags, attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	return nil
}

// AttachTo puts the mount on the file or directory open at target.
func (m *Mount) AttachTo(target int) error {
	return os.NewSyscallError("move_mount", unix.MoveMount(m.fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// FD is the root of the mount (as of O_PATH). It belongs to the mount.
func (m *Mount) FD() int { return m.fd }

// Close gives up the descriptor, and the mount too if it is not attached.
func (m *Mount) Close() { unix.Close(m.fd) }
