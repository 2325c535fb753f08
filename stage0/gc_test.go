package stage0

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rkt/rkt/pod"
)

// stage1Script makes a stage1 that writes down how it was called and ends
// with a code.
func stage1Script(t *testing.T, code int) (path string, calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	path, log := filepath.Join(dir, "stage1"), filepath.Join(dir, "calls")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@ in ${PWD##*/pods/}\" >>%s\n[ %d = 0 ] || echo 'rkt: it does not work' >&2\nexit %d\n", log, code, code)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, func() []string {
		data, err := os.ReadFile(log)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(data)), "\n")
	}
}

// add makes a pod with a manifest, at the end of a way, held by nobody.
func add(t *testing.T, c Config, stage1 string, way ...pod.Place) string {
	t.Helper()
	p, err := c.pods().Create()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	fill(t, p, stage1)
	for _, to := range way {
		if err := p.Move(to); err != nil {
			t.Fatal(err)
		}
	}
	return p.UUID
}

func fill(t *testing.T, p *pod.Pod, stage1 string) {
	t.Helper()
	err := p.WriteManifest(&pod.Manifest{
		Contract: pod.ContractVersion, UUID: p.UUID, Created: time.Now(), Net: netNone,
		Stage1: pod.Stage1{Flavour: "native", Path: stage1, Init: stage1},
		Apps:   []pod.App{{Name: "web"}},
	})
	for _, dir := range []string{"apps", "apps/web", "apps/web/upper"} {
		err = errors.Join(err, p.Mkdir(dir, 0o750))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// gc collects and gives what was done, as "UUID act".
func gc(t *testing.T, c Config, o GCOptions) (did []string, err error) {
	t.Helper()
	words := map[GCAct]string{GCMarked: "marked", GCKept: "kept", GCRemoved: "removed", GCFailed: "failed"}
	err = GC(context.Background(), c, o, func(e GCEvent) {
		did = append(did, e.UUID+" "+words[e.Did])
		if (e.Err != nil) != (e.Did == GCFailed) {
			t.Errorf("%+v", e)
		}
	})
	return did, err
}

// places maps each pod to where it is.
func places(t *testing.T, c Config) map[string]pod.Place {
	t.Helper()
	where := map[string]pod.Place{}
	for _, place := range pod.Places() {
		uuids, err := c.pods().At(place)
		if err != nil {
			t.Fatal(err)
		}
		for _, uuid := range uuids {
			if other, twice := where[uuid]; twice {
				t.Errorf("pod %s is in %s and in %s", uuid, other, place)
			}
			where[uuid] = place
		}
	}
	return where
}

func TestGC(t *testing.T) {
	c := world(t)
	stage1, calls := stage1Script(t, 0)
	exited := add(t, c, stage1, pod.InRun)
	marked := add(t, c, stage1, pod.InRun, pod.InExitedGarbage)
	prepared := add(t, c, stage1, pod.InPrepared)
	aborted := add(t, c, stage1)
	garbage := add(t, c, stage1, pod.InGarbage)
	embryo := "0e000000-0000-4000-8000-000000000000"
	if err := os.Mkdir(filepath.Join(c.Dir, "pods", "embryo", embryo), 0o750); err != nil {
		t.Fatal(err)
	}
	held, err := c.pods().Create()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	fill(t, held, stage1)

	long := GCOptions{GracePeriod: time.Hour, ExpirePrepared: time.Hour}
	markOnly := long
	markOnly.MarkOnly = true
	steps := []struct {
		name string
		do   func() error
		o    GCOptions
		want map[string]pod.Place // of those that are left
		did  []string
	}{
		{
			"mark only", nil, markOnly,
			map[string]pod.Place{exited: pod.InExitedGarbage, marked: pod.InExitedGarbage, prepared: pod.InPrepared, aborted: pod.InGarbage, garbage: pod.InGarbage},
			[]string{embryo + " removed", exited + " marked", aborted + " marked"},
		},
		{
			"within the grace period", nil, long,
			map[string]pod.Place{exited: pod.InExitedGarbage, marked: pod.InExitedGarbage, prepared: pod.InPrepared},
			[]string{exited + " kept", marked + " kept", aborted + " removed", garbage + " removed"},
		},
		{
			"a pod being prepared becomes a running one", func() error { return held.Move(pod.InRun) }, GCOptions{},
			map[string]pod.Place{},
			[]string{exited + " removed", marked + " removed", prepared + " marked", prepared + " removed"},
		},
		{"nothing to do", nil, GCOptions{}, map[string]pod.Place{}, nil},
		{
			"it ends", held.Unlock, GCOptions{}, map[string]pod.Place{},
			[]string{held.UUID + " marked", held.UUID + " removed"},
		},
	}
	for i, step := range steps {
		if step.do != nil {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
		}
		did, err := gc(t, c, step.o)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		slices.Sort(did)
		slices.Sort(step.did)
		if !slices.Equal(did, step.did) {
			t.Errorf("%s: did %q, want %q", step.name, did, step.did)
		}
		where := places(t, c)
		if i < len(steps)-1 {
			delete(where, held.UUID)
		}
		if fmt.Sprint(where) != fmt.Sprint(step.want) {
			t.Errorf("%s: left %v, want %v", step.name, where, step.want)
		}
	}
	got := calls()
	slices.Sort(got)
	want := []string{}
	for _, uuid := range []string{exited, marked, held.UUID} {
		want = append(want, "gc "+uuid+" in exited-garbage/"+uuid)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("stage1 was called as %q, want %q", got, want)
	}
}

// TestGCGoesOn has a pod that cannot be released, among others.
func TestGCGoesOn(t *testing.T) {
	c := world(t)
	good, _ := stage1Script(t, 0)
	broken, _ := stage1Script(t, 1)
	bad := add(t, c, broken, pod.InRun)
	for range 3 {
		add(t, c, good, pod.InRun)
	}
	for range 2 {
		did, err := gc(t, c, GCOptions{})
		if err == nil || !strings.Contains(err.Error(), "could not be collected") || !slices.Contains(did, bad+" failed") {
			t.Errorf("%q, %v", did, err)
		}
		if where := places(t, c); len(where) != 1 || where[bad] != pod.InExitedGarbage {
			t.Errorf("left: %v", where)
		}
	}
	_, err := Remove(context.Background(), c, bad)
	refuses(t, "Remove", err, "it does not work")
	p, err := Find(c, bad)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m, err := p.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m.Stage1.Path = good
	if err := p.ReplaceManifest(m); err != nil {
		t.Fatal(err)
	}
	if _, err := gc(t, c, GCOptions{}); err != nil || len(places(t, c)) != 0 {
		t.Errorf("%v, left: %v", err, places(t, c))
	}
}

// TestGCAfterPowerCut has pods whose files a power cut has emptied.
func TestGCAfterPowerCut(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	installed, calls := stage1Script(t, 0)
	beside := filepath.Join(filepath.Dir(self), "stage1")
	if err := os.Symlink(installed, beside); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(beside)
	c := world(t)
	for _, way := range [][]pod.Place{{pod.InRun}, {pod.InRun, pod.InExitedGarbage}, {pod.InPrepared}, {}} {
		uuid := add(t, c, "/bin/false", way...)
		for _, name := range []string{pod.ManifestFile, pod.PidFile, pod.CgroupFile, "apps/web/status.json"} {
			matches, err := filepath.Glob(filepath.Join(c.Dir, "pods", "*", uuid))
			if err != nil || len(matches) != 1 {
				t.Fatal(matches, err)
			}
			if err := os.WriteFile(filepath.Join(matches[0], name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if list, err := List(c); err != nil || len(list) != 4 {
		t.Errorf("%v, %v", list, err)
	}
	if did, err := gc(t, c, GCOptions{}); err != nil || len(places(t, c)) != 0 {
		t.Errorf("%q, %v, left: %v", did, err, places(t, c))
	}
	if n := len(calls()); n != 2 {
		t.Errorf("the installed stage1 was called %d times, want twice", n)
	}
}

func TestRemove(t *testing.T) {
	c := world(t)
	stage1, calls := stage1Script(t, 0)
	running, err := c.pods().Create()
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	fill(t, running, stage1)
	remove := func(uuid string) error {
		t.Helper()
		whole, err := Remove(context.Background(), c, strings.ToUpper(uuid[:13]))
		if whole != uuid {
			t.Errorf("Remove = %q, want %q", whole, uuid)
		}
		return err
	}
	refuses(t, "a pod being prepared", remove(running.UUID), "it is preparing")
	if err := running.Move(pod.InRun); err != nil {
		t.Fatal(err)
	}
	refuses(t, "a running pod", remove(running.UUID), "rkt stop "+running.UUID)
	for _, way := range [][]pod.Place{{pod.InPrepared}, {}, {pod.InRun}, {pod.InRun, pod.InExitedGarbage}} {
		if err := remove(add(t, c, stage1, way...)); err != nil {
			t.Errorf("%v: %v", way, err)
		}
	}
	_, err = Remove(context.Background(), c, "00000000-0000-4000-8000-000000000000")
	refuses(t, "no pod", err, "no matches found")
	if n := len(calls()); n != 2 {
		t.Errorf("stage1 was called %d times, want twice", n)
	}
	if where := places(t, c); len(where) != 1 {
		t.Errorf("left: %v", where)
	}
}

// TestLives lets pods take random ways, among collections, and compares with
// what the table of phases says. Ending a life anywhere is what a crash does.
func TestLives(t *testing.T) {
	c := world(t)
	rng := rand.New(rand.NewPCG(1, 2))
	next := map[pod.Place][]pod.Place{
		pod.InPrepare:  {pod.InPrepared, pod.InRun},
		pod.InPrepared: {pod.InRun},
	}
	alive := map[string]*pod.Pod{} // those whose lock we hold
	at := map[string]pod.Place{}   // all that gc has not deleted
	for range 400 {
		switch rng.IntN(5) {
		case 0, 1:
			p, err := c.pods().Create()
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			fill(t, p, "/bin/true")
			alive[p.UUID], at[p.UUID] = p, pod.InPrepare
		case 2:
			for uuid, p := range alive {
				ways := next[at[uuid]]
				if len(ways) == 0 {
					continue
				}
				to := ways[rng.IntN(len(ways))]
				if err := p.Move(to); err != nil {
					t.Fatal(err)
				}
				at[uuid] = to
				break
			}
		case 3: // a crash, or an end
			for uuid, p := range alive {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				delete(alive, uuid)
				break
			}
		case 4:
			o := GCOptions{GracePeriod: time.Hour, ExpirePrepared: time.Hour, MarkOnly: rng.IntN(2) == 0}
			if rng.IntN(4) == 0 {
				o = GCOptions{}
			}
			if _, err := gc(t, c, o); err != nil {
				t.Fatal(err)
			}
			after(at, alive, o)
		}
		if where := places(t, c); fmt.Sprint(where) != fmt.Sprint(at) {
			t.Fatalf("pods are at %v, want %v", where, at)
		}
	}
	for _, p := range alive {
		p.Close()
	}
	if _, err := gc(t, c, GCOptions{}); err != nil || podsLeft(t, c) != 0 {
		t.Errorf("%v, left: %v", err, places(t, c))
	}
}

// after is what a collection does, in a few words.
func after(at map[string]pod.Place, alive map[string]*pod.Pod, o GCOptions) {
	for uuid, place := range at {
		if alive[uuid] != nil {
			continue
		}
		if place == pod.InRun {
			place = pod.InExitedGarbage
		}
		if place == pod.InPrepare || place == pod.InPrepared && o.ExpirePrepared == 0 && !o.MarkOnly {
			place = pod.InGarbage
		}
		at[uuid] = place
		if !o.MarkOnly && (place == pod.InGarbage || place == pod.InExitedGarbage && o.GracePeriod == 0) {
			delete(at, uuid)
		}
	}
}
