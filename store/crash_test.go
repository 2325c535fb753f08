package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/internal/flock"
)

// helpers are what this test binary does as another process, in a store.
var helpers = map[string]func(*testing.T, *Store) error{
	"scenario": func(t *testing.T, s *Store) error { return scenario(s) },
	"churn":    churn,
	"diskfull": fillDisk,
}

// TestHelperProcess is no test but the main function of those processes.
func TestHelperProcess(t *testing.T) {
	name, dir, ok := strings.Cut(os.Getenv("STORE_HELPER"), ":")
	if !ok {
		t.Skip("is started by other tests only")
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := helpers[name](t, s); err != nil {
		t.Fatal(err)
	}
}

func helper(program, name, dir string, env ...string) *exec.Cmd {
	cmd := exec.Command(program, "-test.run=^TestHelperProcess$", "-test.v=false")
	cmd.Env = append(append(os.Environ(), "STORE_HELPER="+name+":"+dir), env...)
	return cmd
}

// memoryDir is a t.TempDir where fsync costs nothing, if there is one: the
// tests are about the order of steps, and take many.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "rkt-store-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// scenario passes every step of the store that can be interrupted.
func scenario(s *Store) error {
	l, err := s.Lease()
	if err != nil {
		return err
	}
	for _, layers := range [][]string{{"one", "two"}, {"two", "three"}} { // the name moves
		if _, err := fetchInto(s, l, "app", layers...); err != nil {
			return err
		}
	}
	// An unfinished layer and an unfinished blob that are old.
	d, err := l.Layer(digest.FromString("unfinished"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.Path(), "file"), nil, 0o600); err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	w, err := l.Writer(descOf([]byte("unfinished")))
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte("unfin")); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := agePartials(s); err != nil {
		return err
	}
	if _, err := s.GC(nothingInUse, GCOptions{Grace: 24 * time.Hour}); err != nil {
		return err
	}
	if err := s.Remove("app"); err != nil {
		return err
	}
	_, err = s.GC(nothingInUse, GCOptions{})
	return err
}

// agePartials lets two days pass for what is unfinished.
func agePartials(s *Store) error {
	entries, err := os.ReadDir(s.path("partial"))
	if err != nil {
		return err
	}
	past := time.Now().Add(-48 * time.Hour)
	for _, e := range entries {
		if err := os.Chtimes(s.path("partial", e.Name()), past, past); err != nil {
			return err
		}
	}
	return nil
}

func TestKilled(t *testing.T) {
	program := buildWithFailpoints(t)
	t.Run("anywhere", func(t *testing.T) { killAnywhere(t, program) })
	t.Run("download", func(t *testing.T) { killDownload(t, program) })
}

// killAnywhere kills the scenario at each of its failpoints. What is visible
// then is whole; the next fetch completes; GC leaves nothing.
func killAnywhere(t *testing.T, program string) {
	root := memoryDir(t)
	trace := filepath.Join(root, "trace")
	if out, err := helper(program, "scenario", filepath.Join(root, "whole"), "RKT_FAILPOINT_TRACE="+trace).CombinedOutput(); err != nil {
		t.Fatalf("scenario: %v\n%s", err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	count := map[string]int{}
	for point := range strings.FieldsSeq(string(data)) {
		count[point]++
		points = append(points, fmt.Sprintf("%s:%d", point, count[point]))
	}
	checkTrace(t, count)

	slots := make(chan struct{}, runtime.NumCPU())
	var all sync.WaitGroup
	for i, point := range points {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := killAt(program, point, filepath.Join(root, fmt.Sprint(i))); err != nil {
				t.Errorf("killed at %s: %v", point, err)
			}
		})
	}
	all.Wait()
	t.Logf("killed at %d points", len(points))
}

func buildWithFailpoints(t *testing.T) string {
	t.Helper()
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command, to build with failpoints")
	}
	program := filepath.Join(t.TempDir(), "store.test")
	if out, err := exec.Command(gotool, "test", "-c", "-tags", "failpoint", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build with failpoints: %v\n%s", err, out)
	}
	return program
}

