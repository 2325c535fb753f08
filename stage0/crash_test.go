package stage0

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/pod"
)

// acts are what this test binary does as another process, in a data directory.
var acts = map[string]func(Config) error{
	"prepare": func(c Config) error {
		_, err := Prepare(context.Background(), c, Options{Apps: []App{{Image: web}}})
		return err
	},
	"run": func(c Config) error {
		return Run(context.Background(), c, Options{Apps: []App{{Image: web}}})
	},
	"run-prepared": func(c Config) error {
		uuid, err := firstPrepared(c)
		if uuid == "" || err != nil {
			return err
		}
		return RunPrepared(c, uuid, PreparedOptions{Hostname: "new"})
	},
	"rm": func(c Config) error {
		uuid, err := firstPrepared(c)
		if uuid == "" || err != nil {
			return err
		}
		_, err = Remove(context.Background(), c, uuid)
		return err
	},
	"gc":      func(c Config) error { return GC(context.Background(), c, GCOptions{}, func(GCEvent) {}) },
	"creator": createMany,
	"collector": func(c Config) error {
		return untilTold(c, func() error {
			var failed error
			err := GC(context.Background(), c, GCOptions{ExpirePrepared: time.Hour}, func(e GCEvent) { failed = errors.Join(failed, e.Err) })
			return errors.Join(err, failed)
		})
	},
	"lister": func(c Config) error {
		return untilTold(c, func() error {
			list, err := List(c)
			for _, info := range list {
				err = errors.Join(err, info.Err)
			}
			return err
		})
	},
}

func firstPrepared(c Config) (string, error) {
	list, err := List(c)
	for _, info := range list {
		if info.Phase == pod.Prepared {
			return info.UUID, err
		}
	}
	return "", err
}

// TestHelperProcess is no test but the main function of those processes.
func TestHelperProcess(t *testing.T) {
	act, dir, ok := strings.Cut(os.Getenv("STAGE0_HELPER"), ":")
	if !ok {
		t.Skip("is started by other tests only")
	}
	if err := acts[act](crashConfig(dir)); err != nil {
		t.Fatal(err)
	}
}

func crashConfig(dir string) Config {
	return Config{Dir: dir, Insecure: insecure.Image, Stage1: pod.Stage1{Flavour: "native", Path: "/bin/true", Init: "/bin/true"}}
}

func helper(program, act, dir string, env ...string) *exec.Cmd {
	cmd := exec.Command(program, "-test.run=^TestHelperProcess$", "-test.v=false")
	cmd.Env = append(append(os.Environ(), "STAGE0_HELPER="+act+":"+dir), env...)
	return cmd
}

// life is what the processes do one after the other.
var life = []string{"prepare", "run-prepared", "run", "prepare", "rm", "run", "prepare", "gc"}

// TestKilled kills each process of a life at each of its failpoints. Then one
// collection leaves nothing, and the next pod is as good as ever.
func TestKilled(t *testing.T) {
	program := buildWithFailpoints(t)
	root := memoryDir(t)
	type kill struct {
		step  int
		point string
	}
	var kills []kill
	passed := map[string]bool{}
	whole := newData(t, filepath.Join(root, "whole"))
	for step, act := range life {
		trace := filepath.Join(root, fmt.Sprint("trace", step))
		if out, err := helper(program, act, whole, "RKT_FAILPOINT_TRACE="+trace).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", act, err, out)
		}
		data, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for point := range strings.FieldsSeq(string(data)) {
			count[point]++
			passed[point] = true
			kills = append(kills, kill{step, fmt.Sprintf("%s:%d", point, count[point])})
		}
	}
	checkFailpoints(t, passed)
	slots := make(chan struct{}, runtime.NumCPU())
	var all sync.WaitGroup
	for i, k := range kills {
		slots <- struct{}{}
		dir := newData(t, filepath.Join(root, fmt.Sprint(i)))
		all.Go(func() {
			defer func() { <-slots }()
			if err := killAt(program, k.step, k.point, dir); err != nil {
				t.Errorf("%s killed at %s: %v", life[k.step], k.point, err)
			}
		})
	}
	all.Wait()
	t.Logf("killed at %d points", len(kills))
}

// memoryDir is a t.TempDir where fsync costs nothing, if there is one.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "rkt-stage0-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newData(t *testing.T, dir string) string {
	t.Helper()
	addImage(t, crashConfig(dir), web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	return dir
}

func buildWithFailpoints(t *testing.T) string {
	t.Helper()
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command, to build with failpoints")
	}
	program := filepath.Join(t.TempDir(), "stage0.test")
	if out, err := exec.Command(gotool, "test", "-c", "-tags", "failpoint", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build with failpoints: %v\n%s", err, out)
	}
	return program
}

