package pod

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// Info is what there is to say about a pod at one moment.
type Info struct {
	UUID  string
	Phase Phase
	// Manifest is nil while it is not written yet, and when Err says why it
	// cannot be read.
	Manifest *Manifest
	// Apps are the states of Manifest.Apps, in the same order.
	Apps []AppStatus
	// Pid is that of stage1 while the pod runs.
	Pid int
	// Started and Finished are zero as long as that has not happened, or when
	// a crash left no trace of it.
	Started, Finished time.Time
	// Err says what could not be found out.
	Err error
}

// Info looks at the pod.
func (p *Pod) Info() (Info, error) {
	phase, err := p.Phase()
	for {
		if err != nil {
			return Info{}, err
		}
		if phase == Gone {
			return Info{}, ErrNotFound
		}
		info := p.infoIn(phase)
		if info.Err == nil {
			return info, nil
		}
		// What went wrong may be due to a move or a deletion since.
		before := phase
		if phase, err = p.Phase(); err == nil && phase == before {
			return info, nil
		}
	}
}

func (p *Pod) infoIn(phase Phase) Info {
	info := Info{UUID: p.UUID, Phase: phase}
	var err error
	info.Manifest, err = p.Manifest()
	switch {
	case err == nil:
		info.Err = p.describe(&info)
	case phase == Preparing || phase == AbortedPrepare: // it is being written, or never was
	default:
		info.Err = err
	}
	return info
}

// describe adds what the files beside a good manifest say.
func (p *Pod) describe(info *Info) error {
	pid, started, err := p.Pid()
	errs := []error{err}
	info.Started = started
	if info.Phase == Running {
		info.Pid = pid
	}
	for _, app := range info.Manifest.Apps {
		st, err := p.AppStatus(app.Name)
		errs = append(errs, err)
		if info.Phase.Dead() {
			st = st.dead()
			if st.Finished != nil && st.Finished.After(info.Finished) {
				info.Finished = *st.Finished
			}
		}
		info.Apps = append(info.Apps, st)
	}
	return errors.Join(errs...)
}

// dead corrects what init could not write any more: no app of a dead pod runs.
func (s AppStatus) dead() AppStatus {
	if s.State == AppRunning {
		s.State = AppExited
	}
	s.Pid = 0
	return s
}

// List looks at all pods that people see, sorted by UUID. A pod that cannot be
// looked at is in the list with its Err; one that is deleted meanwhile is not.
func (ps Pods) List() ([]Info, error) {
	found, err := ps.scan()
	if err != nil {
		return nil, err
	}
	list := make([]Info, 0, len(found))
	for _, uuid := range slices.Sorted(maps.Keys(found)) {
		info, err := ps.look(uuid, found[uuid])
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			info = Info{UUID: uuid, Err: err}
		}
		if info.Phase == Garbage || info.Phase == Deleting {
			continue
		}
		list = append(list, info)
	}
	return list, nil
}

// look looks at a pod that was seen at a place.
func (ps Pods) look(uuid string, seen Place) (Info, error) {
	places := Places()
	p, err := ps.openIn(uuid, places[slices.Index(places, seen):])
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = p.Close() }()
	return p.Info()
}
