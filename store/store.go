// Package store keeps images on disk: blobs by digest, names, unpacked layers.
//
// The truth is an OCI image layout (image-spec, image-layout.md) that other
// tools may read at any moment: DIR/images with oci-layout, index.json and
// blobs/. Beside it lie DIR/partial (unfinished blobs), DIR/layers (one tree
// per diffID, as overlayfs wants it) and DIR/locks. All of DIR/{images,partial}
// is one file system, DIR/layers may be another.
//
// What appears under its final name is complete: it was verified, flushed and
// renamed there. Being killed leaves nothing but unlocked temporary names,
// which the next use takes over or GC collects. What keeps something from GC:
// a name in index.json, a pod (InUse), a live Lease, and for a moment Share.
//
// The package never talks to the network, never parses a layer and never
// mounts; Root describes what to mount as data.
package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	// The algorithms of digests, which go-digest finds by registration.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/flock"
)

// ErrNotFound says that a blob, a layer or a name is not there.
var ErrNotFound = errors.New("is not in the store")

const (
	dirPerm  = 0o750
	filePerm = 0o640
)

// Store is an open store. It holds no lock and no descriptor, and may be used
// by any number of goroutines, beside any number of processes.
type Store struct {
	dir string // absolute

	mu     sync.Mutex
	leases map[*Lease]bool // the open ones of this Store, which PutBlob joins
}

// Open opens the store in dir and creates what is missing.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", dir, err)
	}
	s := &Store{dir: abs, leases: map[*Lease]bool{}}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

func (s *Store) open() error {
	for _, dir := range []string{s.path("images", "blobs", "sha256"), s.path("partial"), s.path("layers"), s.path("locks")} {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			if err := s.makeDir(dir); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	layout, err := os.ReadFile(s.path("images", ocispec.ImageLayoutFile))
	if errors.Is(err, os.ErrNotExist) {
		return s.create()
	}
	if err != nil {
		return err
	}
	return checkLayout(s.path("images", ocispec.ImageLayoutFile), layout)
}

// create writes the files of an empty image layout, oci-layout last: where it
// is, the rest is.
func (s *Store) create() error {
	release, err := s.lock("index", (*flock.Lock).Exclusive)
	if err != nil {
		return err
	}
	defer release()
	if _, err := os.Stat(s.indexPath()); errors.Is(err, os.ErrNotExist) {
		if err := atomicfile.Write(s.indexPath(), emptyIndex(), filePerm); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	failpoint.Hit("store.open.index")
	return atomicfile.Write(s.path("images", ocispec.ImageLayoutFile),
		[]byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`), filePerm)
}

// makeDir makes a directory of the store and its parents, durably.
func (s *Store) makeDir(dir string) error {
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return err
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if err := atomicfile.SyncDir(parent); err != nil {
			return err
		}
		failpoint.Hit("store.open.dir")
		if len(parent) <= len(s.dir) {
			return nil
		}
	}
}

// Sync flushes everything that was written to the file system of the layers.
// One call before the Commit of several LayerDirs is much cheaper than
// flushing their files one by one.
func (s *Store) Sync() error {
	d, err := os.Open(s.path("layers"))
	if err != nil {
		return fmt.Errorf("flush layers to disk: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("flush layers to disk: %w", err)
	}
	return nil
}

// Share keeps GC from deciding what is garbage until release is called. Who
// makes something that InUse will report holds it from looking the image up
// until InUse can see it: for milliseconds, never across a fetch, a Wait or a
// call of GC. A process that dies releases.
func (s *Store) Share() (release func(), err error) {
	return s.lock("store", (*flock.Lock).Shared)
}

// lock takes one of the store's locks; "store" before "index" where both are needed.
func (s *Store) lock(name string, take func(*flock.Lock) error) (release func(), err error) {
	l, err := flock.Create(s.path("locks", name), filePerm)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	if err := take(l); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("lock store: %w", err)
	}
	var once sync.Once
	return func() { once.Do(func() { _ = l.Close() }) }, nil
}

func (s *Store) path(elem ...string) string {
	return s.dir + "/" + strings.Join(elem, "/")
}

func (s *Store) blobPath(d digest.Digest) (string, error) {
	algorithm, hex, err := splitDigest(d)
	if err != nil {
		return "", err
	}
	return s.path("images", "blobs", algorithm, hex), nil
}

// splitDigest takes a digest apart, and refuses every string that is not one:
// digests come from files and registries and become paths.
func splitDigest(d digest.Digest) (algorithm, hex string, err error) {
	algorithm, hex, _ = strings.Cut(string(d), ":")
	if (algorithm == "sha256" && len(hex) == 64 || algorithm == "sha512" && len(hex) == 128) && isHex(hex) {
		return algorithm, hex, nil
	}
	return "", "", fmt.Errorf("%.140q is not a sha256 or sha512 digest", d)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// readLimited reads a whole file that may not be larger than limit.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than the limit of %d", path, info.Size(), limit)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return data, nil
}
