package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/flock"
	"github.com/rkt/rkt/internal/rmtree"
)

// partialLife is how long an unfinished blob is kept for a later fetch to
// continue.
const partialLife = 24 * time.Hour

// InUse is what pods refer to: manifests or any other blobs (of a manifest or
// configuration, also what it refers to stays), and layers by the hex digits
// of their diffID.
type InUse struct {
	Blobs  map[digest.Digest]bool
	Layers map[string]bool
}

// GCOptions say how much GC collects.
type GCOptions struct {
	// Grace is how long an image may be unused before it loses its names; 0
	// keeps them all. Images of pods and names that other tools wrote are kept.
	Grace time.Duration
}

// GCReport says what GC collected.
type GCReport struct {
	Names    []string // that were removed
	Blobs    int
	Layers   int
	Partials int   // unfinished blobs and layers
	Bytes    int64 // that were freed
}

// GC removes what nothing refers to, and what dead processes left. It waits
// for every Share to end, and keeps new ones and leases waiting only while it
// marks and renames; it deletes afterwards. What a killed GC left to delete,
// the next one deletes. inUse is called under the lock.
func (s *Store) GC(inUse func() (InUse, error), opts GCOptions) (GCReport, error) {
	c := &collector{s: s, marker: newMarker(s)}
	err := c.collect(inUse, opts)
	if err == nil {
		err = c.empty("layers", "partial")
	}
	if err != nil {
		return c.report, fmt.Errorf("collect garbage: %w", err)
	}
	return c.report, nil
}

type collector struct {
	s      *Store
	marker *marker
	report GCReport
}

// collect is the part under the lock.
func (c *collector) collect(inUse func() (InUse, error), opts GCOptions) error {
	// Documents never change, so most can be read before anybody has to wait.
	if entries, err := c.s.readEntries(); err == nil {
		c.marker.index(entries)
		c.marker.forget()
	}
	release, err := c.s.lock("store", (*flock.Lock).Exclusive)
	if err != nil {
		return err
	}
	defer release()

	pods, err := inUse()
	if err != nil {
		return err
	}
	blobs, layers, err := c.s.leased()
	if err != nil {
		return err
	}
	c.marker.pods(pods)
	if err := c.names(opts.Grace); err != nil {
		return err
	}
	c.marker.leases(blobs, layers)
	failpoint.Hit("store.gc.marked")
	for _, algorithm := range []string{"sha256", "sha512"} {
		if err := c.blobs(algorithm); err != nil {
			return err
		}
	}
	if err := c.layers(); err != nil {
		return err
	}
	return c.partials()
}

// names removes those that are past their grace, and marks the others. What
// pods use is marked already.
func (c *collector) names(grace time.Duration) error {
	return c.s.editIndex(func(x *index) (bool, error) {
		if grace > 0 {
			x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { return c.expired(e, grace) })
		}
		c.marker.index(x.entries)
		return len(c.report.Names) > 0, nil
	})
}

func (c *collector) expired(e entry, grace time.Duration) bool {
	desc, ok := e.descriptor()
	if !ok || desc.Annotations[annotationImported] == "" || c.marker.blobs[desc.Digest] {
		return false
	}
	img, ok := c.s.imageOf(desc)
	if !ok || time.Since(img.LastUsed) < grace {
		return false
	}
	c.report.Names = append(c.report.Names, img.Name)
	return true
}

func (c *collector) blobs(algorithm string) error {
	dir := filepath.Join("images", "blobs", algorithm)
	entries, err := os.ReadDir(c.s.path(dir))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), e.Name())
		if _, _, err := splitDigest(d); err != nil || c.marker.blobs[d] {
			continue
		}
		if _, err := c.s.moveToTrashIn("partial", dir, e.Name()); err != nil {
			return err
		}
		c.report.Blobs++
		failpoint.Hit("store.gc.blob")
	}
	return nil
}

