package cgroup

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestList(t *testing.T) {
	all := func(string) bool { return true }
	tests := []struct {
		name, self string
		unified    bool
		exists     func(string) bool
		want       []string
	}{
		{"version 2", "0::/user.slice/a.scope\n", true, all, []string{"/sys/fs/cgroup/user.slice/a.scope/rkt-U"}},
		{"version 2, root", "0::/\n", true, all, []string{"/sys/fs/cgroup/rkt-U"}},
		{"hybrid", "9:name=systemd:/\n5:cpu,cpuacct:/x\n4:memory:/m\n3:cpuset:/\n0::/\n", false, all,
			[]string{"/sys/fs/cgroup/cpu,cpuacct/x/rkt-U", "/sys/fs/cgroup/memory/m/rkt-U", "/sys/fs/cgroup/unified/rkt-U"}},
		{"version 1 without unified", "4:memory:/m\n0::/\n", false,
			func(p string) bool { return !strings.Contains(p, "unified") }, []string{"/sys/fs/cgroup/memory/m/rkt-U"}},
		{"outside of the cgroup namespace", "4:memory:/../..\n3:pids:/\n", false, all, []string{"/sys/fs/cgroup/pids/rkt-U"}},
		{"none", "9:name=systemd:/\n", false, all, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := list(tt.self, "U", tt.unified, tt.exists)
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("error %v", err)
			}
			if strings.Join(Dirs(got), " ") != strings.Join(tt.want, " ") {
				t.Errorf("got %q, want %q", Dirs(got), tt.want)
			}
		})
	}
}

// A real process in a real cgroup is killed and everything is removed.
func TestKillAndRemove(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
	all, err := ForPod("test-" + strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	defer Remove(Dirs(all), deadline)
	if err := Create(all, []string{"app"}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		pid := strconv.AppendInt(nil, int64(cmd.Process.Pid), 10)
		if err := os.WriteFile(leaf(all, h, "app")+"/cgroup.procs", pid, 0); err != nil {
			t.Fatal(err)
		}
	}
	killed := make(chan error, 1)
	go func() { killed <- cmd.Wait() }()
	if err := Kill(Dirs(all), deadline); err != nil {
		t.Fatal(err)
	}
	if err := <-killed; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("process ended with %v", err)
	}
	if err := Remove(Dirs(all), deadline); err != nil {
		t.Fatal(err)
	}
	for _, d := range Dirs(all) {
		if isDir(d) {
			t.Errorf("%s is still there", d)
		}
	}
}
