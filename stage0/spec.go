package stage0

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/rkt/rkt/pod"
)

// config is config.json of an app: an OCI runtime-spec configuration, with
// linux.seccomp as text, because that part is large and nearly always the
// same.
type config struct {
	*specs.Spec
	Linux *linuxConfig `json:"linux"`
}

type linuxConfig struct {
	*specs.Linux
	Seccomp json.RawMessage `json:"seccomp,omitempty"`
}

// parts are what a configuration is made of that differs between pods.
type parts struct {
	args, env []string
	cwd       string
	user      specs.User
	caps      []string
	seccomp   json.RawMessage // nil: no filter
	readOnly  bool            // the root
	terminal  bool
	hostname  string
	net       string
	openPaths bool // kernel paths are neither masked nor read-only
}

// newConfig writes everything that the runtime-spec has a place for, so that
// another OCI runtime could start the app as well.
func newConfig(p parts) *config {
	c := &config{
		Spec: &specs.Spec{
			Version:  specs.Version,
			Hostname: p.hostname,
			Root:     &specs.Root{Path: "rootfs", Readonly: p.readOnly},
			Mounts:   mounts(p.openPaths),
			Process: &specs.Process{
				Terminal: p.terminal,
				User:     p.user,
				Args:     p.args,
				Env:      p.env,
				Cwd:      p.cwd,
				// execve empties the permitted and the effective set of a
				// process that is not root, as nothing is inheritable.
				Capabilities:    &specs.LinuxCapabilities{Bounding: p.caps, Permitted: p.caps, Effective: p.caps},
				NoNewPrivileges: true,
			},
		},
		Linux: &linuxConfig{
			Linux:   &specs.Linux{Namespaces: namespaces(p.net)},
			Seccomp: p.seccomp,
		},
	}
	if !p.openPaths {
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	return c
}

// text is the file's content. The seccomp profile, which json.Marshal would
// check and copy byte by byte, is put in as it is: linux is the last member of
// the whole, seccomp the last of linux, and neither is ever empty without it.
func (c *config) text() ([]byte, error) {
	linux := linuxConfig{Linux: c.Linux.Linux}
	text, err := json.Marshal(&config{Spec: c.Spec, Linux: &linux})
	if err != nil || c.Linux.Seccomp == nil {
		return text, err
	}
	const end = "}}"
	text = append(text[:len(text)-len(end)], `,"seccomp":`...)
	text = append(text, c.Linux.Seccomp...)
	return append(text, end...), nil
}

// adapt brings a prepared configuration in line with what run-prepared has
// chosen. term is the caller's TERM.
func (c *config) adapt(m *pod.Manifest, term string) {
	c.Hostname = m.Hostname
	c.Linux.Namespaces = namespaces(m.Net)
	c.Process.Terminal = m.Interactive
	if m.Interactive {
		c.Process.Env = withTerm(c.Process.Env, term)
	}
}

func namespaces(net string) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
		{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
	}
	if net != netHost {
		list = append(list, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	}
	return list
}

// mounts are the file systems that the runtime-spec and its users expect.
func mounts(open bool) []specs.Mount {
	mode := "ro"
	if open {
		mode = "rw"
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", mode}},
	}
}

// maskedPaths are those that containerd, moby and Kubernetes hide. The thermal
// ones tell an app what others do on its processors, and exist on bare metal
// only.
func maskedPaths() []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	for cpu := 0; ; cpu++ {
		path := "/sys/devices/system/cpu/cpu" + strconv.Itoa(cpu) + "/thermal_throttle"
		if _, err := os.Lstat(path); err != nil {
			return paths
		}
		paths = append(paths, path)
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// specUser is the user of a configuration, as far as it is known before the
// app's /etc/passwd is read: names stand in pod.json only, and there they are
// resolved from.
func specUser(user, group string, groups []uint32) specs.User {
	u := specs.User{AdditionalGids: slices.Clone(groups)}
	if id, numeric, err := parseID(user); numeric && err == nil {
		u.UID = id
	}
	if id, numeric, err := parseID(group); numeric && err == nil {
		u.GID = id
	}
	return u
}
