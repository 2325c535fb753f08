package pod_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt/rkt/pod"
)

// create makes a pod with a manifest and brings it to a place.
func create(t *testing.T, ps pod.Pods, way ...pod.Place) *pod.Pod {
	t.Helper()
	p, err := ps.Create()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.WriteManifest(manifest(p.UUID)); err != nil {
		t.Fatal(err)
	}
	for _, to := range way {
		if err := p.Move(to); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func manifest(uuid string) *pod.Manifest {
	return &pod.Manifest{
		Contract: pod.ContractVersion, UUID: uuid, Created: time.Now(), Hostname: "rkt-" + uuid, Net: "none",
		Stage1: pod.Stage1{Flavour: "native", Path: "/stage1", Init: "/init"},
		Apps:   []pod.App{{Name: "web", Image: pod.Image{Name: "reg.example/web:1"}, User: "0"}},
	}
}

func phase(t *testing.T, p *pod.Pod) pod.Phase {
	t.Helper()
	got, err := p.Phase()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestLife follows one pod with a second pair of eyes.
func TestLife(t *testing.T) {
	ps := pod.In(t.TempDir())
	p := create(t, ps)
	seen, err := ps.Open(p.UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	steps := []struct {
		do   func() error
		want pod.Phase
	}{
		{func() error { return nil }, pod.Preparing},
		{func() error { return p.Move(pod.InPrepared) }, pod.Prepared},
		{p.Unlock, pod.Prepared},
		{p.TryLock, pod.Prepared},
		{func() error { return p.Move(pod.InRun) }, pod.Running},
		{p.Unlock, pod.Exited},
		{p.TryLock, pod.Running},
		{func() error { return p.Move(pod.InExitedGarbage) }, pod.ExitedDeleting},
		{p.Unlock, pod.ExitedGarbage},
		{p.TryLock, pod.ExitedDeleting},
		{func() error { return p.Move(pod.InGarbage) }, pod.Deleting},
		{p.Remove, pod.Gone},
	}
	for i, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if got := phase(t, seen); got != step.want {
			t.Errorf("step %d: phase %q, want %q", i, got, step.want)
		}
	}
}

func TestMoveNeedsTheLockAndAWay(t *testing.T) {
	ps := pod.In(t.TempDir())
	p := create(t, ps)
	if err := p.Move(pod.InExitedGarbage); err == nil {
		t.Error("prepare to exited-garbage: no error")
	}
	if err := p.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := p.Move(pod.InPrepared); err == nil {
		t.Error("without the lock: no error")
	}
}

func TestTryLock(t *testing.T) {
	ps := pod.In(t.TempDir())
	p := create(t, ps, pod.InRun)
	other, err := ps.Open(p.UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.TryLock(); !errors.Is(err, pod.ErrInUse) {
		t.Errorf("a running pod: %v, want ErrInUse", err)
	}
	if err := p.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := other.TryLock(); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("a deleted pod: %v, want ErrNotFound", err)
	}
}

// TestTryLockAmongObservers takes the lock while others look at the pod all
// the time.
func TestTryLockAmongObservers(t *testing.T) {
	ps := pod.In(t.TempDir())
	p := create(t, ps, pod.InPrepared)
	if err := p.Unlock(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan error)
	const observers = 4
	for range observers {
		go func() {
			done <- func() error {
				o, err := ps.Open(p.UUID)
				if err != nil {
					return err
				}
				defer o.Close()
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					if got, err := o.Phase(); err != nil || got != pod.Prepared {
						return fmt.Errorf("phase %q, %w", got, err)
					}
				}
			}()
		}()
	}
	for range 200 {
		if err := p.TryLock(); err != nil {
			t.Error(err)
			break
		}
		if err := p.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	for range observers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	ps := pod.In(dir)
	mk := func(place pod.Place, uuid string) {
		if err := os.MkdirAll(filepath.Join(dir, "pods", string(place), uuid), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mk(pod.InRun, "aaaaaaaa-0000-4000-8000-000000000001")
	mk(pod.InPrepared, "aaaaaaaa-0000-4000-8000-000000000002")
	mk(pod.InExitedGarbage, "bbbbbbbb-0000-4000-8000-000000000003")
	mk(pod.InGarbage, "cccccccc-0000-4000-8000-000000000004")
	mk(pod.InEmbryo, "dddddddd-0000-4000-8000-000000000005")
	mk(pod.InRun, "eeee-not-a-uuid")
	tests := []struct{ prefix, want, err string }{
		{"", "", "UUID cannot be empty"},
		{" \n", "", "UUID cannot be empty"},
		{"f", "", `no matches found for "f"`},
		{"c", "", `no matches found for "c"`},
		{"d", "", `no matches found for "d"`},
		{"eeee", "", `no matches found for "eeee"`},
		{"cccccccc-0000-4000-8000-000000000004", "", "no matches found"},
		{"../run", "", "no matches found"},
		{"aaaa", "", `UUID "aaaa" is ambiguous: it matches aaaaaaaa-0000-4000-8000-000000000001, aaaaaaaa-0000-4000-8000-000000000002`},
		{"b", "bbbbbbbb-0000-4000-8000-000000000003", ""},
		{"BBBB", "bbbbbbbb-0000-4000-8000-000000000003", ""},
		{"AAAAAAAA-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000001", ""},
		{"aaaaaaaa-0000-4000-8000-000000000002\n", "aaaaaaaa-0000-4000-8000-000000000002", ""},
	}
	for _, test := range tests {
		p, err := ps.Find(test.prefix)
		switch {
		case test.err == "" && err != nil:
			t.Errorf("%q: %v", test.prefix, err)
		case test.err == "":
			if p.UUID != test.want {
				t.Errorf("%q: found %s", test.prefix, p.UUID)
			}
			p.Close()
		case err == nil || !strings.Contains(err.Error(), test.err):
			t.Errorf("%q: %v, want %q", test.prefix, err, test.err)
		}
	}
}

// TestCreateAgainstCollectors takes embryos away as fast as it can, as a
// collector may. Creation must succeed all the same.
func TestCreateAgainstCollectors(t *testing.T) {
	ps := pod.In(t.TempDir())
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		taken := 0
		defer func() { done <- taken }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			uuids, err := ps.At(pod.InEmbryo)
			if err != nil {
				t.Error(err)
				return
			}
			for _, uuid := range uuids {
				e, err := ps.Open(uuid)
				if err != nil {
					continue
				}
				if e.TryLock() == nil && e.Place() == pod.InEmbryo && e.Remove() == nil {
					taken++
				}
				e.Close()
			}
		}
	}()
	for range 300 {
		p, err := ps.Create()
		if err != nil {
			t.Fatal(err)
		}
		if got := phase(t, p); got != pod.Preparing {
			t.Errorf("phase %q", got)
		}
		if err := p.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	t.Logf("%d embryos were taken away", <-done)
}

func TestNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	ps := pod.In(dir)
	for _, way := range [][]pod.Place{nil, {pod.InPrepared}, {pod.InRun}, {pod.InPrepared, pod.InRun}, {pod.InRun, pod.InExitedGarbage}} {
		p := create(t, ps, way...)
		for _, sub := range []string{"apps", "apps/web", "apps/web/upper"} {
			if err := p.Mkdir(sub, 0o750); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Remove(); err != nil {
			t.Errorf("%v: %v", way, err)
		}
	}
	err := filepath.WalkDir(filepath.Join(dir, "pods"), func(path string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); strings.Count(rel, "/") > 1 {
			t.Errorf("left: %s", rel)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
