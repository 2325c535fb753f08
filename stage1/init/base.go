package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// devicesDir, in init's own root, has the only device nodes of the pod that can
// be opened.
const devicesDir = "/dev"

// devices that every app gets, <runtime-spec/config-linux.md#default-devices>.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// makePrivate comes before any mount: nothing done in the pod can propagate to
// the host, and no unmount can reach it.
func makePrivate() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// leaveHost gives init an own root, which is empty but for devices. Afterwards
// no file of the host can be named in the pod.
func leaveHost(p *plan.Pod) error {
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
	if err := makeDevices(base.FD()); err != nil {
		return fmt.Errorf("make devices: %w", err)
	}
	return pivot(base.FD())
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
	if err := unix.Mkdirat(base, devicesDir[1:], 0o700); err != nil {
		return os.NewSyscallError("mkdirat", err)
	}
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
// and lets go of everything else (pivot_root(2), "pivot_root(".", ".")"). The
// kernel looks at every thread of the host for that, so it is done once a pod.
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
