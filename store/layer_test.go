package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestLayer(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	diffID := digest.FromString("one")
	d, err := l.Layer(diffID)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Path()); err != nil || info.Mode() != os.ModeDir|0o755 || d.Done() {
		t.Fatalf("new layer: %v, %v, done %v", info, err, d.Done())
	}
	if there, err := l.HasLayer(diffID); there || err != nil {
		t.Errorf("HasLayer before Commit = %v, %v", there, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, s); len(got) != len(emptyStore)+1 { // the lease
		t.Errorf("Close left %v", got)
	}
	if err := d.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit after Close = %v", err)
	}
	for range 2 { // the second time it is there already
		if err := unpack(l, "one"); err != nil {
			t.Fatal(err)
		}
		if there, err := l.HasLayer(diffID); !there || err != nil {
			t.Errorf("HasLayer after Commit = %v, %v", there, err)
		}
	}
}

// TestLayerTakesOver unpacks a layer where somebody died while unpacking it.
func TestLayerTakesOver(t *testing.T) {
	s := newStore(t)
	diffID := digest.FromString("one")
	left := s.path("layers", tempPrefix+diffID.Encoded())
	if err := os.MkdirAll(filepath.Join(left, "half", "done"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unpack(openLease(t, s), "one"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("layers holds %v, %v", entries, err)
	}
	if _, err := os.Stat(s.path("layers", diffID.Encoded(), "half")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left is in the layer: %v", err)
	}
}

func TestLayerAlone(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	var all sync.WaitGroup
	var mu sync.Mutex
	unpacking, unpacked := 0, 0
	for range 16 {
		all.Go(func() {
			d, err := l.Layer(digest.FromString("one"))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = d.Close() }()
			if d.Done() {
				return
			}
			mu.Lock()
			unpacking++
			first := unpacked == 0
			if unpacking > 1 {
				t.Error("two unpack the same layer")
			}
			mu.Unlock()
			file := filepath.Join(d.Path(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Error(err)
			}
			mu.Lock()
			unpacking--
			unpacked++
			mu.Unlock()
			if first {
				return // fails, another has to do it
			}
			if err := d.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if unpacked != 2 || !s.hasLayer(digest.FromString("one")) {
		t.Errorf("unpacked %d times, want 2: one fails, one succeeds", unpacked)
	}
}

func TestRoot(t *testing.T) {
	s := newStore(t)
	fetchImage(t, s, "app", "a", "b", "c")
	ids := func(names ...string) (all []digest.Digest) {
		for _, name := range names {
			all = append(all, digest.FromString(name))
		}
		return all
	}
	for name, c := range map[string]struct {
		rootfs ocispec.RootFS
		want   string
		err    string
	}{
		"none":    {ocispec.RootFS{Type: "layers"}, "", ""},
		"three":   {ocispec.RootFS{Type: "layers", DiffIDs: ids("a", "b", "c")}, "c b a", ""},
		"twice":   {ocispec.RootFS{Type: "layers", DiffIDs: ids("a", "b", "a", "c", "c")}, "c a b", ""},
		"missing": {ocispec.RootFS{Type: "layers", DiffIDs: ids("a", "x")}, "", "is not in the store: fetch the image again"},
		"type":    {ocispec.RootFS{Type: "tape", DiffIDs: ids("a")}, "", `has the type "tape"`},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := s.Root(ocispec.Image{RootFS: c.rootfs})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("Root = %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for name := range strings.FieldsSeq(c.want) {
				want = append(want, s.path("layers", digest.FromString(name).Encoded()))
			}
			if !slices.Equal(root.Lower, want) {
				t.Errorf("Lower = %v, want %v", root.Lower, want)
			}
		})
	}
}

// TestRootOpaque holds that nothing is stacked below a layer that hides it all.
func TestRootOpaque(t *testing.T) {
	s := newStore(t)
	fetchImage(t, s, "app", "a", "b", "c")
	var ids []digest.Digest
	for _, name := range []string{"a", "b", "c"} {
		ids = append(ids, digest.FromString(name))
	}
	if err := unix.Setxattr(s.layerPath(ids[1]), "user.overlay.opaque", []byte("y"), 0); err != nil {
		t.Skipf("the file system has no extended attributes: %v", err)
	}
	root, err := s.Root(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: ids}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{s.layerPath(ids[2]), s.layerPath(ids[1])}; !slices.Equal(root.Lower, want) {
		t.Errorf("Lower = %v, want %v", root.Lower, want)
	}
}
