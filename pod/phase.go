package pod

// Place is the directory below pods/ that holds a pod.
type Place string

// The places. A pod only ever moves from one to a later one.
const (
	InEmbryo        Place = "embryo"
	InPrepare       Place = "prepare"
	InPrepared      Place = "prepared"
	InRun           Place = "run"
	InExitedGarbage Place = "exited-garbage"
	InGarbage       Place = "garbage"
)

// Places lists them in that order. Who looks for a pod in this order finds it
// even if it moves meanwhile.
func Places() []Place {
	return []Place{InEmbryo, InPrepare, InPrepared, InRun, InExitedGarbage, InGarbage}
}

// Phase is what a pod is doing. It follows from its place and from whether
// somebody holds its lock exclusively, and from nothing else.
type Phase string

// The phases, in the words that list and status print.
const (
	Embryo          Phase = "embryo"
	AbandonedEmbryo Phase = "abandoned embryo"
	Preparing       Phase = "preparing"
	AbortedPrepare  Phase = "aborted prepare"
	Prepared        Phase = "prepared"
	Running         Phase = "running"
	Exited          Phase = "exited"
	ExitedDeleting  Phase = "exited deleting"
	ExitedGarbage   Phase = "exited garbage"
	Deleting        Phase = "deleting"
	Garbage         Phase = "garbage"
	Gone            Phase = "gone" // the pod is nowhere
)

// phaseRow is one place: the phase with the lock held, and without.
type phaseRow struct {
	place      Place
	held, free Phase
}

// phaseTable is the table of Documentation/devel/pod-lifecycle.md.
func phaseTable() []phaseRow {
	return []phaseRow{
		{InEmbryo, Embryo, AbandonedEmbryo},
		{InPrepare, Preparing, AbortedPrepare},
		{InPrepared, Prepared, Prepared},
		{InRun, Running, Exited},
		{InExitedGarbage, ExitedDeleting, ExitedGarbage},
		{InGarbage, Deleting, Garbage},
	}
}

// PhaseOf is the phase of a pod at a place; held says that its lock is held.
func PhaseOf(place Place, held bool) Phase {
	for _, row := range phaseTable() {
		if row.place != place {
			continue
		}
		if held {
			return row.held
		}
		return row.free
	}
	return Gone
}

// Dead reports whether the pod has run and will never run again.
func (p Phase) Dead() bool {
	return p == Exited || p == ExitedDeleting || p == ExitedGarbage || p == Deleting || p == Garbage || p == Gone
}

// moveRow is one permitted move. A durable one has reached the disk when Move
// returns; the others may be undone by a power cut, which is as good as not
// having happened (Documentation/devel/decisions/0003-fsync-only-what-survives.md).
type moveRow struct {
	from, to Place
	durable  bool
}

// moveTable is the second table of Documentation/devel/pod-lifecycle.md.
func moveTable() []moveRow {
	return []moveRow{
		{InEmbryo, InPrepare, false},
		{InEmbryo, InGarbage, false},
		{InPrepare, InPrepared, true},
		{InPrepare, InRun, false},
		{InPrepare, InGarbage, false},
		{InPrepared, InRun, true},
		{InPrepared, InGarbage, false},
		{InRun, InExitedGarbage, false},
		{InExitedGarbage, InGarbage, false},
	}
}

func moveOf(from, to Place) (moveRow, bool) {
	for _, m := range moveTable() {
		if m.from == from && m.to == to {
			return m, true
		}
	}
	return moveRow{}, false
}
