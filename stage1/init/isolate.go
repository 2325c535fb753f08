package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// isolate gives an app its own mount namespace, and resolves its user there,
// before any process of the app has run.
//
// The namespace is a copy of init's, with the app's root attached on top of its
// root, where setns(2) enters it. What is below is init's root without the
// devices: an empty directory, read-only, which even an app with every
// capability gains nothing from.
//
// It works on a thread of its own, which ends with it.
func (a *app) isolate() error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread has left our namespace, so it must end
		// with this goroutine.
		runtime.LockOSThread()
		done <- a.isolateThread()
	}()
	return <-done
}

func (a *app) isolateThread() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	at, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	defer unix.Close(at)
	if err := a.overlay.AttachTo(at); err != nil {
		return err
	}
	root := linux.RootAt(a.overlay.FD())
	defer root.Close()
	if a.id, err = resolve(root, a.plan.User, a.plan.Groups); err != nil {
		return err
	}
	for i := range a.plan.Mounts {
		m := &a.plan.Mounts[i]
		if err := a.mount(root, m); err != nil {
			return fmt.Errorf("mount %s on %q: %w", m.Type, m.Target, err)
		}
	}
	for _, p := range a.plan.ReadOnlys {
		if err := makeReadOnly(root, p); err != nil {
			return fmt.Errorf("make %q read-only: %w", p, err)
		}
	}
	if err := mask(root, a.plan.Masked); err != nil {
		return err
	}
	// As other runtimes do: a working directory that the image lacks is made.
	if fd, err := root.MkdirAll(a.plan.Process.Cwd); err == nil {
		unix.Close(fd)
	}
	if err := unix.Unmount(devicesDir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave devices: %w", err)
	}
	if a.plan.ReadOnly {
		if err := linux.SetAttrAt(root.FD(), "", unix.MOUNT_ATTR_RDONLY, 0, 0, false); err != nil {
			return fmt.Errorf("make root read-only: %w", err)
		}
	}
	return nil
}

// mount makes one mount of the plan. The target must not be reached through a
// symbolic link: the image says what is in its root, and a link in place of
// /proc or /dev would lead what we write astray (CVE-2019-19921,
// CVE-2026-41579).
func (a *app) mount(root *linux.Root, m *plan.Mount) error {
	target, err := root.OpenPlain(m.Target, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		var made int
		if made, err = root.MkdirAll(m.Target); err == nil {
			unix.Close(made)
			target, err = root.OpenPlain(m.Target, unix.O_PATH|unix.O_DIRECTORY)
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return errors.New("the image has a symbolic link there, which is refused; it must be a directory or missing")
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if m.Type == "cgroup" {
		return a.mountCgroups(target, m)
	}
	mnt, err := linux.NewMount(m.Type, m.Source, m.Options, m.Attr)
	if err != nil {
		return err
	}
	defer mnt.Close()
	if err := mnt.AttachTo(target); err != nil {
		return err
	}
	switch {
	case m.Type == "proc":
		if a.mnt, err = unix.Openat(mnt.FD(), "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open mount namespace: %w", err)
		}
	case m.Type == "devpts":
		if a.pts, err = unix.FcntlInt(uintptr(mnt.FD()), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	case m.Target == "/dev":
		return populateDev(mnt.FD())
	}
	return nil
}

// devLinks are the links in /dev that programs expect
// (runtime-linux.md#dev-symbolic-links).
var devLinks = []struct{ name, target string }{
	{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
}

func populateDev(dev int) error {
	for _, l := range devLinks {
		if err := unix.Symlinkat(l.target, dev, l.name); err != nil {
			return fmt.Errorf("link %s: %w", l.name, err)
		}
	}
	for _, d := range devices {
		if err := bindDevice(dev, d.name); err != nil {
			return fmt.Errorf("make device %s: %w", d.name, err)
		}
	}
	return nil
}

func bindDevice(dev int, name string) error {
	fd, err := unix.Openat(dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	unix.Close(fd)
	if fd, err = unix.Openat(dev, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	defer unix.Close(fd)
	node, err := linux.Clone(unix.AT_FDCWD, path.Join(devicesDir, name), false)
	if err != nil {
		return err
	}
	defer node.Close()
	return node.AttachTo(fd)
}

// makeReadOnly binds a path onto itself without the right to write. What is
// not there needs no protection.
func makeReadOnly(root *linux.Root, name string) error {
	fd, err := root.Open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	m, err := linux.Clone(fd, "", true)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.SetAttr(unix.MOUNT_ATTR_RDONLY, 0, 0, true); err != nil {
		return err
	}
	return m.AttachTo(fd)
}

// mask hides paths: files behind the null device, directories behind an empty
// read-only file system. The null device is our own, not one
// that the image could have replaced (CVE-2025-31133).
func mask(root *linux.Root, names []string) error {
	for _, name := range names {
		fd, err := root.Open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("mask %q: %w", name, err)
		}
		err = maskOne(fd)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("mask %q: %w", name, err)
		}
	}
	return nil
}

func maskOne(target int) error {
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		null, err := linux.Clone(unix.AT_FDCWD, devicesDir+"/null", false)
		if err != nil {
			return err
		}
		defer null.Close()
		return null.AttachTo(target)
	}
	attr := unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	m, err := linux.NewMount("tmpfs", "rkt-mask", []linux.Option{{Key: "mode", Value: "0555"}, {Key: "size", Value: "0"}}, attr)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.AttachTo(target)
}
