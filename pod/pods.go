package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/flock"
)

// ErrNotFound says that there is no such pod, or no longer.
var ErrNotFound = errors.New("pod not found")

// Pods are all pods of one data directory.
type Pods struct{ dir string }

// In gives the pods below a data directory (--dir). Nothing is read or made.
func In(dataDir string) Pods { return Pods{filepath.Join(dataDir, "pods")} }

func (ps Pods) path(place Place, uuid string) string {
	return ps.dir + "/" + string(place) + "/" + uuid
}

// makePlaces makes the directories of all places, embryo last: who finds that
// one finds them all.
func (ps Pods) makePlaces() error {
	for _, place := range slices.Backward(Places()) {
		if err := os.MkdirAll(filepath.Join(ps.dir, string(place)), 0o750); err != nil {
			return err
		}
	}
	return nil
}

// Create makes an empty pod. It is in prepare and locked, so it is the
// caller's alone until it is moved on or closed.
func (ps Pods) Create() (*Pod, error) {
	// A collector may take away an embryo between the steps that make it and
	// lock it. Then the next UUID has better luck.
	const attempts = 16
	for n := 1; ; n++ {
		p, err := ps.create()
		if errors.Is(err, fs.ErrNotExist) && n < attempts {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("create pod: %w", err)
		}
		return p, nil
	}
}

func (ps Pods) create() (*Pod, error) {
	uuid, err := newUUID()
	if err != nil {
		return nil, err
	}
	dir := ps.path(InEmbryo, uuid)
	err = os.Mkdir(dir, 0o750)
	if errors.Is(err, fs.ErrNotExist) {
		if err := ps.makePlaces(); err != nil {
			return nil, err
		}
		err = os.Mkdir(dir, 0o750)
	}
	if err != nil {
		return nil, err
	}
	failpoint.Hit("pod.embryo.made")
	lock, err := flock.Open(dir)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	if err := lock.Exclusive(); err != nil {
		return nil, errors.Join(err, lock.Close(), os.Remove(dir))
	}
	p, err := newPod(ps, uuid, InEmbryo, lock)
	if err != nil {
		return nil, err
	}
	p.held = true
	failpoint.Hit("pod.embryo.locked")
	if err := p.Move(InPrepare); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Open opens the pod with a UUID, not locked, wherever it is.
func (ps Pods) Open(uuid string) (*Pod, error) {
	return ps.openIn(uuid, Places())
}

func (ps Pods) openIn(uuid string, places []Place) (*Pod, error) {
	for _, place := range places {
		lock, err := flock.Open(ps.path(place, uuid))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open pod %s: %w", uuid, err)
		}
		return newPod(ps, uuid, place, lock)
	}
	return nil, fmt.Errorf("open pod %s: %w", uuid, ErrNotFound)
}

// visible are the places whose pods people see and name.
func visible() []Place { return []Place{InPrepare, InPrepared, InRun, InExitedGarbage} }

// Find opens, not locked, the one pod whose UUID starts with prefix, in upper
// or lower case. Pods being created or deleted are not looked at.
func (ps Pods) Find(prefix string) (*Pod, error) {
	lower := strings.ToLower(strings.TrimSpace(prefix))
	if lower == "" {
		return nil, errors.New("UUID cannot be empty")
	}
	if IsUUID(lower) {
		p, err := ps.openIn(lower, visible())
		if errors.Is(err, ErrNotFound) {
			return nil, noMatch(prefix)
		}
		return p, err
	}
	all, err := ps.UUIDs()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(uuid string) bool { return !strings.HasPrefix(uuid, lower) })
	switch len(all) {
	case 0:
		return nil, noMatch(prefix)
	case 1:
		p, err := ps.openIn(all[0], visible())
		if errors.Is(err, ErrNotFound) { // it went away just now
			return nil, noMatch(prefix)
		}
		return p, err
	default:
		return nil, fmt.Errorf("UUID %q is ambiguous: it matches %s; give more of it", prefix, few(all))
	}
}

// few joins the first names of a list.
func few(names []string) string {
	const shown = 4
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return strings.Join(names, ", ")
}

func noMatch(prefix string) error {
	return &noMatchError{prefix}
}

type noMatchError struct{ prefix string }

func (e *noMatchError) Error() string {
	return fmt.Sprintf("no matches found for %q, see 'rkt list' for the pods that there are", e.prefix)
}

func (e *noMatchError) Unwrap() error { return ErrNotFound }

// UUIDs lists the pods that people see, sorted.
func (ps Pods) UUIDs() ([]string, error) {
	found, err := ps.scan()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// scan finds the pods that people see, each with a place where it was or that
// it has passed.
func (ps Pods) scan() (map[string]Place, error) {
	found := map[string]Place{}
	for _, place := range visible() {
		uuids, err := ps.At(place)
		if err != nil {
			return nil, err
		}
		for _, uuid := range uuids {
			found[uuid] = place
		}
	}
	return found, nil
}

// At lists the UUIDs of the pods at one place, in no order.
func (ps Pods) At(place Place) ([]string, error) {
	dir, err := os.Open(filepath.Join(ps.dir, string(place)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return !IsUUID(n) }), nil
}
