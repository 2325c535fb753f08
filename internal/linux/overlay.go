package linux

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Overlay is an overlayfs to be: a writable layer on top of others, all
// absolute paths. Marks of deleted files are in user.overlay (mount option
// userxattr), and nothing waits for the writable layer to reach the disk
// (mount option volatile): see Documentation/filesystems/overlayfs.rst of the
// kernel for both.
type Overlay struct {
	Name        string
	Lower       []string // uppermost first
	Upper, Work string
	Attr        int // MOUNT_ATTR_…
}

// Mount makes the file system. Kernels before 6.7 cannot be given layers one by
// one; for these it is mounted on some directory of a private mount
// namespace, scratch, and taken from there again.
func (o *Overlay) Mount(scratch string) (*Mount, error) {
	opts := make([]Option, 0, len(o.Lower)+4)
	for _, l := range o.Lower {
		opts = append(opts, Option{Key: "lowerdir+", Value: l})
	}
	opts = append(opts, Option{Key: "upperdir", Value: o.Upper}, Option{Key: "workdir", Value: o.Work},
		Option{Key: "userxattr", Flag: true}, Option{Key: "volatile", Flag: true})
	m, err := NewMount("overlay", o.Name, opts, o.Attr)
	if !errors.Is(err, unix.EINVAL) {
		return m, err
	}
	if m, oldErr := o.mountOld(scratch); oldErr == nil {
		return m, nil
	}
	return nil, err // it has the kernel's own words, if there are any
}

// escape protects what separates layers and mount options.
var escape = strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)

// data are the mount options for mount(2), and the directory that they are
// relative to, which keeps them short: they must fit a page.
func (o *Overlay) data() (dir, text string, err error) {
	dir = path.Dir(o.Lower[0])
	lower := make([]string, len(o.Lower))
	for i, l := range o.Lower {
		if lower[i] = escape.Replace(path.Base(l)); path.Dir(l) != dir {
			dir = "/"
		}
	}
	if dir == "/" {
		for i, l := range o.Lower {
			lower[i] = escape.Replace(l)
		}
	}
	text = "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + escape.Replace(o.Upper) +
		",workdir=" + escape.Replace(o.Work) + ",userxattr,volatile"
	if len(text) >= os.Getpagesize() {
		return "", "", fmt.Errorf("mount overlay of %d layers: too many for this kernel, Linux 6.7 can do it", len(o.Lower))
	}
	return dir, text, nil
}

func (o *Overlay) mountOld(scratch string) (m *Mount, err error) {
	dir, text, err := o.data()
	if err != nil {
		return nil, err
	}
	here, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	defer unix.Close(here)
	if err := unix.Chdir(dir); err != nil {
		return nil, &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	err = unix.Mount(o.Name, scratch, "overlay", 0, text)
	if backErr := unix.Fchdir(here); err == nil {
		err = backErr
	}
	if err != nil {
		return nil, &os.PathError{Op: "mount overlay on", Path: scratch, Err: err}
	}
	defer func() { err = errors.Join(err, unix.Unmount(scratch, unix.MNT_DETACH)) }()
	if m, err = Clone(unix.AT_FDCWD, scratch, false); err != nil {
		return nil, err
	}
	if err := m.SetAttr(uint64(o.Attr), 0, 0, false); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}
