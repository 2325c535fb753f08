package store

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/flock"
)

// ErrMismatch says that what was written into a Writer is not the blob that
// its descriptor promised. Nothing of it is kept.
var ErrMismatch = errors.New("does not match its descriptor")

// flushEvery is how much a Writer lets pile up before the kernel is told to
// start writing, so that Commit has little left to wait for.
const flushEvery = 16 << 20

// Writer takes the bytes of one blob, in order, from the offset that is there
// already. The blob appears in the store by Commit or not at all. A Writer
// belongs to one goroutine; it must be closed.
type Writer struct {
	s      *Store
	desc   ocispec.Descriptor
	final  string
	lock   *flock.Lock // of the partial file; nil when there is nothing (more) to do
	hash   hash.Hash
	offset int64
	queued int64 // up to where the kernel was told to write
	broken bool  // the partial file is of no use to the next Writer
}

// openWriter opens the partial file of a blob, alone.
func (s *Store) openWriter(desc ocispec.Descriptor) (*Writer, error) {
	algorithm, hex, err := splitDigest(desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("store blob: %w", err)
	}
	if desc.Size < 0 {
		return nil, fmt.Errorf("store blob %s: its size is %d", desc.Digest, desc.Size)
	}
	w := &Writer{s: s, desc: desc, final: s.path("images", "blobs", algorithm, hex)}
	partial := s.path("partial", algorithm+"-"+hex)
	for {
		if s.complete(desc) {
			w.offset = desc.Size
			return w, nil
		}
		lock, err := flock.Create(partial, filePerm)
		if err != nil {
			return nil, fmt.Errorf("store blob %s: %w", desc.Digest, err)
		}
		// While we waited, the file may have become the blob, or garbage.
		ours := false
		if err = lock.Exclusive(); err == nil {
			ours, err = lock.Is(partial)
		}
		if ours && !s.complete(desc) {
			w.lock = lock
			break
		}
		if ours {
			_ = os.Remove(partial)
		}
		_ = lock.Close()
		if err != nil {
			return nil, fmt.Errorf("store blob %s: %w", desc.Digest, err)
		}
	}
	failpoint.Hit("store.blob.opened")
	if err := w.resume(); err != nil {
		w.Discard()
		return nil, err
	}
	return w, nil
}

// complete is HasBlob where a size of 0 means an empty blob.
func (s *Store) complete(desc ocispec.Descriptor) bool {
	path, err := s.blobPath(desc.Digest)
	if err != nil {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == desc.Size
}

// resume hashes what an earlier Writer left.
func (w *Writer) resume() error {
	info, err := w.lock.File().Stat()
	if err != nil {
		return w.fail(err)
	}
	if !info.Mode().IsRegular() || info.Size() > w.desc.Size {
		return w.restart()
	}
	w.hash = w.desc.Digest.Algorithm().Hash()
	if w.offset, err = io.Copy(w.hash, w.lock.File()); err != nil {
		return w.fail(err)
	}
	return nil
}

// restart throws away what an earlier Writer left.
func (w *Writer) restart() error {
	f := w.lock.File()
	if err := f.Truncate(0); err != nil {
		return w.fail(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return w.fail(err)
	}
	w.hash, w.offset, w.queued = w.desc.Digest.Algorithm().Hash(), 0, 0
	return nil
}

// Offset is how many bytes of the blob are there, which the next Write must
// continue. At the start that is what an earlier Writer left, killed or not;
// after a power cut part of that may be damaged, which Commit finds out. When
// Offset is the whole size, only Commit is left to do.
func (w *Writer) Offset() int64 { return w.offset }

// Write adds to the blob. It refuses to go beyond the promised size.
func (w *Writer) Write(p []byte) (int, error) {
	if w.offset+int64(len(p)) > w.desc.Size {
		w.broken = true
		return 0, fmt.Errorf("blob %s %w: it has more than %d bytes", w.desc.Digest, ErrMismatch, w.desc.Size)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if w.lock == nil {
		return 0, fmt.Errorf("store blob %s: %w", w.desc.Digest, os.ErrClosed)
	}
	n, err := w.lock.File().Write(p)
	w.hash.Write(p[:n])
	w.offset += int64(n)
	failpoint.Hit("store.blob.written")
	if err != nil {
		// Leaving a partial blob on a full disk would only keep it full.
		w.broken = w.broken || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
		return n, w.fail(err)
	}
	if w.offset-w.queued >= flushEvery {
		// Only a hint; a file system that cannot do it is none the worse.
		_ = unix.SyncFileRange(int(w.lock.File().Fd()), w.queued, w.offset-w.queued, unix.SYNC_FILE_RANGE_WRITE)
		w.queued = w.offset
	}
	return n, nil
}

// Commit verifies size and digest, and makes the blob appear, durably. What
// has a wrong digest is thrown away (ErrMismatch): if Offset was not 0 at the
// start, writing it again from 0 may succeed. What is too short is kept for
// the next Writer (io.ErrUnexpectedEOF).
func (w *Writer) Commit() error {
	if w.lock == nil && w.offset == w.desc.Size && !w.broken {
		return nil
	}
	if w.lock == nil || w.broken {
		return fmt.Errorf("store blob %s: %w", w.desc.Digest, os.ErrClosed)
	}
	if w.offset != w.desc.Size {
		return fmt.Errorf("store blob %s: only %d of %d bytes came: %w", w.desc.Digest, w.offset, w.desc.Size, io.ErrUnexpectedEOF)
	}
	if got := digest.NewDigest(w.desc.Digest.Algorithm(), w.hash); got != w.desc.Digest {
		w.broken = true
		return fmt.Errorf("blob %s %w: it has the digest %s", w.desc.Digest, ErrMismatch, got)
	}
	f := w.lock.File()
	if err := f.Sync(); err != nil {
		w.broken = true // the kernel may have dropped the pages that it could not write
		return w.fail(err)
	}
	failpoint.Hit("store.blob.synced")
	dir := filepath.Dir(w.final)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := w.s.makeDir(dir); err != nil {
			return w.fail(err)
		}
	}
	if err := os.Rename(f.Name(), w.final); err != nil {
		return w.fail(err)
	}
	failpoint.Hit("store.blob.renamed")
	if err := atomicfile.SyncDir(dir); err != nil {
		return w.fail(err)
	}
	err := w.lock.Close()
	w.lock = nil
	return err
}

// Close ends a Writer without Commit, and keeps what was written so that a
// later Writer can continue, unless that is known to be useless. After Commit
// it does nothing.
func (w *Writer) Close() error {
	if w.lock == nil {
		return nil
	}
	if w.broken || w.offset == 0 {
		w.Discard()
		return nil
	}
	err := w.lock.Close()
	w.lock, w.broken = nil, true
	return err
}

// Discard ends a Writer without Commit and keeps nothing.
func (w *Writer) Discard() {
	if w.lock == nil {
		return
	}
	// If Commit came as far as renaming it, the name is free for others.
	if ours, _ := w.lock.Is(w.lock.File().Name()); ours {
		_ = os.Remove(w.lock.File().Name())
	}
	_ = w.lock.Close()
	w.lock, w.broken = nil, true
}

func (w *Writer) fail(err error) error {
	var file *os.PathError
	if errors.As(err, &file) {
		err = file.Err
	}
	return fmt.Errorf("store blob %s: %w", w.desc.Digest, err)
}
