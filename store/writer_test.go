package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func mustWriter(t *testing.T, l *Lease, desc ocispec.Descriptor) *Writer {
	t.Helper()
	w, err := l.Writer(desc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestWriterResumes(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	half := len(data) / 2
	for name, c := range map[string]struct {
		left   []byte // what an earlier Writer left
		offset int
		commit error // after writing the rest
	}{
		"nothing":            {nil, 0, nil},
		"half":               {data[:half], half, nil},
		"all":                {data, len(data), nil},
		"more than all":      {append(bytes.Clone(data), 0), 0, nil},
		"half, damaged":      {make([]byte, half), half, ErrMismatch},
		"all of another one": {make([]byte, len(data)), len(data), ErrMismatch},
	} {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			t.Run(name+" "+algorithm.String(), func(t *testing.T) {
				s := newStore(t)
				l := openLease(t, s)
				desc := ocispec.Descriptor{Digest: algorithm.FromBytes(data), Size: int64(len(data))}
				if c.left != nil {
					path := s.path("partial", algorithm.String()+"-"+desc.Digest.Encoded())
					if err := os.WriteFile(path, c.left, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				w := mustWriter(t, l, desc)
				if w.Offset() != int64(c.offset) {
					t.Errorf("Offset = %d, want %d", w.Offset(), c.offset)
				}
				if _, err := w.Write(data[w.Offset():]); err != nil {
					t.Fatal(err)
				}
				if err := w.Commit(); !errors.Is(err, c.commit) {
					t.Fatalf("Commit = %v, want %v", err, c.commit)
				}
				_ = w.Close()
				if c.commit != nil {
					again := mustWriter(t, l, desc)
					if again.Offset() != 0 {
						t.Fatalf("after a mismatch Offset = %d, want 0", again.Offset())
					}
					if _, err := again.Write(data); err != nil {
						t.Fatal(err)
					}
					if err := again.Commit(); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := s.ReadBlob(desc); err != nil || !bytes.Equal(got, data) {
					t.Errorf("ReadBlob = %d bytes, %v", len(got), err)
				}
				checkPartials(t, s, 0)
			})
		}
	}
}

func checkPartials(t *testing.T, s *Store, want int) {
	t.Helper()
	entries, err := os.ReadDir(s.path("partial"))
	if err != nil || len(entries) != want {
		t.Errorf("partial holds %v, %v, want %d files", entries, err, want)
	}
}

func TestWriterRefuses(t *testing.T) {
	data := []byte("the content")
	desc := descOf(data)
	for name, c := range map[string]struct {
		write   []byte
		writing error
		commit  error
		kept    int64 // by Close, for the next Writer
	}{
		"too much":        {append(bytes.Clone(data), '!'), ErrMismatch, os.ErrClosed, 0},
		"another content": {bytes.ToUpper(data), nil, ErrMismatch, 0},
		"too little":      {data[:3], nil, io.ErrUnexpectedEOF, 3},
		"nothing":         {nil, nil, io.ErrUnexpectedEOF, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			l := openLease(t, s)
			w := mustWriter(t, l, desc)
			if _, err := w.Write(c.write); !errors.Is(err, c.writing) {
				t.Errorf("Write = %v, want %v", err, c.writing)
			}
			if err := w.Commit(); !errors.Is(err, c.commit) {
				t.Errorf("Commit = %v, want %v", err, c.commit)
			}
			if s.HasBlob(desc.Digest, 0) {
				t.Error("the blob appeared")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if c.kept == 0 {
				checkPartials(t, s, 0)
			}
			if next := mustWriter(t, l, desc); next.Offset() != c.kept {
				t.Errorf("next Offset = %d, want %d", next.Offset(), c.kept)
			}
		})
	}
}

func TestWriterDiscard(t *testing.T) {
	s := newStore(t)
	w := mustWriter(t, openLease(t, s), descOf([]byte("content")))
	if _, err := w.Write([]byte("cont")); err != nil {
		t.Fatal(err)
	}
	w.Discard()
	checkPartials(t, s, 0)
	if _, err := w.Write([]byte("ent")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Discard = %v", err)
	}
	if err := w.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit after Discard = %v", err)
	}
}

func TestWriterOfExistingBlob(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	data := []byte("content")
	if err := writeBlob(l, data); err != nil {
		t.Fatal(err)
	}
	w := mustWriter(t, l, descOf(data))
	if w.Offset() != int64(len(data)) {
		t.Errorf("Offset = %d", w.Offset())
	}
	if _, err := w.Write([]byte("more")); !errors.Is(err, ErrMismatch) {
		t.Errorf("Write = %v", err)
	}
	if err := mustWriter(t, l, descOf(data)).Commit(); err != nil {
		t.Errorf("Commit = %v", err)
	}
	if _, err := s.ReadBlob(descOf(data)); err != nil {
		t.Error(err)
	}
}

// TestWriterAlone lets several writers come for one blob: one writes it, the
// others wait and find it done.
func TestWriterAlone(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	data := bytes.Repeat([]byte("x"), 1<<20)
	first := mustWriter(t, l, descOf(data))
	var others sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		others.Go(func() {
			w, err := l.Writer(descOf(data))
			if err != nil {
				t.Error(err)
				return
			}
			if w.Offset() != int64(len(data)) {
				t.Errorf("second writer has to write from %d", w.Offset())
			}
			if err := w.Commit(); err != nil {
				t.Error(err)
			}
			_ = w.Close()
		})
	}
	go func() { others.Wait(); close(done) }()
	select {
	case <-done:
		t.Error("other writers did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := first.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("other writers still wait")
	}
	checkPartials(t, s, 0)
}

func TestLease(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	data := []byte("content")
	if there, err := l.HasBlob(descOf(data)); there || err != nil {
		t.Errorf("HasBlob = %v, %v", there, err)
	}
	if err := writeBlob(l, data); err != nil {
		t.Fatal(err)
	}
	if there, err := l.HasBlob(descOf(data)); !there || err != nil {
		t.Errorf("HasBlob = %v, %v", there, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := l.HasBlob(descOf(data)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("HasBlob after Close = %v", err)
	}
	if _, err := l.Writer(descOf(data)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Writer after Close = %v", err)
	}
	entries, err := os.ReadDir(s.path("locks"))
	if err != nil || len(entries) != 2 {
		t.Errorf("locks holds %v, %v", entries, err)
	}
}

// TestWriterAloneAfterDiscard lets writers wait for one that gives up and
// removes the file they wait for.
func TestWriterAloneAfterDiscard(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	data := []byte("content")
	var all sync.WaitGroup
	var writing, wrote atomic.Int32
	for range 16 {
		all.Go(func() {
			w, err := l.Writer(descOf(data))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = w.Close() }()
			if w.Offset() == int64(len(data)) {
				return
			}
			if writing.Add(1) > 1 || w.Offset() != 0 {
				t.Errorf("%d write the same blob, from %d", writing.Load(), w.Offset())
			}
			if _, err := w.Write(data); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond) // for the others to come
			first := wrote.Add(1) < 8
			writing.Add(-1)
			if first {
				w.Discard()
			} else if err := w.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if wrote.Load() != 8 {
		t.Errorf("%d wrote the blob, want 8: all but the last one gave up", wrote.Load())
	}
	if _, err := s.ReadBlob(descOf(data)); err != nil {
		t.Error(err)
	}
	checkPartials(t, s, 0)
}
