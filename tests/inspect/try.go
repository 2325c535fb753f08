package main

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// attempts are the things that a pod must not be able to do, each through the
// call that would do it. None of them harms a host that lets it happen: files
// are opened and not written, and the worst calls get arguments that the kernel
// refuses after it has checked the right to call.
func attempts() map[string]func() error {
	return map[string]func() error{
		"mount":         func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
		"unshare-user":  func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"unshare-mount": func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		"read-memory":   readMemory,
		"sethostname":   func() error { return unix.Sethostname([]byte("taken")) },
		"ptrace-init":   func() error { return unix.PtraceAttach(1) },
		"use-chroot":    func() error { return unix.Chroot("/tmp") }, // the last one: later paths would be below it
		"write-root":    func() error { return os.WriteFile("/written", []byte("x"), 0o600) },
		"write-sysctl":  func() error { return open("/proc/sys/kernel/core_pattern", unix.O_WRONLY) },
		"write-sysrq":   func() error { return open("/proc/sysrq-trigger", unix.O_WRONLY) },
		"write-cgroup": func() error {
			return openFirst(unix.O_WRONLY, "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs")
		},
		"write-sysfs":    func() error { return open("/sys/kernel/mm/transparent_hugepage/enabled", unix.O_WRONLY) },
		"read-kcore":     func() error { return read("/proc/kcore") },
		"read-keys":      func() error { return read("/proc/keys") },
		"settime":        settime,
		"reboot":         func() error { return raw(unix.SYS_REBOOT) },
		"kexec":          func() error { return raw(unix.SYS_KEXEC_LOAD) },
		"open-by-handle": func() error { return raw(unix.SYS_OPEN_BY_HANDLE_AT) },
		"init-module":    func() error { return raw(unix.SYS_INIT_MODULE) },
		"keyctl":         func() error { return raw(unix.SYS_KEYCTL) },
		"bpf":            func() error { return raw(unix.SYS_BPF) },
		"setns":          func() error { return raw(unix.SYS_SETNS) },
	}
}

// readMemory makes a node of the machine's memory, which CAP_MKNOD allows, and
// opens it.
func readMemory() error {
	if err := unix.Mknod("/tmp/memory", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return open("/tmp/memory", unix.O_RDONLY)
}

func settime() error {
	var now unix.Timeval
	if err := unix.Gettimeofday(&now); err != nil {
		return err
	}
	return unix.Settimeofday(&now)
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// openFirst opens the first of paths that exists.
func openFirst(flags int, paths ...string) error {
	var err error
	for _, p := range paths {
		if err = open(p, flags); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

// try prints "NAME: done" or "NAME: <why not>"; without a name it tries all.
func try(name string) error {
	all := attempts()
	var names []string
	for n := range all {
		if name == "" || n == name {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("attempt %q is unknown", name)
	}
	sort.Strings(names)
	for _, n := range names {
		outcome := "done"
		if err := all[n](); err != nil {
			outcome = err.Error()
			if at := strings.LastIndex(outcome, ": "); at >= 0 {
				outcome = outcome[at+2:]
			}
		}
		fmt.Printf("%s: %s\n", n, outcome)
	}
	return nil
}

// read is done only if there was something to read: masked files are empty.
func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 16))
	return err
}

// raw calls with -1 in every argument: EPERM or ENOSYS when the caller may not,
// EINVAL, EFAULT or EBADF when it may.
func raw(number uintptr) error {
	const none = ^uintptr(0)
	_, _, errno := unix.RawSyscall6(number, none, none, none, none, none, none)
	if errno != 0 {
		return errno
	}
	return nil
}
