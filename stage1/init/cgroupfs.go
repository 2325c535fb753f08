package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// mountCgroups prepares /sys/fs/cgroup. The cgroup file systems themselves
// show the cgroup namespace of whoever mounts them, so that they are mounted
// by the app's first process, once it is in its cgroup and has made the
// namespace: see joinCgroups. For version 1 this makes the directories.
func (a *app) mountCgroups(target int, m *plan.Mount) error {
	a.cgroupFlags = uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if m.Attr&unix.MOUNT_ATTR_RDONLY != 0 {
		a.cgroupFlags |= unix.MS_RDONLY
	}
	if len(a.cgroups) == 1 && a.cgroups[0].V2 {
		a.cgroupMounts = []cgroupMount{{fstype: "cgroup2", target: m.Target}}
		return nil
	}
	dir, err := linux.NewMount("tmpfs", "rkt-cgroup", []linux.Option{{Key: "mode", Value: "0755"}, {Key: "size", Value: "64k"}},
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, h := range a.cgroups {
		cm := cgroupMount{fstype: "cgroup", data: h.Controllers, target: path.Join(m.Target, path.Base(h.Mount))}
		if h.V2 {
			cm.fstype, cm.data = "cgroup2", ""
		}
		if err := unix.Mkdirat(dir.FD(), path.Base(h.Mount), 0o755); err != nil {
			return os.NewSyscallError("mkdirat", err)
		}
		a.cgroupMounts = append(a.cgroupMounts, cm)
		for c := range strings.SplitSeq(h.Controllers, ",") {
			if c != "" && c != h.Controllers {
				if err := unix.Symlinkat(h.Controllers, dir.FD(), c); err != nil {
					return fmt.Errorf("link %s: %w", c, err)
				}
			}
		}
	}
	if m.Attr&unix.MOUNT_ATTR_RDONLY != 0 {
		if err := dir.SetAttr(unix.MOUNT_ATTR_RDONLY, 0, 0, false); err != nil {
			return err
		}
	}
	return dir.AttachTo(target)
}

// cgroupMount is one mount(2) that the first process of an app makes.
type cgroupMount struct{ fstype, target, data string }

// joinCgroups adds the steps that put a process into its app's cgroups and
// cgroup namespace. The first process makes the namespace, and mounts it; the
// targets are on file systems that are ours, so that their paths are safe.
func (a *app) joinCgroups(s *linux.Script) {
	s.SetCgroup(a.place.V2)
	for _, fd := range a.place.Tasks {
		s.Call("join cgroup", unix.SYS_WRITE, uintptr(fd), s.Str("0"), 1)
	}
}

func (a *app) enterCgroupNamespace(s *linux.Script) {
	if a.pidfd >= 0 {
		s.Call("enter cgroup namespace", unix.SYS_SETNS, uintptr(a.pidfd), unix.CLONE_NEWCGROUP)
		return
	}
	s.Call("make cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	for _, m := range a.cgroupMounts {
		s.Call("mount "+m.target, unix.SYS_MOUNT, s.Str(m.fstype), s.Str(m.target), s.Str(m.fstype), a.cgroupFlags, s.Str(m.data))
	}
}