func (c *collector) layers() error {
	entries, err := os.ReadDir(c.s.path("layers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, tempPrefix):
			err = c.abandoned("layers", name, 0)
		case isLayerName(name) && !c.marker.layers[name]:
			if _, err = c.s.moveToTrash("layers", name); err == nil {
				c.report.Layers++
			}
			failpoint.Hit("store.gc.layer")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isLayerName(name string) bool { return (len(name) == 64 || len(name) == 128) && isHex(name) }

// partials collects unfinished blobs, and what unfinished PutBlobs left: those
// happen under Share, so none is running.
func (c *collector) partials() error {
	if err := atomicfile.Sweep(c.s.path("partial")); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.s.path("partial"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		algorithm, hex, _ := strings.Cut(e.Name(), "-")
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
		if _, _, err := splitDigest(d); err != nil || c.marker.leased[d] {
			continue
		}
		if err := c.abandoned("partial", e.Name(), partialLife); err != nil {
			return err
		}
	}
	return nil
}

// abandoned collects something unfinished unless its owner lives, which has it
// locked, or it is younger than age.
func (c *collector) abandoned(dir, name string, age time.Duration) error {
	path := c.s.path(dir, name)
	lock, err := flock.Open(path)
	if err != nil {
		return ignoreMissing(err)
	}
	defer func() { _ = lock.Close() }()
	if err := lock.TryExclusive(); errors.Is(err, flock.ErrLocked) {
		return nil
	} else if err != nil {
		return err
	}
	info, err := lock.File().Stat()
	if err != nil {
		return err
	}
	// A time in the future tells nothing: the clock was set back since.
	if since := time.Since(info.ModTime()); since.Abs() < age {
		return nil
	}
	if ours, err := lock.Is(path); err != nil || !ours {
		return err
	}
	if _, err := c.s.moveToTrash(dir, name); err != nil {
		return err
	}
	c.report.Partials++
	failpoint.Hit("store.gc.partial")
	return nil
}

// moveToTrash takes DIR/dir/name out of use at once, and returns where it is
// waiting to be deleted.
func (s *Store) moveToTrash(dir, name string) (string, error) {
	return s.moveToTrashIn(dir, dir, name)
}

// moveToTrashIn is moveToTrash for a directory that no trash may lie in.
func (s *Store) moveToTrashIn(trashDir, dir, name string) (string, error) {
	trash := s.path(trashDir, trashPrefix+strings.TrimPrefix(name, tempPrefix)+"-"+strconv.FormatUint(rand.Uint64(), 36))
	return trash, os.Rename(s.path(dir, name), trash)
}

// empty deletes all trash, from this GC and from killed ones.
func (c *collector) empty(dirs ...string) error {
	var failed error
	for _, dir := range dirs {
		entries, err := os.ReadDir(c.s.path(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), trashPrefix) {
				continue
			}
			if err := c.delete(c.s.path(dir, e.Name())); err != nil {
				failed = err // go on with the rest, and report one of the reasons
			}
			failpoint.Hit("store.gc.deleted")
		}
	}
	return failed
}

// delete deletes a piece of trash unless somebody else is at it.
func (c *collector) delete(path string) error {
	lock, err := flock.Open(path)
	if err != nil {
		return ignoreMissing(err)
	}
	defer func() { _ = lock.Close() }()
	if err := lock.TryExclusive(); errors.Is(err, flock.ErrLocked) {
		return nil
	} else if err != nil {
		return err
	}
	size := diskUsage(path)
	if err := rmtree.Remove(path); err != nil {
		return err
	}
	c.report.Bytes += size
	return nil
}

// diskUsage sums up what a tree occupies, counting hard links once. What
// cannot be read counts nothing.
func diskUsage(path string) int64 {
	type inode struct{ dev, ino uint64 }
	linked := map[inode]bool{}
	var sum int64
	_ = filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || unix.Lstat(name, &st) != nil {
			return nil
		}
		if id := (inode{st.Dev, st.Ino}); st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if linked[id] {
				return nil
			}
			linked[id] = true
		}
		sum += st.Blocks * 512
		return nil
	})
	return sum
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
