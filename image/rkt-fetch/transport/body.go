package transport

import (
	"context"
	"io"
	"sync"
	"time"
)

// enough is how many bytes count as a sign of life: a server that drips one
// byte before each time-out would otherwise keep a fetch for years.
const enough = 4 << 10

// watch cancels when too little comes for too long. It runs only while
// somebody waits for the server, so a slow disk is not blamed on it.
type watch struct {
	mu      sync.Mutex
	stall   time.Duration
	left    time.Duration
	since   time.Time
	got     int
	timer   *time.Timer
	stopped bool
}

func newWatch(stall time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{stall: stall, left: stall}
	w.timer = time.AfterFunc(time.Hour, func() { cancel(errStalled) })
	w.timer.Stop()
	return w
}

func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.since = time.Now()
	w.timer.Reset(max(w.left, time.Millisecond))
}

func (w *watch) pause(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.left -= time.Since(w.since)
	w.got += n
	if w.got >= enough {
		w.got, w.left = 0, w.stall
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

// body is a response body under watch and limit. The first error is final.
type body struct {
	inner io.ReadCloser
	host  string
	limit int64
	left  int64
	ctx   context.Context
	watch *watch
	stall time.Duration
	end   func()
	err   error
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.watch.resume()
	n, err := b.inner.Read(p)
	b.watch.pause(n)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		b.err = &Error{Host: b.host, What: "sends more than the allowed " + byteCount(b.limit)}
		n = 0
	case err == io.EOF:
		b.err = io.EOF
	case err != nil:
		b.err = explain(b.host, "", err, context.Cause(b.ctx), b.stall)
	}
	if b.err != nil {
		b.end()
	}
	return n, b.err
}

func (b *body) Close() error {
	b.end()
	return b.inner.Close()
}
