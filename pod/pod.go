package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/flock"
	"github.com/rkt/rkt/internal/rmtree"
)

// ErrInUse says that somebody else holds a pod's lock.
var ErrInUse = errors.New("the pod is in use by another process")

// Pod is an open pod directory. It follows the pod when that is moved. One
// goroutine at a time may use it.
type Pod struct {
	UUID string

	pods     Pods
	place    Place
	lock     *flock.Lock
	held     bool // the lock is ours, exclusively
	dev, ino uint64
}

// newPod owns lock from here on.
func newPod(ps Pods, uuid string, place Place, lock *flock.Lock) (*Pod, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(lock.File().Fd()), &st); err != nil {
		return nil, errors.Join(&os.PathError{Op: "stat", Path: lock.File().Name(), Err: err}, lock.Close())
	}
	return &Pod{UUID: uuid, pods: ps, place: place, lock: lock, dev: st.Dev, ino: st.Ino}, nil
}

// Close drops the lock, if it is held here, and forgets the pod.
func (p *Pod) Close() error { return p.lock.Close() }

// Dir is the pod's directory, as far as is known: who does not hold the lock
// may find it moved.
func (p *Pod) Dir() string { return p.pods.path(p.place, p.UUID) }

// Place is where the pod was when last looked.
func (p *Pod) Place() Place { return p.place }

// Inherit makes the descriptor that holds the lock survive an exec, and
// returns its number.
func (p *Pod) Inherit() (int, error) { return p.lock.Inherit() }

// Phase says what the pod is doing now. It is Gone once the pod is deleted.
func (p *Pod) Phase() (Phase, error) {
	for {
		known := p.place
		held, err := p.isHeld()
		if err != nil {
			return "", fmt.Errorf("look at pod %s: %w", p.UUID, err)
		}
		err = p.locate()
		if errors.Is(err, ErrNotFound) {
			return Gone, nil
		}
		if err != nil {
			return "", fmt.Errorf("look at pod %s: %w", p.UUID, err)
		}
		// Moves go one way. So a pod that was at a place before and after the
		// look at the lock was there at that look.
		if p.place == known {
			return PhaseOf(p.place, held), nil
		}
	}
}

// isHeld reports whether anybody holds the lock exclusively. The share that it
// takes to find out lasts as short as possible: it is in TryLock's way.
func (p *Pod) isHeld() (bool, error) {
	if p.held {
		return true, nil
	}
	err := p.lock.TryShared()
	if errors.Is(err, flock.ErrLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, p.lock.Unlock()
}

// locate finds out where the pod is now, or that it is nowhere. It cannot be
// at an earlier place than where it was.
func (p *Pod) locate() error {
	places := Places()
	for _, place := range places[slices.Index(places, p.place):] {
		var st unix.Stat_t
		path := p.pods.path(place, p.UUID)
		err := unix.Lstat(path, &st)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &os.PathError{Op: "stat", Path: path, Err: err}
		}
		if err == nil && st.Dev == p.dev && st.Ino == p.ino {
			p.place = place
			return nil
		}
	}
	return ErrNotFound
}

// Observers hold a share of the lock for the instant of a look. That must not
// make a pod seem in use, so TryLock tries again for a while.
const (
	lockPause    = 200 * time.Microsecond
	lockPatience = 2 * time.Second
)

// TryLock takes the lock exclusively and finds out where the pod is. It fails
// with ErrInUse when another process holds it (a running pod's stage1, for
// one), and with ErrNotFound when the pod was deleted meanwhile.
func (p *Pod) TryLock() error {
	start := time.Now()
	for {
		err := p.lock.TryExclusive()
		if err == nil {
			break
		}
		if !errors.Is(err, flock.ErrLocked) {
			return fmt.Errorf("lock pod %s: %w", p.UUID, err)
		}
		err = p.lock.TryShared()
		if errors.Is(err, flock.ErrLocked) || time.Since(start) > lockPatience {
			return fmt.Errorf("lock pod %s: %w", p.UUID, ErrInUse)
		}
		if err != nil {
			return fmt.Errorf("lock pod %s: %w", p.UUID, err)
		}
		if err := p.lock.Unlock(); err != nil {
			return fmt.Errorf("lock pod %s: %w", p.UUID, err)
		}
		time.Sleep(lockPause) //nolint:forbidigo // the kernel has no event for a share that is given back
	}
	p.held = true
	if err := p.locate(); err != nil {
		return fmt.Errorf("lock pod %s: %w", p.UUID, err)
	}
	return nil
}

// Unlock gives the lock back and keeps the pod open.
func (p *Pod) Unlock() error {
	p.held = false
	return p.lock.Unlock()
}

// Move brings a locked pod to another place. Only the moves of the table in
// Documentation/devel/pod-lifecycle.md are possible.
func (p *Pod) Move(to Place) error {
	m, ok := moveOf(p.place, to)
	if !ok || !p.held {
		return fmt.Errorf("move pod %s: there is no way from %s to %s without its lock or against its life", p.UUID, p.place, to)
	}
	if m.durable && m.from == InPrepare {
		if err := p.sync(); err != nil {
			return fmt.Errorf("move pod %s to %s: %w", p.UUID, to, err)
		}
		failpoint.Hit("pod.prepared.synced")
	}
	if err := os.Rename(p.Dir(), p.pods.path(to, p.UUID)); err != nil {
		return fmt.Errorf("move pod %s to %s: %w", p.UUID, to, err)
	}
	p.place = to
	failpoint.Hit("pod." + string(to) + ".renamed")
	if !m.durable {
		return nil
	}
	for _, place := range []Place{m.to, m.from} {
		if err := atomicfile.SyncDir(filepath.Join(p.pods.dir, string(place))); err != nil {
			return fmt.Errorf("move pod %s to %s: %w", p.UUID, to, err)
		}
	}
	return nil
}

// sync brings every file and directory of the pod to the disk.
func (p *Pod) sync() error {
	return filepath.WalkDir(p.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && !d.Type().IsRegular() {
			return nil
		}
		return atomicfile.SyncDir(path) // fsync is the same for a file
	})
}

// Remove deletes a locked pod and closes it. It is first moved to garbage, so
// nobody ever meets a half deleted pod elsewhere, and what a crash leaves is
// known to be garbage. A pod that has run must have been released by its
// stage1 before.
func (p *Pod) Remove() error {
	defer func() { _ = p.Close() }()
	steps := []Place{InGarbage}
	switch p.place {
	case InRun:
		steps = []Place{InExitedGarbage, InGarbage}
	case InGarbage:
		steps = nil
	case InEmbryo, InPrepare, InPrepared, InExitedGarbage:
	}
	for _, to := range steps {
		if err := p.Move(to); err != nil {
			return err
		}
	}
	if err := rmtree.Remove(p.Dir()); err != nil {
		return fmt.Errorf("delete pod %s: %w", p.UUID, err)
	}
	return nil
}

// Changed is when the pod last moved, or a file was added to it.
func (p *Pod) Changed() (time.Time, error) {
	return changed(p.lock.File())
}
