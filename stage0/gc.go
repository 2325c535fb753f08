package stage0

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/pod"
)

// GCOptions say what GC takes away.
type GCOptions struct {
	GracePeriod    time.Duration // how long exited pods stay to be looked at
	ExpirePrepared time.Duration // how long prepared pods may wait to be run
	MarkOnly       bool          // release and mark exited pods, delete nothing that is of use
}

// GCEvent is something that GC did to a pod.
type GCEvent struct {
	UUID string
	Did  GCAct
	Err  error // why it failed to, for GCFailed
}

// GCAct is a kind of GCEvent.
type GCAct int

// What GC does to pods.
const (
	GCMarked  GCAct = iota // moved to exited-garbage or garbage
	GCKept                 // not removed: within the grace period
	GCRemoved              // deleted
	GCFailed
)

// releasedFile says in a pod that has run that stage1 has released what the
// pod held on the host.
const releasedFile = "released"

// stage1Patience is how long a stage1 may take to release a pod.
const stage1Patience = 2 * time.Minute

// GC takes away what is left of pods that will not run any more, whatever
// moment their makers or runners were killed at. It tells report what it does.
// A pod that it cannot collect does not keep it from the others; the error
// says how many there were.
func GC(ctx context.Context, c Config, o GCOptions, report func(GCEvent)) error {
	g := &collector{ctx: ctx, pods: c.pods(), report: report}
	g.each(pod.InEmbryo, 0, g.remove)
	g.each(pod.InRun, 0, g.mark)
	g.each(pod.InPrepare, 0, g.discard)
	if !o.MarkOnly {
		g.each(pod.InPrepared, o.ExpirePrepared, g.discard)
		g.each(pod.InExitedGarbage, o.GracePeriod, g.sweep)
		g.each(pod.InGarbage, 0, g.remove)
	}
	if err := collectCache(c.Dir); err != nil {
		g.fail("", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if g.failed > 0 {
		return fmt.Errorf("%d thing(s) could not be collected", g.failed)
	}
	return nil
}

type collector struct {
	ctx    context.Context
	pods   pod.Pods
	report func(GCEvent)
	failed int
}

// each calls act, with their lock, for all pods at a place that nobody holds
// and that have not been moved for some time.
func (g *collector) each(place pod.Place, age time.Duration, act func(*pod.Pod) error) {
	uuids, err := g.pods.At(place)
	if err != nil {
		g.fail("", err)
	}
	for _, uuid := range uuids {
		if g.ctx.Err() != nil {
			return
		}
		err := g.one(place, uuid, age, act)
		if errors.Is(err, pod.ErrNotFound) || errors.Is(err, pod.ErrInUse) {
			continue // somebody else sees to it
		}
		if err != nil {
			g.fail(uuid, err)
		}
	}
}

func (g *collector) one(place pod.Place, uuid string, age time.Duration, act func(*pod.Pod) error) error {
	p, err := g.pods.Open(uuid)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	// The lock is not taken in vain: somebody may be about to run the pod.
	young, err := younger(p, age)
	if err != nil {
		return err
	}
	if young {
		if place == pod.InExitedGarbage {
			g.report(GCEvent{UUID: uuid, Did: GCKept})
		}
		return nil
	}
	if err := p.TryLock(); err != nil {
		return err
	}
	if p.Place() != place {
		return nil // moved on since; its new place is looked at later, or by another gc
	}
	return act(p)
}

func (g *collector) fail(uuid string, err error) {
	g.failed++
	g.report(GCEvent{UUID: uuid, Did: GCFailed, Err: err})
}

// mark puts an exited pod aside and has its stage1 release it at once.
func (g *collector) mark(p *pod.Pod) error {
	if err := p.Move(pod.InExitedGarbage); err != nil {
		return err
	}
	g.report(GCEvent{UUID: p.UUID, Did: GCMarked})
	return release(g.ctx, p)
}

// discard puts a pod that was never finished, or never run, into garbage.
func (g *collector) discard(p *pod.Pod) error {
	if err := p.Move(pod.InGarbage); err != nil {
		return err
	}
	g.report(GCEvent{UUID: p.UUID, Did: GCMarked})
	return nil
}

// younger reports whether a pod was moved less than some time ago. A time in
// the future tells nothing: the clock was set back since.
func younger(p *pod.Pod, limit time.Duration) (bool, error) {
	if limit <= 0 {
		return false, nil
	}
	since, err := p.Changed()
	return err == nil && time.Since(since).Abs() < limit, err
}

// sweep deletes an exited pod.
func (g *collector) sweep(p *pod.Pod) error {
	if err := release(g.ctx, p); err != nil {
		return err
	}
	return g.remove(p)
}

func (g *collector) remove(p *pod.Pod) error {
	if err := p.Remove(); err != nil {
		return err
	}
	g.report(GCEvent{UUID: p.UUID, Did: GCRemoved})
	return nil
}

// release has the stage1 of a dead pod take away what the pod may still hold
// on the host. Once is enough.
func release(ctx context.Context, p *pod.Pod) error {
	_, err := p.ReadFile(releasedFile, 1)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stage1Patience)
	defer cancel()
	if err := runStage1(ctx, p, "gc"); err != nil {
		return err
	}
	failpoint.Hit("stage0.gc.released")
	return p.Create(releasedFile, nil)
}

// lock takes a pod's lock, and waits for a collector that has it. It gives the
// phase that the pod is in if somebody keeps the lock.
func lock(p *pod.Pod) (pod.Phase, error) {
	patience := map[pod.Phase]time.Duration{
		pod.Prepared:       collectorPatience,
		pod.ExitedDeleting: stage1Patience,
		pod.Deleting:       collectorPatience,
		pod.Running:        markPatience,
	}
	for start := time.Now(); ; time.Sleep(lockPause) { //nolint:forbidigo // the lock can be waited for, but not for a time only
		err := p.TryLock()
		if !errors.Is(err, pod.ErrInUse) {
			return "", err
		}
		phase, perr := p.Phase()
		if perr != nil {
			return "", perr
		}
		if time.Since(start) >= patience[phase] {
			return phase, err
		}
	}
}

// How long a collector may have a pod's lock. An exited pod that it is about to
// mark looks as if it was running.
const (
	collectorPatience = 2 * time.Second
	markPatience      = 50 * time.Millisecond
	lockPause         = time.Millisecond
)

// Remove deletes a pod that does not run.
func Remove(ctx context.Context, c Config, uuid string) (whole string, err error) {
	p, err := c.pods().Find(uuid)
	if err != nil {
		return "", err
	}
	defer func() { _ = p.Close() }()
	phase, err := lock(p)
	switch {
	case errors.Is(err, pod.ErrNotFound):
		return p.UUID, nil // somebody else was faster
	case errors.Is(err, pod.ErrInUse) && phase == pod.Running:
		return p.UUID, fmt.Errorf("pod %s is running, stop it first with 'rkt stop %s'", p.UUID, p.UUID)
	case errors.Is(err, pod.ErrInUse):
		return p.UUID, fmt.Errorf("pod %s is being worked on, it is %s", p.UUID, phase)
	case err != nil:
		return p.UUID, err
	}
	if p.Place() == pod.InRun {
		if err := p.Move(pod.InExitedGarbage); err != nil {
			return p.UUID, err
		}
	}
	if p.Place() == pod.InExitedGarbage {
		if err := release(ctx, p); err != nil {
			return p.UUID, err
		}
	}
	return p.UUID, p.Remove()
}
