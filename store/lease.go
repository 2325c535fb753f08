package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/flock"
)

const (
	leasePrefix = "lease-"
	maxLease    = 16 << 20
)

// Lease protects from GC what a fetch writes or was told to exist, until it is
// closed or its process dies. Its file in DIR/locks lists what that is, and is
// locked for its life; GC keeps what it finds listed in locked files. The
// store's lock is only held while a line is added, so a fetch of an hour
// delays GC by microseconds, and no clock is involved.
//
// A Lease may be used by any number of goroutines. Its Writers and LayerDirs
// are to be closed before it, and names to be Put.
type Lease struct {
	s    *Store
	lock *flock.Lock

	mu    sync.Mutex
	lines map[string]bool // what the file lists; nil when closed
}

func blobLine(d digest.Digest) string  { return "blob " + d.String() + "\n" }
func layerLine(d digest.Digest) string { return "layer " + d.Encoded() + "\n" }

// Lease opens a lease.
func (s *Store) Lease() (*Lease, error) {
	// GC removes unlocked lease files, so it must not see this one before it
	// is locked.
	release, err := s.Share()
	if err != nil {
		return nil, err
	}
	defer release()
	f, err := os.CreateTemp(s.path("locks"), leasePrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("open lease: %w", err)
	}
	failpoint.Hit("store.lease.made")
	l := &Lease{s: s, lock: flock.Of(f), lines: map[string]bool{}}
	if err := l.lock.TryExclusive(); err != nil {
		_ = os.Remove(f.Name())
		_ = f.Close()
		return nil, fmt.Errorf("open lease: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[l] = true
	return l, nil
}

func (s *Store) openLeases() []*Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*Lease
	for l := range s.leases {
		open = append(open, l)
	}
	return open
}

// protect lists something. The caller holds the store's lock, so that GC is
// either over or will see the line.
func (l *Lease) protect(line string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		return fmt.Errorf("use lease: %w", os.ErrClosed)
	}
	if l.lines[line] {
		return nil
	}
	if _, err := l.lock.File().WriteString(line); err != nil {
		return fmt.Errorf("use lease: %w", err)
	}
	l.lines[line] = true
	return nil
}

// share protects something while GC is kept out, and asks look about it.
func (l *Lease) share(line string, look func() bool) (bool, error) {
	release, err := l.s.Share()
	if err != nil {
		return false, err
	}
	defer release()
	if err := l.protect(line); err != nil {
		return false, err
	}
	return look(), nil
}

// HasBlob is Store.HasBlob, and what is there stays there.
func (l *Lease) HasBlob(desc ocispec.Descriptor) (bool, error) {
	if _, _, err := splitDigest(desc.Digest); err != nil {
		return false, err
	}
	return l.share(blobLine(desc.Digest), func() bool { return l.s.HasBlob(desc.Digest, desc.Size) })
}

// HasLayer reports whether the layer is unpacked; if so, it stays.
func (l *Lease) HasLayer(diffID digest.Digest) (bool, error) {
	if _, _, err := splitDigest(diffID); err != nil {
		return false, err
	}
	return l.share(layerLine(diffID), func() bool { return l.s.hasLayer(diffID) })
}

// Writer opens a blob for writing, continuing what an earlier Writer left. It
// waits while another Writer, of whatever process, is open for the same blob.
// If the blob is there already, or is there after the wait, Offset is its size
// and Commit does nothing.
func (l *Lease) Writer(desc ocispec.Descriptor) (*Writer, error) {
	if _, err := l.HasBlob(desc); err != nil {
		return nil, err
	}
	return l.s.openWriter(desc)
}

// Close ends the protection.
func (l *Lease) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		return nil
	}
	l.lines = nil
	l.s.mu.Lock()
	delete(l.s.leases, l)
	l.s.mu.Unlock()
	err := os.Remove(l.lock.File().Name())
	if closed := l.lock.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("close lease: %w", err)
	}
	return nil
}

// leased lists what living leases protect, and removes the files of dead ones.
// The caller holds the store's lock exclusively.
func (s *Store) leased() (blobs map[digest.Digest]bool, layers map[string]bool, err error) {
	entries, err := os.ReadDir(s.path("locks"))
	if err != nil {
		return nil, nil, fmt.Errorf("read leases: %w", err)
	}
	blobs, layers = map[digest.Digest]bool{}, map[string]bool{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), leasePrefix) {
			continue
		}
		list, err := readLease(s.path("locks", e.Name()))
		if err != nil {
			return nil, nil, fmt.Errorf("read leases: %w", err)
		}
		for line := range strings.Lines(list) {
			switch kind, what, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); kind {
			case "blob":
				blobs[digest.Digest(what)] = true
			case "layer":
				layers[what] = true
			}
		}
	}
	return blobs, layers, nil
}

// readLease returns the list of a living lease, and removes a dead one.
func readLease(path string) (string, error) {
	lock, err := flock.Open(path)
	if errors.Is(err, os.ErrNotExist) { // just closed
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	switch err := lock.TryExclusive(); {
	case err == nil:
		return "", removeIfThere(path)
	case !errors.Is(err, flock.ErrLocked):
		return "", err
	}
	list, err := io.ReadAll(io.LimitReader(lock.File(), maxLease+1))
	if err == nil && len(list) > maxLease {
		err = fmt.Errorf("%q has more than the limit of %d bytes", path, maxLease)
	}
	return string(list), err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
