package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/flock"
	"github.com/rkt/rkt/internal/rmtree"
)

// Names in DIR/layers and DIR/partial that are not final.
const (
	tempPrefix  = ".tmp-"   // a layer being unpacked; its owner has it locked
	trashPrefix = ".trash-" // moved away by GC, to be deleted
)

// Root is what the root directory of an image is made of, as data: stage1
// mounts it.
type Root struct {
	// Lower are the read-only trees, absolute, uppermost first, none twice,
	// in the form of overlayfs with "userxattr". Empty if the image has no layers.
	Lower []string
}

// Root describes the root of an image with this configuration. It is an error
// (ErrNotFound) if a layer is not unpacked.
func (s *Store) Root(cfg ocispec.Image) (Root, error) {
	if cfg.RootFS.Type != "layers" {
		return Root{}, fmt.Errorf("find layers: the image's rootfs has the type %.40q, not \"layers\"", cfg.RootFS.Type)
	}
	lower := make([]string, 0, len(cfg.RootFS.DiffIDs))
	hidden := false
	for _, diffID := range slices.Backward(cfg.RootFS.DiffIDs) {
		if _, _, err := splitDigest(diffID); err != nil {
			return Root{}, fmt.Errorf("find layers: %w", err)
		}
		if !s.hasLayer(diffID) {
			return Root{}, fmt.Errorf("layer %s %w: fetch the image again", diffID, ErrNotFound)
		}
		// The kernel refuses a tree that is stacked twice (ELOOP); what the
		// lower one holds is hidden by the same in the upper one anyway.
		if path := s.layerPath(diffID); !hidden && !slices.Contains(lower, path) {
			lower = append(lower, path)
			hidden = isOpaque(path)
		}
	}
	return Root{Lower: lower}, nil
}

// isOpaque reports whether a layer hides everything below it. Overlayfs heeds
// that mark on every directory but the root of a tree.
func isOpaque(path string) bool {
	var value [2]byte
	n, err := unix.Lgetxattr(path, "user.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

func (s *Store) layerPath(diffID digest.Digest) string { return s.path("layers", diffID.Encoded()) }

func (s *Store) hasLayer(diffID digest.Digest) bool {
	return isDir(s.layerPath(diffID))
}

// LayerDir is a directory that a layer is being unpacked into. It becomes the
// layer by Commit or it goes. A LayerDir must be closed.
type LayerDir struct {
	s     *Store
	temp  string
	final string
	lock  *flock.Lock // of temp; nil when there is nothing (more) to do
	done  bool
}

// Layer makes an empty directory, mode 0755, to unpack a layer into. It waits
// while another process unpacks the same one; if the layer is there already,
// or is there after the wait, Done is true and there is nothing to do. The
// lease protects the layer.
func (l *Lease) Layer(diffID digest.Digest) (*LayerDir, error) {
	if _, err := l.HasLayer(diffID); err != nil {
		return nil, fmt.Errorf("unpack layer: %w", err)
	}
	d := &LayerDir{s: l.s, final: l.s.layerPath(diffID), temp: l.s.path("layers", tempPrefix+diffID.Encoded())}
	for d.lock == nil && !d.done {
		if l.s.hasLayer(diffID) {
			d.done = true
		} else if err := d.make(); err != nil {
			return nil, fmt.Errorf("unpack layer %s: %w", diffID, err)
		}
	}
	return d, nil
}

// make tries once to get the temporary directory, new and locked. Others may
// commit, remove or trash it at any time that they hold its lock.
func (d *LayerDir) make() error {
	if err := os.Mkdir(d.temp, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	failpoint.Hit("store.layer.made")
	lock, err := flock.Open(d.temp)
	if err != nil {
		return ignoreMissing(err)
	}
	if err := lock.Exclusive(); err != nil {
		_ = lock.Close()
		return err
	}
	if usable, err := d.inspect(lock); err != nil || !usable {
		_ = lock.Close()
		return err
	}
	d.lock = lock
	return nil
}

// inspect looks what became of the temporary directory while its lock was
// waited for.
func (d *LayerDir) inspect(lock *flock.Lock) (usable bool, err error) {
	if ours, err := lock.Is(d.temp); err != nil || !ours {
		return false, err
	}
	empty, err := isEmpty(d.temp)
	if err != nil {
		return false, err
	}
	// Somebody finished the layer before the directory was made, or died in
	// the middle of unpacking into it.
	if isDir(d.final) || !empty {
		return false, d.discard()
	}
	return true, lock.File().Chmod(0o755) // whatever the umask
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return len(names) == 0, err
}

// discard removes the temporary directory. Its name is free at once, so nobody
// has to wait for the deletion; GC leaves it to us, as we hold the lock.
func (d *LayerDir) discard() error {
	trash, err := d.s.moveToTrash("layers", strings.TrimPrefix(d.temp, d.s.path("layers")+"/"))
	if err != nil {
		return err
	}
	failpoint.Hit("store.layer.discarded")
	return rmtree.Remove(trash)
}

// Path is the directory to unpack into, on the file system of the layers.
func (d *LayerDir) Path() string { return d.temp }

// Done reports that the layer is there, and nothing is to be unpacked.
func (d *LayerDir) Done() bool { return d.done }

// Commit makes the directory the layer, durably if Store.Sync was called after
// the last write into it.
func (d *LayerDir) Commit() error {
	if d.done {
		return nil
	}
	if d.lock == nil {
		return fmt.Errorf("finish layer: %w", os.ErrClosed)
	}
	if err := os.Rename(d.temp, d.final); err != nil {
		return fmt.Errorf("finish layer: %w", err)
	}
	failpoint.Hit("store.layer.renamed")
	d.done = true
	err := atomicfile.SyncDir(d.s.path("layers"))
	if closed := d.lock.Close(); err == nil {
		err = closed
	}
	d.lock = nil
	if err != nil {
		return fmt.Errorf("finish layer: %w", err)
	}
	return nil
}

// Close removes the directory unless it was committed.
func (d *LayerDir) Close() error {
	if d.lock == nil {
		return nil
	}
	err := d.discard()
	if closed := d.lock.Close(); err == nil {
		err = closed
	}
	d.lock = nil
	if err != nil {
		return fmt.Errorf("remove unfinished layer: %w", err)
	}
	return nil
}