// checkTrace expects the scenario to pass every failpoint of this package.
func checkTrace(t *testing.T, count map[string]int) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "failpoint.Hit(\"")[1:] {
			if point, _, _ := strings.Cut(part, "\""); count[point] == 0 && strings.HasPrefix(point, "store.") {
				t.Errorf("%s has the failpoint %s, which the scenario does not pass", file, point)
			}
		}
	}
}

func killAt(program, point, dir string) error {
	cmd := helper(program, "scenario", dir, "RKT_FAILPOINT="+point)
	out, _ := cmd.CombinedOutput()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("it was not: %v\n%s", cmd.ProcessState, out)
	}
	// A process that another goroutine forks has our descriptors, and with them
	// our locks, until it executes its program.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	s := &Store{dir: dir, leases: map[*Lease]bool{}} // not opened, which would repair
	if err := checkVisible(s); err != nil {
		return fmt.Errorf("right after: %w", err)
	}
	s, err := Open(dir)
	if err != nil {
		return err
	}
	l, err := s.Lease()
	if err != nil {
		return err
	}
	if _, err := fetchInto(s, l, "next", "two", "four"); err != nil {
		return fmt.Errorf("next fetch: %w", err)
	}
	if err := checkImage(s, "next", "two", "four"); err != nil {
		return fmt.Errorf("next fetch: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	if _, err := s.GC(nothingInUse, GCOptions{}); err != nil {
		return err
	}
	if err := checkVisible(s); err != nil {
		return fmt.Errorf("after a GC: %w", err)
	}
	return checkEmptied(s)
}

// checkEmptied removes every name and expects GC to leave nothing.
func checkEmptied(s *Store) error {
	images, err := s.Images()
	if err != nil {
		return err
	}
	for _, img := range images {
		if err := s.Remove(img.Name); err != nil {
			return err
		}
	}
	if err := agePartials(s); err != nil {
		return err
	}
	if _, err := s.GC(nothingInUse, GCOptions{}); err != nil {
		return err
	}
	var left []string
	err = filepath.WalkDir(s.dir, func(path string, e os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, s.dir+"/")
		expected := []string{s.dir, "images", "images/blobs", "images/blobs/sha256", "partial", "layers", "locks",
			"locks/index", "locks/store", "images/index.json", "images/oci-layout"}
		if err == nil && !slices.Contains(expected, name) {
			left = append(left, name)
		}
		return err
	})
	if err == nil && left != nil {
		err = fmt.Errorf("without names, GC leaves %v", left)
	}
	return err
}

// checkVisible expects everything under a final name to be whole.
func checkVisible(s *Store) error {
	images, err := s.Images()
	if err != nil {
		return err
	}
	for _, img := range images {
		if err := checkImage(s, img.Name); err != nil {
			return fmt.Errorf("image %q: %w", img.Name, err)
		}
	}
	blobs, err := os.ReadDir(s.path("images", "blobs", "sha256"))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range blobs {
		data, err := os.ReadFile(s.path("images", "blobs", "sha256", e.Name()))
		if err != nil {
			return err
		}
		if digest.FromBytes(data).Encoded() != e.Name() {
			return fmt.Errorf("blob %s is not whole", e.Name())
		}
	}
	layers, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range layers {
		if !isLayerName(e.Name()) {
			continue
		}
		data, err := os.ReadFile(s.path("layers", e.Name(), "dir", "file"))
		if err != nil {
			return err
		}
		if digest.FromBytes(data).Encoded() != e.Name() {
			return fmt.Errorf("layer %s is not whole", e.Name())
		}
	}
	return nil
}

