package unpack

import (
	"context"
	_ "crypto/sha512" // a diffID may be one, though none is seen
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

const (
	chunkSize = 256 * kib
	chunks    = 8 // in flight between the stages
)

// stream is the uncompressed layer. Inflating, hashing and reading run at the
// same time, each in a goroutine of its own, and pass buffers on in a ring:
//
//	free -> inflate -> full -> sum -> ready -> Read -> free
type stream struct {
	free, full, ready chan chunk
	stop              chan struct{}
	done              sync.WaitGroup
	src               io.ReadCloser
	in                atomic.Int64 // bytes of the blob that were read
	size              int64        // bytes of the blob, as far as known
	limits            Limits
	algorithm         digest.Algorithm
	hash              hash.Hash

	now  chunk // that Read works on
	rest []byte
}

type chunk struct {
	data []byte
	err  error // after data
}

// openStream starts the stages. The stream must be closed.
func openStream(ctx context.Context, blob io.Reader, o Options) (*stream, error) {
	s := &stream{
		free: make(chan chunk, chunks), full: make(chan chunk, chunks), ready: make(chan chunk, chunks),
		stop: make(chan struct{}), limits: o.Limits.orDefault(), size: o.Size, algorithm: digest.Canonical,
	}
	if o.DiffID != "" {
		s.algorithm = o.DiffID.Algorithm()
	}
	s.hash = s.algorithm.Hash()
	if f, ok := blob.(*os.File); ok && s.size == 0 {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			s.size = st.Size()
		}
	}
	src, err := decompress(&compressed{ctx: ctx, r: blob, n: &s.in}, o.MediaType, &s.limits)
	if err != nil {
		return nil, err
	}
	s.src = src
	for range chunks {
		s.free <- chunk{data: make([]byte, 0, chunkSize)}
	}
	s.done.Go(s.inflate)
	s.done.Go(s.sum)
	return s, nil
}

// input is what the layer has cost its sender, by which expansion is judged.
func (s *stream) input() int64 { return max(s.in.Load(), s.size) }

func (s *stream) inflate() {
	var out int64
	for {
		c, ok := s.take(s.free)
		if !ok {
			return
		}
		buf := c.data[:cap(c.data)]
		n := 0
		for n < len(buf) && c.err == nil {
			var m int
			m, c.err = s.src.Read(buf[n:])
			n += m
		}
		out += int64(n)
		if err := s.limits.expand(out, s.input()); err != nil {
			c.err = err
		}
		c.data = buf[:n]
		if !s.give(s.full, c) || c.err != nil {
			return
		}
	}
}

func (s *stream) sum() {
	for {
		c, ok := s.take(s.full)
		if !ok {
			return
		}
		s.hash.Write(c.data)
		if !s.give(s.ready, c) || c.err != nil {
			return
		}
	}
}

func (s *stream) take(from chan chunk) (chunk, bool) {
	select {
	case c := <-from:
		return c, true
	case <-s.stop:
		return chunk{}, false
	}
}

func (s *stream) give(to chan chunk, c chunk) bool {
	select {
	case to <- c:
		return true
	case <-s.stop:
		return false
	}
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.now.err != nil {
			return 0, s.now.err
		}
		if s.now.data != nil {
			s.free <- chunk{data: s.now.data[:0]}
		}
		s.now = <-s.ready
		s.rest = s.now.data
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Digest is that of the whole stream, once Read has returned io.EOF.
func (s *stream) Digest() digest.Digest { return digest.NewDigest(s.algorithm, s.hash) }

// Close stops the stages and waits for them.
func (s *stream) Close() {
	close(s.stop)
	s.done.Wait()
	s.src.Close()
}

// compressed reads the blob, counts it, and ends when the context does.
type compressed struct {
	ctx context.Context
	r   io.Reader
	n   *atomic.Int64
}

func (c *compressed) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
