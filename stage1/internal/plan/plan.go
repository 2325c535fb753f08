// Package plan turns a pod on disk into what stage1 and init are going to do,
// as plain data: no decision is left for the code that performs it.
//
// Make is pure. What it cannot honour it refuses, so that nothing that a
// configuration asks for is silently left out (runtime-spec: "MUST generate an
// error").
package plan

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/internal/rlimit"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/cgroup"
)

// Pod is what init is told. It travels as JSON over a pipe.
type Pod struct {
	UUID     string             `json:"uuid"`
	Hostname string             `json:"hostname"`
	Loopback bool               `json:"loopback,omitempty"` // bring up lo of an own network namespace
	Base     string             `json:"base"`               // an empty directory of the host, to build init's root on
	Terminal bool               `json:"terminal,omitempty"`
	Cgroups  []cgroup.Hierarchy `json:"cgroups"`
	Apps     []App              `json:"apps"`
}

// App is one app: its root, what is mounted on it, and its process.
type App struct {
	Name        string   `json:"name"`
	Dir         string   `json:"dir"`   // apps/<name>, absolute
	Lower       []string `json:"lower"` // layers, uppermost first, absolute
	ReadOnly    bool     `json:"readOnly,omitempty"`
	Mounts      []Mount  `json:"mounts"`
	Masked      []string `json:"masked,omitempty"`
	ReadOnlys   []string `json:"readOnlyPaths,omitempty"`
	Process     Process  `json:"process"`
	Filter      string   `json:"filter,omitempty"` // compiled seccomp filter, absolute
	User        string   `json:"user"`
	Groups      []uint32 `json:"groups,omitempty"`
	StopSignal  int      `json:"stopSignal"`
	StopTimeout int      `json:"stopTimeout"` // seconds
}

// Mount is one mount inside an app's root, in the order in which they are
// made.
type Mount struct {
	Type    string         `json:"type"`
	Source  string         `json:"source,omitempty"`
	Target  string         `json:"target"`
	Options []linux.Option `json:"options,omitempty"`
	Attr    int            `json:"attr,omitempty"` // MOUNT_ATTR_…
}

// Process is how a process of an app is started: the app itself, and every
// process that enters it.
type Process struct {
	Args       []string   `json:"args"`
	Env        []string   `json:"env"`
	Cwd        string     `json:"cwd"`
	Terminal   bool       `json:"terminal,omitempty"`
	Caps       linux.Caps `json:"caps"`
	NoNewPrivs bool       `json:"noNewPrivs,omitempty"`
	Rlimits    []Rlimit   `json:"rlimits,omitempty"`
}

// Rlimit is one resource limit, setrlimit(2).
type Rlimit struct {
	Resource int `json:"resource"`
	rlimit.Limit
}

// Make plans a pod that lives in dir, an absolute path.
func Make(m *pod.Manifest, configs map[string]*Config, dir, base string, cgroups []cgroup.Hierarchy, terminal bool) (*Pod, error) {
	p := &Pod{
		UUID:     m.UUID,
		Hostname: m.Hostname,
		Loopback: m.Net == "none",
		Base:     base,
		Cgroups:  cgroups,
		Terminal: m.Interactive && terminal,
	}
	if p.Terminal && len(m.Apps) != 1 {
		return nil, fmt.Errorf("plan pod %s: a terminal needs exactly one app, the pod has %d", m.UUID, len(m.Apps))
	}
	for _, a := range m.Apps {
		c, ok := configs[a.Name]
		if !ok {
			return nil, fmt.Errorf("plan app %q: it has no %s", a.Name, pod.ConfigFile)
		}
		if err := checkNamespaces(c.Linux.Namespaces, m); err != nil {
			return nil, fmt.Errorf("plan app %q: %w", a.Name, err)
		}
		app, err := makeApp(&a, c, dir)
		if err != nil {
			return nil, fmt.Errorf("plan app %q: %w", a.Name, err)
		}
		app.Process.Terminal = p.Terminal
		p.Apps = append(p.Apps, *app)
	}
	return p, nil
}

