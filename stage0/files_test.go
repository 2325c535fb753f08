package stage0

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/rkt/rkt/internal/seccomp"
	"github.com/rkt/rkt/pod"
)

func TestReadEnvFile(t *testing.T) {
	tests := []struct{ name, in, want, err string }{
		{"variables", "A=1\n\n# comment\n; comment\n  B = x y \nC=\nD==\r\n", "A=1|B = x y|C=|D==", ""},
		{"no line feed at the end", "A=1", "A=1", ""},
		{"empty", "", "", ""},
		{"no value", "A=1\nB\n", "", "line 2"},
		{"twice", "A=1\n\nA=2\n", "", `line 3: variable "A" is set in line 1`},
		{"NUL", "A=\x00\n", "", "NUL"},
		{"endless", strings.Repeat("#", 2<<20), "", "larger than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "env")
			if err := os.WriteFile(file, []byte(test.in), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadEnvFile(file)
			if !refuses(t, "ReadEnvFile", err, test.err) && strings.Join(got, "|") != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if _, err := ReadEnvFile(t.TempDir()); err == nil {
		t.Error("a directory is accepted")
	}
}

// FuzzParseEnv writes what it has read, which must be read as the same again.
func FuzzParseEnv(f *testing.F) {
	f.Add("A=1\n\n# comment\n; comment\n  B = x y \nC=\nD==\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		env, err := parseEnv(text)
		if err != nil {
			return
		}
		again, err := parseEnv(strings.Join(env, "\n"))
		if err != nil || !slices.Equal(env, again) {
			t.Errorf("%q, then %q (%v)", env, again, err)
		}
		for _, v := range env {
			if name, err := variableName(v); err != nil || name == "" || strings.Contains(v, "\n") {
				t.Errorf("%q (%v)", v, err)
			}
		}
	})
}

// sample are parts that have everything.
func sample() parts {
	return parts{
		args: []string{"/bin/app", "-x"}, env: []string{"PATH=/bin"}, cwd: "/srv",
		user: specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}},
		caps: []string{"CAP_CHOWN"}, seccomp: json.RawMessage(`{"defaultAction":"SCMP_ACT_ERRNO"}`),
		readOnly: true, hostname: "h", net: netNone,
	}
}

func decode(t *testing.T, c *config) *specs.Spec {
	t.Helper()
	text, err := c.text()
	if err != nil {
		t.Fatal(err)
	}
	if whole, err := json.Marshal(c); err != nil || !bytes.Equal(whole, text) {
		t.Errorf("%s is not %s (%v)", text, whole, err)
	}
	var spec specs.Spec
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	return &spec
}

func TestNewConfig(t *testing.T) {
	s := decode(t, newConfig(sample()))
	if s.Version != specs.Version || s.Hostname != "h" || !s.Root.Readonly || s.Root.Path == "" {
		t.Errorf("%+v", s)
	}
	p := s.Process
	if diff := cmp.Diff(&specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"}, Permitted: []string{"CAP_CHOWN"}}, p.Capabilities); diff != "" {
		t.Error(diff)
	}
	if !p.NoNewPrivileges || p.User.UID != 7 || p.User.GID != 8 || p.Cwd != "/srv" || len(p.Args) != 2 {
		t.Errorf("%+v", p)
	}
	if s.Linux.Seccomp == nil || s.Linux.Seccomp.DefaultAction != specs.ActErrno {
		t.Errorf("seccomp: %+v", s.Linux.Seccomp)
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/timer_list"} {
		if !slices.Contains(s.Linux.MaskedPaths, path) {
			t.Errorf("%s is not masked", path)
		}
	}
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/bus"} {
		if !slices.Contains(s.Linux.ReadonlyPaths, path) {
			t.Errorf("%s is not read-only", path)
		}
	}
	types := map[string]string{}
	for _, m := range s.Mounts {
		types[m.Destination] = m.Type + " " + strings.Join(m.Options, ",")
	}
	for dest, want := range map[string]string{
		"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue",
		"/sys": "sysfs", "/sys/fs/cgroup": "cgroup",
	} {
		if !strings.HasPrefix(types[dest], want+" ") {
			t.Errorf("%s: %q, want %s", dest, types[dest], want)
		}
	}
	if !strings.Contains(types["/sys"], "ro") || !strings.Contains(types["/sys/fs/cgroup"], "ro") {
		t.Error("/sys is writable")
	}
	if len(s.Linux.Namespaces) != 6 {
		t.Errorf("namespaces: %v", s.Linux.Namespaces)
	}
}

func TestNewConfigOpen(t *testing.T) {
	p := sample()
	p.openPaths, p.seccomp, p.net = true, nil, netHost
	s := decode(t, newConfig(p))
	if len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) != 0 || s.Linux.Seccomp != nil {
		t.Errorf("%+v", s.Linux)
	}
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace {
			t.Error("an own network namespace with --net=host")
		}
	}
	for _, m := range s.Mounts {
		if slices.Contains(m.Options, "ro") {
			t.Errorf("%s is read-only", m.Destination)
		}
	}
}

// TestConfigSurvivesRewriting reads a configuration as run-prepared does.
func TestConfigSurvivesRewriting(t *testing.T) {
	before := newConfig(sample())
	text, err := before.text()
	if err != nil {
		t.Fatal(err)
	}
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decode(t, before), decode(t, &c)); diff != "" {
		t.Errorf("read and written again: %s", diff)
	}
	c.adapt(&pod.Manifest{Hostname: "new", Net: netHost, Interactive: true}, "screen")
	want := decode(t, before)
	want.Hostname, want.Process.Terminal = "new", true
	want.Process.Env = append(want.Process.Env, "TERM=screen")
	want.Linux.Namespaces = want.Linux.Namespaces[:5]
	if diff := cmp.Diff(want, decode(t, &c)); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultFilter(t *testing.T) {
	dir := t.TempDir()
	made, err := defaultFilter(dir)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "cache", "seccomp", seccomp.Key(defaultCaps()))
	same := func(name string) {
		t.Helper()
		got, err := defaultFilter(dir)
		if err != nil || !bytes.Equal(got.program, made.program) || !bytes.Equal(got.profile, made.profile) {
			t.Errorf("%s: another filter (%v)", name, err)
		}
		for ext, want := range map[string][]byte{".bpf": made.program, ".json": made.profile} {
			if kept, err := os.ReadFile(base + ext); err != nil || !bytes.Equal(kept, want) {
				t.Errorf("%s: %s is not in the cache (%v)", name, ext, err)
			}
		}
	}
	same("kept")
	damage := map[string]func() error{
		"empty filter":     func() error { return os.WriteFile(base+".bpf", nil, 0o600) },
		"cut filter":       func() error { return os.Truncate(base+".bpf", 12) },
		"huge filter":      func() error { return os.Truncate(base+".bpf", 1<<20) },
		"no profile":       func() error { return os.Remove(base + ".json") },
		"cut profile":      func() error { return os.Truncate(base+".json", 100) },
		"unfinished write": func() error { return os.WriteFile(filepath.Dir(base)+"/.atomic-x-1", nil, 0o600) },
		"no cache":         func() error { return os.RemoveAll(filepath.Join(dir, "cache")) },
	}
	for name, do := range damage {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		same(name)
	}
	if err := os.WriteFile(filepath.Dir(base)+"/.atomic-x-1", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := collectCache(dir); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Dir(base) + "/.atomic-*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// A cache that cannot be written is no error.
	if _, err := defaultFilter("/proc/nowhere"); err != nil {
		t.Error(err)
	}
}
