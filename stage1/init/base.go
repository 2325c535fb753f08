package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// Places in init's own root, which nobody else sees.
const (
	appsDir    = "/app" // /app/<name>: an app's root, until it is moved into the app's namespace
	devicesDir = "/dev" // the only device nodes of the pod that can be opened
)

// devices that every app gets, <runtime-spec/config-linux.md#default-devices>.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// buildBase mounts the apps' roots while the host's files are in sight, and
// then leaves them for an own, nearly empty root.
//
// All mounts are made private first: nothing done in the pod can propagate to
// the host, and no unmount can reach it.
func buildBase(p *plan.Pod) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	base, err := linux.NewMount("tmpfs", "rkt", []linux.Option{{Key: "mode", Value: "0700"}, {Key: "size", Value: "1m"}},
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer base.Close()
	at, err := unix.Open(p.Base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: p.Base, Err: err}
	}
	defer unix.Close(at)
	if err := base.AttachTo(at); err != nil {
		return err
	}
	for _, dir := range []string{appsDir, devicesDir} {
		if err := unix.Mkdirat(base.FD(), dir[1:], 0o700); err != nil {
			return os.NewSyscallError("mkdirat", err)
		}
	}
	for i := range p.Apps {
		if err := mountOverlay(base.FD(), &p.Apps[i]); err != nil {
			return fmt.Errorf("mount root of app %q: %w", p.Apps[i].Name, err)
		}
	}
	if err := makeDevices(base.FD()); err != nil {
		return fmt.Errorf("make devices: %w", err)
	}
	return pivot(base.FD())
}

// mountOverlay stacks an app's writable layer on its image.
func mountOverlay(base int, a *plan.App) error {
	opts := make([]linux.Option, 0, len(a.Lower)+5)
	for _, l := range a.Lower {
		opts = append(opts, linux.Option{Key: "lowerdir+", Value: l})
	}
	opts = append(opts,
		linux.Option{Key: "upperdir", Value: a.Dir + "/upper"},
		linux.Option{Key: "workdir", Value: a.Dir + "/work"},
		// Layers are unpacked without CAP_SYS_ADMIN, so that their marks are
		// in user.overlay.
		linux.Option{Key: "userxattr", Flag: true},
		// Nothing reads the writable layer after a power cut: a pod runs once.
		// So nothing has to wait for it to reach the disk, which every unmount
		// would otherwise do.
		linux.Option{Key: "volatile", Flag: true},
	)
	m, err := linux.NewMount("overlay", "rkt-"+a.Name, opts, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer m.Close()
	dir := appsDir[1:] + "/" + a.Name
	if err := unix.Mkdirat(base, dir, 0o700); err != nil {
		return os.NewSyscallError("mkdirat", err)
	}
	at, err := unix.Openat(base, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(at)
	return m.AttachTo(at)
}

// makeDevices makes the device nodes on a file system of their own, the only
// one whose nodes can be opened. Apps get bind mounts of them.
func makeDevices(base int) error {
	m, err := linux.NewMount("tmpfs", "rkt-dev", []linux.Option{{Key: "mode", Value: "0755"}, {Key: "size", Value: "64k"}},
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer m.Close()
	at, err := unix.Openat(base, devicesDir[1:], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(at)
	if err := m.AttachTo(at); err != nil {
		return err
	}
	for _, d := range devices {
		if err := unix.Mknodat(m.FD(), d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make device %s: %w", d.name, err)
		}
	}
	return nil
}

// pivot makes the directory the root of the calling thread's mount namespace
// and lets go of everything else (pivot_root(2), "pivot_root(".", ".")").
func pivot(dir int) error {
	if err := unix.Fchdir(dir); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount2", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}
