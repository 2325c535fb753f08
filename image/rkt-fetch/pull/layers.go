package pull

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/store"
)

// downloads is how many blobs are fetched at the same time: enough to fill a
// line that one connection does not, few enough to be a polite client.
const downloads = 4

// patience is how long to wait for another process without a word.
const patience = 5 * time.Second

// layer is one layer of the image that is not there yet. Layers may repeat: a
// blob is fetched once and a diffID unpacked once.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
	unpack bool // its tree is not there either
	track  Track

	ready chan struct{}   // closed when the blob is in the store
	dir   *store.LayerDir // set when reserved is closed
	held  chan struct{}   // closed when dir is ours, or the layer is done
}

// layers fetches and unpacks all layers that are missing. A layer is unpacked
// as soon as its blob is there, while others are still being fetched. They
// appear in the store together, after one flush of the disk.
func (f *fetch) layers(ctx context.Context, m ocispec.Manifest, cfg ocispec.Image) error {
	list, err := f.plan(m, cfg)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := f.room(list); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	run := func(do func() error) {
		wait.Go(func() {
			if err := do(); err != nil {
				cancel(err)
			}
		})
	}
	reserved := make(chan struct{})
	go f.reserve(ctx, list, cancel, reserved)
	unpacking := make(slots, max(f.Unpacks, 1))
	byBlob := map[digest.Digest][]*layer{}
	var blobs []digest.Digest
	for _, l := range list {
		if byBlob[l.desc.Digest] == nil {
			blobs = append(blobs, l.desc.Digest)
		}
		byBlob[l.desc.Digest] = append(byBlob[l.desc.Digest], l)
	}
	queue := make(chan []*layer)
	for range min(downloads, len(blobs)) {
		run(func() error {
			for same := range queue {
				if err := f.fetchLayer(ctx, same); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, l := range list {
		run(func() error { return f.unpackLayer(ctx, unpacking, l) })
	}
	for _, d := range blobs {
		select {
		case queue <- byBlob[d]:
		case <-ctx.Done():
		}
	}
	close(queue)
	wait.Wait()
	return f.finish(ctx, list, reserved)
}

// slots bounds how many do something at the same time.
type slots chan struct{}

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) free() { <-s }

// plan lists what is missing, the largest first: the last thing to finish
// should be a small one.
func (f *fetch) plan(m ocispec.Manifest, cfg ocispec.Image) ([]*layer, error) {
	var list []*layer
	type pair struct{ blob, diffID digest.Digest }
	listed, unpacked := map[pair]bool{}, map[digest.Digest]bool{}
	for i, desc := range m.Layers {
		diffID := cfg.RootFS.DiffIDs[i]
		if listed[pair{desc.Digest, diffID}] {
			continue
		}
		listed[pair{desc.Digest, diffID}] = true
		blob, err := f.lease.HasBlob(desc)
		if err != nil {
			return nil, err
		}
		tree, err := f.lease.HasLayer(diffID)
		if err != nil {
			return nil, err
		}
		unpack := !tree && !unpacked[diffID]
		unpacked[diffID] = true
		if !blob || unpack {
			list = append(list, &layer{desc: desc, diffID: diffID, unpack: unpack, ready: make(chan struct{}), held: make(chan struct{})})
		}
	}
	slices.SortStableFunc(list, func(a, b *layer) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	return list, nil
}

// room refuses to start what cannot end well. How large the layers become when
// they are unpacked nobody knows yet.
func (f *fetch) room(list []*layer) error {
	var need int64
	for _, l := range list {
		if !f.Store.HasBlob(l.desc.Digest, l.desc.Size) {
			need += l.desc.Size
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(f.Dir, &fs); err != nil {
		return fmt.Errorf("read free space of %q: %w", f.Dir, err)
	}
	free := fs.Bavail * uint64(fs.Bsize)
	if uint64(need) > free {
		return fmt.Errorf("its layers need %d MiB and %d MiB are free: %w", need>>20, free>>20, unix.ENOSPC)
	}
	return nil
}

// reserve takes the directories of all layers, in one order for all processes:
// each may have to wait for another process that unpacks the same layer, and
// two that wait for each other would do so forever. Waiting cannot be
// cancelled; it ends with the other process, or with this one.
func (f *fetch) reserve(ctx context.Context, list []*layer, fail func(error), reserved chan<- struct{}) {
	defer close(reserved)
	ordered := slices.SortedFunc(slices.Values(list), func(a, b *layer) int { return cmp.Compare(a.diffID, b.diffID) })
	for _, l := range ordered {
		if l.unpack && ctx.Err() == nil {
			notice := f.notice("layer", l.diffID)
			dir, err := f.lease.Layer(l.diffID)
			notice.Stop()
			if err != nil {
				fail(err)
				return
			}
			l.dir = dir
		}
		close(l.held)
	}
}

// notice says so when something is long in coming that another process may
// have its hands on, a stopped one perhaps.
func (f *fetch) notice(kind string, d digest.Digest) *time.Timer {
	return time.AfterFunc(patience, func() {
		f.Progress.Note(fmt.Sprintf("waiting for %s %s, which another process seems to be fetching", kind, d))
	})
}

// fetchLayer fetches the blob of layers that are the same.
func (f *fetch) fetchLayer(ctx context.Context, same []*layer) error {
	first := same[0]
	first.track = f.Progress.Layer(first.desc.Digest, first.desc.Size)
	if err := f.sound(first.desc); err != nil {
		return err
	}
	if err := f.blob(ctx, first.desc, first.track); err != nil {
		return err
	}
	first.track.At(first.desc.Size)
	for _, l := range same {
		l.track = first.track
		close(l.ready)
	}
	return nil
}

// unpackLayer unpacks a layer when its blob is there and the directory ours.
func (f *fetch) unpackLayer(ctx context.Context, unpacking slots, l *layer) error {
	for _, event := range []chan struct{}{l.ready, l.held} {
		select {
		case <-event:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer l.track.Done()
	if l.dir == nil || l.dir.Done() {
		return nil
	}
	if err := unpacking.take(ctx); err != nil {
		return err
	}
	defer unpacking.free()
	l.track.Unpacking()
	blob, err := os.Open(filepath.Join(f.Dir, "images", "blobs", l.desc.Digest.Algorithm().String(), l.desc.Digest.Encoded()))
	if err != nil {
		return fmt.Errorf("unpack layer %s: %w", l.diffID, err)
	}
	defer func() { _ = blob.Close() }()
	return f.Unpack(ctx, blob, l.desc.MediaType, l.diffID, l.dir.Path())
}

// finish makes the unpacked layers visible, or removes them.
func (f *fetch) finish(ctx context.Context, list []*layer, reserved <-chan struct{}) error {
	err := context.Cause(ctx)
	if err == nil {
		<-reserved
		if err = f.Store.Sync(); err == nil {
			err = commit(list)
		}
	}
	select {
	case <-reserved:
		for _, l := range list {
			if l.dir != nil {
				_ = l.dir.Close() // only what was not committed
			}
		}
	default: // still waiting for another process; ours has failed and ends
	}
	return err
}

func commit(list []*layer) error {
	for _, l := range list {
		if l.dir == nil {
			continue
		}
		if err := l.dir.Commit(); err != nil {
			return err
		}
	}
	return nil
}
