package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/rkt/rkt/image/rkt-fetch/pull"
)

// progress is a pull.Progress that ends.
type progress interface {
	pull.Progress
	close()
}

// newProgress draws bars on a terminal and writes lines elsewhere.
func newProgress(out *os.File, quiet bool) progress {
	switch {
	case quiet:
		return nothing{}
	case term.IsTerminal(int(out.Fd())):
		return &bars{container: mpb.New(mpb.WithOutput(out), mpb.WithWidth(48))}
	}
	return &lines{out: out}
}

// nothing is shown with --quiet.
type nothing struct{}

func (nothing) Note(string)                           {}
func (nothing) Layer(digest.Digest, int64) pull.Track { return nothing{} }
func (nothing) At(int64)                              {}
func (nothing) Unpacking()                            {}
func (nothing) Done()                                 {}
func (nothing) close()                                {}

// lines says when a layer is done.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) Note(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.out, line)
}

func (l *lines) Layer(d digest.Digest, size int64) pull.Track {
	return &line{to: l, text: fmt.Sprintf("layer %s: % .1f", short(d), decor.SizeB1024(size)), size: size}
}

func (l *lines) close() {}

type line struct {
	to   *lines
	text string
	size int64
	at   atomic.Int64
	once sync.Once
}

func (l *line) At(offset int64) { l.at.Store(offset) }
func (l *line) Unpacking()      {}

func (l *line) Done() {
	if l.at.Load() == l.size {
		l.once.Do(func() { l.to.Note(l.text) })
	}
}

// bars is one bar for each layer.
type bars struct {
	container *mpb.Progress
	pending   atomic.Int64
}

func (b *bars) Note(line string) { fmt.Fprintln(b.container, line) }

func (b *bars) Layer(d digest.Digest, size int64) pull.Track {
	t := &bar{size: size, pending: &b.pending}
	b.pending.Add(1)
	// One more than there is: the bar ends with the unpacking.
	t.bar = b.container.AddBar(size+1,
		mpb.PrependDecorators(
			decor.Name(short(d), decor.WCSyncSpaceR),
			decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace),
		),
		mpb.AppendDecorators(decor.Any(t.state)),
	)
	return t
}

func (b *bars) close() {
	if b.pending.Load() == 0 {
		b.container.Wait() // draws what has ended since the last time
		return
	}
	b.container.Shutdown()
}

type bar struct {
	bar       *mpb.Bar
	size      int64
	unpacking atomic.Bool
	pending   *atomic.Int64
	once      sync.Once
}

func (t *bar) At(offset int64) { t.bar.SetCurrent(min(offset, t.size)) }
func (t *bar) Unpacking()      { t.unpacking.Store(true) }

func (t *bar) Done() {
	t.once.Do(func() {
		t.bar.SetCurrent(t.size + 1)
		t.pending.Add(-1)
	})
}

func (t *bar) state(s decor.Statistics) string {
	switch {
	case s.Completed:
		return "done"
	case t.unpacking.Load():
		return "unpacking"
	case s.Current >= t.size:
		return "waiting"
	}
	return "fetching"
}

func short(d digest.Digest) string {
	const digits = 12
	return d.Encoded()[:digits]
}
