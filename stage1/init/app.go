package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/internal/rlimit"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/cgroup"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// app is one app of the pod.
type app struct {
	plan    *plan.App
	cgroups []cgroup.Hierarchy
	place   *cgroup.Place
	id      identity
	filter  []byte // compiled system call filter, or nil

	alone        bool         // the only app of the pod
	overlay      *linux.Mount // its root, until it is attached
	mnt          int          // its mount namespace
	pts          int          // the root of its devpts
	cgroupMounts []cgroupMount
	cgroupFlags  uintptr

	// Of the main process, once it was started. pidfd is -1 before.
	pid, pidfd int
	status     pod.AppStatus
}

// newApp opens what is only in sight before the host's files are left.
// scratch is a directory to mount on.
func newApp(p *plan.App, cgroups []cgroup.Hierarchy, scratch string) (*app, error) {
	a := &app{plan: p, cgroups: cgroups, mnt: -1, pts: -1, pidfd: -1, status: pod.AppStatus{State: pod.AppWaiting}}
	var err error
	if a.place, err = cgroup.Open(cgroups, p.Name); err != nil {
		return nil, err
	}
	overlay := linux.Overlay{
		Name: "rkt-" + p.Name, Lower: p.Lower,
		Upper: p.Dir + "/" + pod.UpperDir, Work: p.Dir + "/" + pod.WorkDir,
		Attr: unix.MOUNT_ATTR_NODEV,
	}
	if a.overlay, err = overlay.Mount(scratch); err != nil {
		return nil, fmt.Errorf("mount root: %w", err)
	}
	if p.Filter == "" {
		return a, nil
	}
	if a.filter, err = os.ReadFile(p.Filter); err != nil {
		return nil, fmt.Errorf("read system call filter: %w", err)
	}
	if len(a.filter) == 0 || len(a.filter)%int(unsafe.Sizeof(unix.SockFilter{})) != 0 {
		return nil, fmt.Errorf("read system call filter %q: its size %d is not that of a filter", p.Filter, len(a.filter))
	}
	return a, nil
}

// script is a process in the app's context: the same for the app's own process
// and for every one that enters later. stdio are descriptors above
// those of stdio. With tty, stdin becomes the controlling terminal.
//
// The order matters. What needs the host's or init's things comes first; then
// all descriptors but stdio are closed, before any path of the app is used
// (CVE-2024-21626); rights go in the order in which giving one up needs the
// next; the system call filter is last, so that it need allow nothing but
// execve.
func (a *app) script(args, env []string, stdio [3]int, tty bool) *linux.Script {
	p := &a.plan.Process
	s := linux.NewScript(0)
	a.joinCgroups(s)
	s.Call("start session", unix.SYS_SETSID)
	s.Call("enter mount namespace", unix.SYS_SETNS, uintptr(a.mnt), unix.CLONE_NEWNS)
	a.enterCgroupNamespace(s)
	for i, fd := range stdio {
		s.Call("arrange stdio", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	if tty {
		s.Call("take terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	s.CloseFrom(3, 0)
	a.limits(s)
	s.Call("set umask", unix.SYS_UMASK, 0o022)
	s.DropBounding(p.Caps.Bounding)
	if a.id.uid != 0 {
		s.Call("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	}
	a.identify(s)
	s.SetCaps(p.Caps)
	s.Call(fmt.Sprintf("change to working directory %q", p.Cwd), unix.SYS_CHDIR, s.Str(p.Cwd))
	if p.NoNewPrivs {
		s.Call("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	s.Unblock()
	if a.filter != nil {
		n := len(a.filter) / int(unsafe.Sizeof(unix.SockFilter{}))
		prog := &unix.SockFprog{Len: uint16(n), Filter: (*unix.SockFilter)(unsafe.Pointer(&a.filter[0]))}
		s.Call("load system call filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, linux.Ptr(s, prog))
	}
	for _, path := range candidates(args[0], env) {
		s.Exec(path, args, env)
	}
	return s
}

// limits sets the limits asked for, and gives back the limit on open files
// that init's own caller had.
func (a *app) limits(s *linux.Script) {
	set := func(resource int, l rlimit.Limit) {
		s.Call(fmt.Sprintf("set resource limit %d to %d:%d", resource, l.Soft, l.Hard),
			unix.SYS_PRLIMIT64, 0, uintptr(resource), linux.Ptr(s, &l), 0)
	}
	nofile := true
	for _, r := range a.plan.Process.Rlimits {
		set(r.Resource, r.Limit)
		nofile = nofile && r.Resource != unix.RLIMIT_NOFILE
	}
	if nofile {
		set(unix.RLIMIT_NOFILE, rlimit.NoFile)
	}
}

func (a *app) identify(s *linux.Script) {
	groups := uintptr(0)
	if len(a.id.groups) > 0 {
		groups = linux.Ptr(s, &a.id.groups[0])
	}
	uid, gid := uintptr(a.id.uid), uintptr(a.id.gid)
	s.Call("set supplementary groups", unix.SYS_SETGROUPS, uintptr(len(a.id.groups)), groups)
	s.Call("set group", unix.SYS_SETRESGID, gid, gid, gid)
	s.Call("set user", unix.SYS_SETRESUID, uid, uid, uid)
}

// environment is the app's with more, which replaces what it has, and with
// what follows from the user, which does not.
func (a *app) environment(more []string) []string {
	env := append([]string{}, a.plan.Process.Env...)
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		env = append(without(env, name), kv)
	}
	byUser := []string{"HOME=" + a.id.home}
	if a.id.name != "" {
		byUser = append(byUser, "USER="+a.id.name, "LOGNAME="+a.id.name)
	}
	for _, kv := range byUser {
		if name, _, _ := strings.Cut(kv, "="); !has(env, name) {
			env = append(env, kv)
		}
	}
	return env
}

func has(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

func lookup(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

func without(env []string, name string) []string {
	var rest []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, name+"=") {
			rest = append(rest, kv)
		}
	}
	return rest
}

// candidates are the paths to try for a command, as execvp(3) does with the
// app's own PATH. They are resolved in the app's root, by the kernel.
func candidates(command string, env []string) []string {
	if strings.Contains(command, "/") {
		return []string{command}
	}
	var list []string
	for dir := range strings.SplitSeq(lookup(env, "PATH"), ":") {
		if dir != "" {
			list = append(list, strings.TrimSuffix(dir, "/")+"/"+command)
		}
	}
	if len(list) == 0 {
		list = append(list, "/"+command)
	}
	return list
}

// explain turns what a script reports into a sentence about the app.
func explain(args []string, err error) error {
	var exec *linux.ExecError
	if !errors.As(err, &exec) {
		return err
	}
	switch exec.Err {
	case unix.ENOENT:
		return fmt.Errorf("execute %q: no such file in the image, or its interpreter or loader is not there", args[0])
	case unix.EACCES:
		return fmt.Errorf("execute %q: permission denied, it is not an executable file for this user", args[0])
	case unix.ENOEXEC:
		return fmt.Errorf("execute %q: not a program for this machine, or a script without a first line that names its interpreter", args[0])
	case unix.E2BIG:
		return fmt.Errorf("execute %q: arguments and environment are too large", args[0])
	}
	return fmt.Errorf("execute %q: %w", args[0], exec.Err)
}
