package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// An init that dies at once, before it has read a plan that no pipe can hold,
// does not make stage1 wait, and nothing of what it got stays open here.
func TestStartInitThatDies(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes namespaces")
	}
	t.Chdir(t.TempDir())
	before := openFiles(t)
	dir, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Pod{UUID: "u", Apps: []plan.App{{Process: plan.Process{Env: []string{"A=" + strings.Repeat("x", 1<<20)}}}}}
	m := &pod.Manifest{Stage1: pod.Stage1{Init: "/bin/true"}}
	done := make(chan error, 1)
	var pid, pidfd int
	go func() {
		var err error
		pid, pidfd, err = startInit(m, p, dir, dir)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("stage1 waits for an init that is dead")
	}
	if code, err := wait(pid); code != 0 || err != nil {
		t.Errorf("init ended with %d, %v", code, err)
	}
	unix.Close(pidfd)
	unix.Close(dir)
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestDispatch(t *testing.T) {
	for want, args := range map[string][]string{
		"by rkt, not by hand": nil, `no entrypoint "fly"`: {"fly"}, "usage: stage1 run": {"run"},
		"usage: stage1 enter": {"enter", "u"}, "usage: stage1 stop": {"stop"}, "usage: stage1 gc": {"gc", "../x"},
	} {
		if err := dispatch(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("dispatch(%q) = %v, want an error with %q", args, err, want)
		}
	}
}