// killDownload expects the next fetch to continue where a killed one was.
func killDownload(t *testing.T, program string) {
	for n, offset := range map[int]int64{1: 2, 2: 5} { // of 5 bytes, in halves
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := filepath.Join(memoryDir(t), "store")
			// The third layer that is written is "three".
			point := fmt.Sprintf("store.blob.written:%d", 4+n)
			if err := helper(program, "scenario", dir, "RKT_FAILPOINT="+point).Run(); err == nil {
				t.Fatal("was not killed")
			}
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			w := mustWriter(t, openLease(t, s), descOf([]byte("three")))
			if w.Offset() != offset {
				t.Errorf("continues at %d, want %d", w.Offset(), offset)
			}
			if _, err := w.Write([]byte("three")[w.Offset():]); err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
}

// images are what churn fetches: they share layers, and bytes with each other.
var images = map[string][]string{
	"a": {"one"}, "b": {"one", "two"}, "c": {"two", "three", "one"},
	"d": {"four", strings.Repeat("five", 20000)}, "e": {"four", "two"},
}

// churn does everything that can be done to a store, in random order, and
// expects that what is promised to stay stays.
func churn(t *testing.T, s *Store) error {
	names := []string{"a", "b", "c", "d", "e"}
	for range 40 {
		name := names[rand.IntN(len(names))]
		var err error
		switch rand.IntN(5) {
		case 0, 1:
			err = churnFetch(s, name)
		case 2:
			err = churnUse(s, name)
		case 3:
			if err = s.Remove(name); errors.Is(err, ErrNotFound) {
				err = nil
			}
		case 4:
			_, err = s.GC(nothingInUse, GCOptions{Grace: time.Duration(rand.IntN(2)) * time.Millisecond})
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return nil
}

func churnFetch(s *Store, name string) error {
	l, err := s.Lease()
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	img, err := fetchInto(s, l, name, images[name]...)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	m, err := s.Manifest(img)
	if err != nil {
		return fmt.Errorf("under a lease: %w", err)
	}
	cfg, err := s.Config(m)
	if err != nil {
		return fmt.Errorf("under a lease: %w", err)
	}
	if _, err := s.Root(cfg); err != nil {
		return fmt.Errorf("under a lease: %w", err)
	}
	return nil
}

func churnUse(s *Store, name string) error {
	release, err := s.Share()
	if err != nil {
		return err
	}
	defer release()
	img, err := s.Get(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	// The name may be removed now, but nothing else may be.
	m, err := s.Manifest(img)
	if err != nil {
		return fmt.Errorf("under Share: %w", err)
	}
	for _, desc := range append(m.Layers, m.Config) {
		r, err := s.OpenBlob(desc)
		if err != nil {
			return fmt.Errorf("under Share: %w", err)
		}
		_, err = io.Copy(io.Discard, r)
		_ = r.Close()
		if err != nil {
			return fmt.Errorf("under Share: %w", err)
		}
	}
	cfg, err := s.Config(m)
	if err == nil {
		_, err = s.Root(cfg)
	}
	if err != nil {
		return fmt.Errorf("under Share: %w", err)
	}
	return nil
}

// TestChurn runs many churns in several processes at once, some of which are
// killed.
func TestChurn(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "store")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			cmd := helper(os.Args[0], "churn", dir)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			doomed := i%3 == 0
			if doomed {
				timer := time.AfterFunc(time.Duration(20+rand.IntN(100))*time.Millisecond, func() { _ = cmd.Process.Kill() })
				defer timer.Stop()
			}
			if err := cmd.Wait(); err != nil && !doomed {
				t.Errorf("churn: %v\n%s", err, &out)
			}
		})
	}
	for range 4 {
		all.Go(func() {
			if err := churn(t, s); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := checkVisible(s); err != nil {
		t.Error(err)
	}
	if err := churnFetch(s, "c"); err != nil {
		t.Error(err)
	}
	if err := checkEmptied(s); err != nil {
		t.Error(err)
	}
	release, err := s.lock("store", (*flock.Lock).TryExclusive)
	if err != nil {
		t.Fatalf("a lock is left: %v", err)
	}
	release()
}
