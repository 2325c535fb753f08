package plan

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/cgroup"
)

const manifest = `{"contract":1,"uuid":"11111111-2222-4333-8444-555555555555","hostname":"web","net":"none",
"stage1":{"flavour":"native","path":"/s1","init":"/i"},
"apps":[{"name":"web","image":{"name":"reg.example/web:1","digest":"sha256:0"},"lower":["/l/b","/l/a"],"user":"www:web",
"supplementaryGroups":[7],"stopSignal":"SIGQUIT","stopTimeout":10}]}`

const config = `{"ociVersion":"1.2.0","process":{"user":{"uid":0,"gid":0},"args":["/bin/web","-v"],"env":["A=b"],"cwd":"/srv",
"capabilities":{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_CHOWN"],"permitted":["CAP_CHOWN"]},
"rlimits":[{"type":"RLIMIT_NOFILE","hard":20,"soft":10}],"noNewPrivileges":true},
"root":{"path":"rootfs","readonly":true},"hostname":"web",
"mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},
{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755"]},
{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","newinstance","gid=5"]}],
"linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network"},{"type":"cgroup"}],
"maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"],"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}`

// planOf plans the pod above after replacing text in its files.
func planOf(t *testing.T, edit ...string) (*Pod, error) {
	t.Helper()
	r := strings.NewReplacer(edit...)
	m, err := pod.ParseManifest([]byte(r.Replace(manifest)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig([]byte(r.Replace(config)))
	if err != nil {
		return nil, err
	}
	groups := []cgroup.Hierarchy{{Mount: "/sys/fs/cgroup", V2: true, Dir: "/sys/fs/cgroup/rkt-1"}}
	return Make(m, map[string]*Config{"web": c}, "/pods/1", "/run/rkt/1", groups, true)
}

// The plan of a pod is compared whole, so that a change in what is done to
// start one shows in review. UPDATE=1 rewrites the expectation.
func TestMakeGolden(t *testing.T) {
	p, err := planOf(t)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "plan.json")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestMakeHostNetwork(t *testing.T) {
	p, err := planOf(t, `"net":"none"`, `"net":"host"`, `,{"type":"network"}`, ``)
	if err != nil {
		t.Fatal(err)
	}
	if p.Loopback {
		t.Error("init would bring up the host's loopback interface")
	}
}

func TestMakeRefuses(t *testing.T) {
	tests := []struct {
		name string
		edit []string
		want string
	}{
		{"a field that is not honoured", []string{`"hostname":"web",
"mounts"`, `"hostname":"web","hooks":{"prestart":[]},
"mounts"`}, `unknown field "hooks"`},
		{"a linux field that is not honoured", []string{`"maskedPaths"`, `"sysctl":{"kernel.core_pattern":"|/x"},"maskedPaths"`}, `unknown field "sysctl"`},
		{"a process field that is not honoured", []string{`"noNewPrivileges":true`, `"noNewPrivileges":true,"apparmorProfile":"x"`}, `unknown field "apparmorProfile"`},
		{"sharing the host's processes", []string{`{"type":"pid"},`, ``}, `namespace "pid" is missing`},
		{"joining a namespace", []string{`{"type":"ipc"}`, `{"type":"ipc","path":"/proc/1/ns/ipc"}`}, `namespace "ipc" of path`},
		{"network against the manifest", []string{`"net":"none"`, `"net":"host"`}, `namespace "network"`},
		{"user namespace", []string{`{"type":"pid"}`, `{"type":"pid"},{"type":"user"}`}, `namespace "user"`},
		{"a bind mount", []string{`"type":"devpts"`, `"type":"bind"`}, `file systems of type "bind" are not supported`},
		{"a mount on the root", []string{`"destination":"/dev/pts"`, `"destination":"/"`}, `mount on "/"`},
		{"a mount elsewhere", []string{`"destination":"/dev/pts"`, `"destination":"/dev/../../x"`}, `must be absolute, clean`},
		{"an unknown capability", []string{`CAP_KILL`, `CAP_EVERYTHING`}, `capability "CAP_EVERYTHING" is unknown`},
		{"an unknown limit", []string{`RLIMIT_NOFILE`, `RLIMIT_FUN`}, `resource limit "RLIMIT_FUN" is unknown`},
		{"nothing to execute", []string{`["/bin/web","-v"]`, `[]`}, `nothing to execute`},
		{"an unknown stop signal", []string{`SIGQUIT`, `SIGFUN`}, `stop signal "SIGFUN" is unknown`},
		{"no layers", []string{`["/l/b","/l/a"]`, `[]`}, `has no layers`},
		{"no process", []string{`"process":{`, `"annotations":{},"process":null,"x":{`}, `unknown field "x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := planOf(t, tt.edit...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(config))
	f.Add([]byte(`{"process":{},"linux":{},"root":{}}`))
	m, err := pod.ParseManifest([]byte(manifest))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		p, err := Make(m, map[string]*Config{"web": c}, "/pods/1", "/run/rkt/1", nil, false)
		if err != nil {
			return
		}
		for _, mount := range p.Apps[0].Mounts {
			if mount.Type != "devpts" && mount.Attr&4 == 0 { // MOUNT_ATTR_NODEV
				t.Errorf("mount on %q allows devices", mount.Target)
			}
		}
	})
}