func makeApp(a *pod.App, c *Config, dir string) (*App, error) {
	app := &App{
		Name: a.Name, Dir: path.Join(dir, pod.AppsDir, a.Name), Lower: a.Lower,
		ReadOnly: c.Root.Readonly,
		Masked:   c.Linux.MaskedPaths, ReadOnlys: c.Linux.ReadonlyPaths,
		User: a.User, Groups: a.SupplementaryGroups,
		StopSignal:  signalNumber(a.StopSignal),
		StopTimeout: a.StopTimeout,
	}
	if app.StopSignal == 0 {
		return nil, fmt.Errorf("stop signal %q is unknown", a.StopSignal)
	}
	if len(a.Lower) == 0 {
		return nil, fmt.Errorf("image %s has no layers", a.Image.Name)
	}
	if len(c.Linux.Seccomp) > 0 {
		app.Filter = path.Join(app.Dir, pod.FilterFile)
	}
	for _, m := range c.Mounts {
		mount, err := makeMount(m)
		if err != nil {
			return nil, err
		}
		app.Mounts = append(app.Mounts, mount)
	}
	return app, makeProcess(&app.Process, c.Process)
}

// signalNumber reads the name of a signal, or the number of one without a name
// (real-time signals). It is 0 for what is neither.
func signalNumber(s string) int {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= 64 {
		return n
	}
	return int(unix.SignalNum(s))
}

func makeProcess(p *Process, c *ConfigProcess) error {
	if len(c.Args) == 0 {
		return fmt.Errorf("there is nothing to execute: the image has no entrypoint, and none was given with --exec")
	}
	p.Args, p.Env, p.Cwd, p.NoNewPrivs = c.Args, c.Env, c.Cwd, c.NoNewPrivileges
	for _, set := range []struct {
		to   *linux.CapSet
		from []string
	}{
		{&p.Caps.Bounding, c.Capabilities.Bounding}, {&p.Caps.Effective, c.Capabilities.Effective},
		{&p.Caps.Permitted, c.Capabilities.Permitted}, {&p.Caps.Inheritable, c.Capabilities.Inheritable},
		{&p.Caps.Ambient, c.Capabilities.Ambient},
	} {
		var err error
		if *set.to, err = linux.ParseCaps(set.from); err != nil {
			return err
		}
	}
	for _, r := range c.Rlimits {
		n, ok := linux.Rlimits[r.Type]
		if !ok {
			return fmt.Errorf("resource limit %q is unknown", r.Type)
		}
		p.Rlimits = append(p.Rlimits, Rlimit{n, rlimit.Limit{Soft: r.Soft, Hard: r.Hard}})
	}
	return nil
}

// flags are the mount options of fstab(5) that belong to the mount and not to
// the file system.
var flags = map[string]int{
	"ro": unix.MOUNT_ATTR_RDONLY, "rw": 0,
	"nosuid": unix.MOUNT_ATTR_NOSUID, "suid": 0,
	"nodev": unix.MOUNT_ATTR_NODEV, "dev": 0,
	"noexec": unix.MOUNT_ATTR_NOEXEC, "exec": 0,
	"relatime": unix.MOUNT_ATTR_RELATIME, "noatime": unix.MOUNT_ATTR_NOATIME, "strictatime": unix.MOUNT_ATTR_STRICTATIME,
}

// types are the file systems that init mounts for an app. None of them reads
// data that the app could have made (CVE-2023-30549).
var types = map[string]bool{
	"proc": true, "sysfs": true, "tmpfs": true, "devpts": true, "mqueue": true, "cgroup": true,
}

func makeMount(m ConfigMount) (Mount, error) {
	if !types[m.Type] {
		return Mount{}, fmt.Errorf("mount on %q: file systems of type %q are not supported", m.Destination, m.Type)
	}
	if !path.IsAbs(m.Destination) || path.Clean(m.Destination) != m.Destination || m.Destination == "/" {
		return Mount{}, fmt.Errorf("mount on %q: the path must be absolute, clean, and not the root", m.Destination)
	}
	out := Mount{Type: m.Type, Source: m.Source, Target: m.Destination}
	for _, o := range m.Options {
		if attr, ok := flags[o]; ok {
			out.Attr |= attr
			continue
		}
		key, value, has := strings.Cut(o, "=")
		out.Options = append(out.Options, linux.Option{Key: key, Value: value, Flag: !has})
	}
	// Devices only come from init's own list (CAP_MKNOD is a default
	// capability), and from devpts, in which nobody can make any.
	if m.Type != "devpts" {
		out.Attr |= unix.MOUNT_ATTR_NODEV
	}
	return out, nil
}