// checkFailpoints expects a life to pass every failpoint of stage0, and each
// move of package pod but those that only a collection after a crash makes.
func checkFailpoints(t *testing.T, passed map[string]bool) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"pod.embryo.made", "pod.embryo.locked", "pod.prepare.renamed", "pod.prepared.synced", "pod.prepared.renamed",
		"pod.run.renamed", "pod.exited-garbage.renamed", "pod.garbage.renamed",
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "failpoint.Hit(\"")[1:] {
			point, _, _ := strings.Cut(part, "\"")
			want = append(want, point)
		}
	}
	for _, point := range want {
		if strings.Contains(point, ".") && !passed[point] {
			t.Errorf("no process passes the failpoint %s", point)
		}
	}
}

func killAt(program string, step int, point, dir string) error {
	for _, act := range life[:step] {
		if out, err := helper(program, act, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("%s before: %w\n%s", act, err, out)
		}
	}
	cmd := helper(program, life[step], dir, "RKT_FAILPOINT="+point)
	out, _ := cmd.CombinedOutput()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("it was not: %v\n%s", cmd.ProcessState, out)
	}
	c := crashConfig(dir)
	list, err := List(c)
	for _, info := range list {
		if info.Phase == pod.Running || info.Phase == pod.Preparing {
			err = errors.Join(err, fmt.Errorf("pod %s is still %s", info.UUID, info.Phase))
		}
		err = errors.Join(err, info.Err)
	}
	// A collection in this process would find locks in the children that other
	// goroutines are about to start: fork copies descriptors.
	for _, act := range []string{"gc", "", "prepare", "gc", ""} {
		switch {
		case err != nil:
			return err
		case act == "":
			err = onlyExpected(dir)
		default:
			if out, failed := helper(program, act, dir).CombinedOutput(); failed != nil {
				err = fmt.Errorf("%s afterwards: %w\n%s", act, failed, out)
			}
		}
	}
	return err
}

// onlyExpected expects nothing of pods in a data directory.
func onlyExpected(dir string) error {
	var left []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, dir+"/")
		switch {
		case err != nil:
		case name == "images" || name == "layers" || name == "locks" || name == "partial":
			return filepath.SkipDir // the store's
		case filepath.Dir(name) == "cache/seccomp":
			if ext := filepath.Ext(name); strings.Contains(name, "/.") || ext != ".bpf" && ext != ".json" {
				left = append(left, name)
			}
		case path == dir || name == "cache" || name == "cache/seccomp" || name == "pods":
		case !slices.Contains(pod.Places(), pod.Place(strings.TrimPrefix(name, "pods/"))):
			left = append(left, name)
		}
		return err
	})
	if err == nil && left != nil {
		err = fmt.Errorf("gc leaves %v", left)
	}
	return err
}

// rounds is how many pods each creator makes.
const rounds = 40

// TestManyProcesses has processes that make pods, collect and list at the same
// time. None of them may fail, and no pod may be lost.
func TestManyProcesses(t *testing.T) {
	const creators = 4
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := newData(t, filepath.Join(memoryDir(t), "data"))
	var background, makers sync.WaitGroup
	start := func(group *sync.WaitGroup, act string) {
		group.Go(func() {
			if out, err := helper(program, act, dir).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", act, err, out)
			}
		})
	}
	for _, act := range []string{"collector", "collector", "lister"} {
		start(&background, act)
	}
	for range creators {
		start(&makers, "creator")
	}
	makers.Wait()
	if err := os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	background.Wait()
	if err := os.Remove(filepath.Join(dir, "stop")); err != nil {
		t.Fatal(err)
	}
	c := crashConfig(dir)
	list, err := List(c)
	if err != nil {
		t.Fatal(err)
	}
	prepared := 0
	for _, info := range list {
		if info.Phase == pod.Prepared {
			prepared++
		}
	}
	if want := creators * rounds / 2; prepared != want {
		t.Errorf("%d pods are prepared, want %d", prepared, want)
	}
	if err := errors.Join(acts["gc"](c), onlyExpected(dir)); err != nil {
		t.Error(err)
	}
}

// createMany prepares pods. Half of them it leaves, some it removes, some it
// brings to run and lets die.
func createMany(c Config) error {
	for i := range rounds {
		uuid, err := Prepare(context.Background(), c, Options{Apps: []App{{Image: web}}})
		if err != nil {
			return err
		}
		switch i % 4 {
		case 0, 1:
			continue
		case 2:
			if _, err := Remove(context.Background(), c, uuid); err != nil {
				return err
			}
			continue
		}
		p, err := Find(c, uuid)
		if err != nil {
			return err
		}
		_, err = lockPrepared(p)
		if err == nil {
			err = p.Move(pod.InRun)
		}
		if err := errors.Join(err, p.Close()); err != nil {
			return err
		}
	}
	return nil
}

// untilTold does something again and again, until there is a file "stop".
func untilTold(c Config, do func() error) error {
	for {
		if err := do(); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(c.Dir, "stop")); err == nil {
			return nil
		}
	}
}
