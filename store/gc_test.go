package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/internal/flock"
)

// TestGCKeeps names one thing after the other that refers to an image, and
// expects it to be whole after GC, and gone when the reference is gone.
func TestGCKeeps(t *testing.T) {
	hex := func(layer string) string { return digest.FromString(layer).Encoded() }
	for name, c := range map[string]struct {
		keep func(*testing.T, *Store, Image) (InUse, func())
	}{
		"a pod with the manifest": {func(t *testing.T, s *Store, img Image) (InUse, func()) {
			return InUse{Blobs: map[digest.Digest]bool{img.Manifest.Digest: true, img.Evidence: true}}, func() {}
		}},
		"a pod with every part": {func(t *testing.T, s *Store, img Image) (InUse, func()) {
			m, err := s.Manifest(img)
			if err != nil {
				t.Fatal(err)
			}
			used := InUse{Blobs: map[digest.Digest]bool{img.Manifest.Digest: true, img.Evidence: true, m.Config.Digest: true},
				Layers: map[string]bool{hex("one"): true, "sha256:" + hex("two"): true}}
			for _, l := range m.Layers {
				used.Blobs[l.Digest] = true
			}
			return used, func() {}
		}},
		"a lease": {func(t *testing.T, s *Store, img Image) (InUse, func()) {
			l := openLease(t, s)
			if _, err := fetchInto(s, l, img.Name, "one", "two"); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(img.Name); err != nil {
				t.Fatal(err)
			}
			return InUse{}, func() { _ = l.Close() }
		}},
		"a lease that was only told": {func(t *testing.T, s *Store, img Image) (InUse, func()) {
			l := openLease(t, s)
			m, err := s.Manifest(img)
			if err != nil {
				t.Fatal(err)
			}
			for _, desc := range append(m.Layers, m.Config, img.Manifest, ocispec.Descriptor{Digest: img.Evidence}) {
				if there, err := l.HasBlob(desc); err != nil || !there {
					t.Fatalf("HasBlob = %v, %v", there, err)
				}
			}
			for _, layer := range []string{"one", "two"} {
				if there, err := l.HasLayer(digest.FromString(layer)); err != nil || !there {
					t.Fatalf("HasLayer = %v, %v", there, err)
				}
			}
			return InUse{}, func() { _ = l.Close() }
		}},
		"another name": {func(t *testing.T, s *Store, img Image) (InUse, func()) {
			img.Name = "other"
			if err := s.Put(img); err != nil {
				t.Fatal(err)
			}
			return InUse{}, func() { _ = s.Remove("other") }
		}},
		"an entry of an index, by another tool": {func(t *testing.T, s *Store, img Image) (InUse, func()) {
			index, err := s.PutBlob(ocispec.MediaTypeImageIndex, []byte(`{"manifests":[{"digest":"`+img.Manifest.Digest.String()+`"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			writeIndex(t, s, `{"manifests":[{"mediaType":"`+ocispec.MediaTypeImageIndex+`","size":1,"digest":"`+index.Digest.String()+
				`","annotations":{"com.github.rkt.evidence":"`+img.Evidence.String()+`"}}]}`)
			return InUse{}, func() { writeIndex(t, s, string(emptyIndex())) }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img := fetchImage(t, s, "app", "one", "two")
			fetchImage(t, s, "stays", "two", "three")
			used, let := c.keep(t, s, img)
			if err := s.Remove("app"); err != nil && !strings.HasPrefix(name, "a lease") && !strings.HasPrefix(name, "an entry") {
				t.Fatal(err)
			}
			if _, err := s.GC(func() (InUse, error) { return used, nil }, GCOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(img); err != nil { // would be refused if a blob were missing
				t.Fatal(err)
			}
			if err := checkImage(s, "app", "one", "two"); err != nil {
				t.Errorf("GC took something: %v", err)
			}
			if err := s.Remove("app"); err != nil {
				t.Fatal(err)
			}
			let()
			report := collect(t, s, GCOptions{})
			if !strings.HasPrefix(name, "an entry") && (report.Layers != 1 || report.Blobs != 4 || report.Bytes == 0) {
				t.Errorf("report %+v, want 1 layer and 4 blobs", report)
			}
			if s.hasLayer(digest.FromString("one")) || s.HasBlob(digest.FromString("one"), 0) || s.HasBlob(img.Manifest.Digest, 0) {
				t.Errorf("GC left %v", tree(t, s))
			}
			if !strings.HasPrefix(name, "an entry") {
				if err := checkImage(s, "stays", "two", "three"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestGCTakesAll(t *testing.T) {
	s := newStore(t)
	fetchImage(t, s, "app", "one", "two")
	if err := s.Remove("app"); err != nil {
		t.Fatal(err)
	}
	report := collect(t, s, GCOptions{})
	if report.Blobs != 5 || report.Layers != 2 || report.Partials != 0 || report.Bytes == 0 || report.Names != nil {
		t.Errorf("report %+v", report)
	}
	if got := tree(t, s); !slices.Equal(got, emptyStore) {
		t.Errorf("left %v", got)
	}
}

// TestGCLeftovers puts what dead and living processes leave into the store.
func TestGCLeftovers(t *testing.T) {
	hex := digest.FromString("x").Encoded()
	for name, c := range map[string]struct {
		path   string
		dir    bool
		locked bool
		age    time.Duration
		gone   bool
		count  int
	}{
		"young partial blob":      {path: "partial/sha256-" + hex, age: time.Hour},
		"old partial blob":        {path: "partial/sha256-" + hex, age: 25 * time.Hour, gone: true, count: 1},
		"old, still being made":   {path: "partial/sha256-" + hex, age: 25 * time.Hour, locked: true},
		"partial of the future":   {path: "partial/sha256-" + hex, age: -25 * time.Hour, gone: true, count: 1},
		"unfinished small blob":   {path: "partial/.atomic-" + hex + "-123", gone: true},
		"unfinished index":        {path: "images/.atomic-index.json-123", gone: true},
		"layer being unpacked":    {path: "layers/.tmp-" + hex, dir: true, locked: true},
		"layer that was unpacked": {path: "layers/.tmp-" + hex, dir: true, gone: true, count: 1},
		"layer trash":             {path: "layers/.trash-" + hex + "-1", dir: true, gone: true},
		"layer trash, being done": {path: "layers/.trash-" + hex + "-1", dir: true, locked: true},
		"blob trash":              {path: "partial/.trash-" + hex + "-1", gone: true},
		"lease of a dead one":     {path: "locks/lease-1", gone: true},
		"lease of a living one":   {path: "locks/lease-1", locked: true},
		"foreign file":            {path: "images/oci-put-blob1", age: 100 * time.Hour},
		"foreign blob":            {path: "images/blobs/sha256/.part", age: 100 * time.Hour},
		"foreign tree":            {path: "layers/lost+found", dir: true, age: 100 * time.Hour},
		"foreign partial":         {path: "partial/something", age: 100 * time.Hour},
		"unnamed blob":            {path: "images/blobs/sha256/" + hex, gone: true},
		"unnamed layer":           {path: "layers/" + hex, dir: true, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			path := s.path(c.path)
			if c.dir {
				if err := os.MkdirAll(filepath.Join(path, "a", "b"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(path, "a", "file"), []byte("content"), 0o400); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
			then := time.Now().Add(-c.age)
			if err := os.Chtimes(path, then, then); err != nil {
				t.Fatal(err)
			}
			if c.locked {
				l, err := flock.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }()
				if err := l.TryExclusive(); err != nil {
					t.Fatal(err)
				}
			}
			report := collect(t, s, GCOptions{})
			if report.Partials != c.count {
				t.Errorf("report %+v, want %d partials", report, c.count)
			}
			if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) != c.gone {
				t.Errorf("afterwards %v, want gone %v", err, c.gone)
			}
			if got := tree(t, s); c.gone && !slices.Equal(got, emptyStore) {
				t.Errorf("left %v", got)
			}
		})
	}
}

func TestGCKeepsPartialOfLease(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	desc := descOf([]byte("content"))
	w := mustWriter(t, l, desc)
	if _, err := w.Write([]byte("con")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil { // the fetch will try again
		t.Fatal(err)
	}
	path := s.path("partial", "sha256-"+desc.Digest.Encoded())
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	collect(t, s, GCOptions{})
	if w := mustWriter(t, l, desc); w.Offset() != 3 {
		t.Errorf("Offset = %d after GC, want 3", w.Offset())
	}
}

func TestGCGrace(t *testing.T) {
	s := newStore(t)
	age := func(img Image, d time.Duration) {
		t.Helper()
		path, _ := s.blobPath(img.Manifest.Digest)
		then := time.Now().Add(-d)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	fresh, old, running := fetchImage(t, s, "fresh", "1"), fetchImage(t, s, "old", "2"), fetchImage(t, s, "running", "3")
	foreign := fetchImage(t, s, "foreign", "4")
	alias := old
	alias.Name = "alias"
	if err := s.Put(alias); err != nil {
		t.Fatal(err)
	}
	if err := s.editIndex(func(x *index) (bool, error) {
		desc := foreign.Manifest
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: "foreign", annotationEvidence: foreign.Evidence.String()}
		return true, x.put("foreign", desc)
	}); err != nil {
		t.Fatal(err)
	}
	age(fresh, 23*time.Hour)
	age(old, 25*time.Hour)
	age(running, 1000*time.Hour)
	age(foreign, 1000*time.Hour)
	used := func() (InUse, error) {
		return InUse{Blobs: map[digest.Digest]bool{running.Manifest.Digest: true}}, nil
	}

	report, err := s.GC(used, GCOptions{})
	if err != nil || len(report.Names) != 0 || report.Blobs != 0 {
		t.Errorf("without grace: %+v, %v", report, err)
	}
	report, err = s.GC(used, GCOptions{Grace: 24 * time.Hour})
	if err != nil || strings.Join(report.Names, " ") != "old alias" || report.Blobs != 4 || report.Layers != 1 {
		t.Errorf("with grace: %+v, %v", report, err)
	}
	if all, err := s.Images(); err != nil || names(all) != "fresh running foreign" {
		t.Errorf("Images = %q, %v", names(all), err)
	}
	for name, layer := range map[string]string{"fresh": "1", "running": "3", "foreign": "4"} {
		if err := checkImage(s, name, layer); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGCWithoutPods(t *testing.T) {
	s := newStore(t)
	fetchImage(t, s, "app", "one")
	if err := s.Remove("app"); err != nil {
		t.Fatal(err)
	}
	before := tree(t, s)
	unreadable := errors.New("read pod: it is damaged")
	_, err := s.GC(func() (InUse, error) { return InUse{}, unreadable }, GCOptions{Grace: 1})
	if !errors.Is(err, unreadable) {
		t.Errorf("GC = %v, want %v", err, unreadable)
	}
	if got := tree(t, s); !slices.Equal(got, before) {
		t.Errorf("not knowing what pods use, GC made %v out of %v", got, before)
	}
}

// TestGCFollowsDamagedDocuments checks that damage in a small file does not
// cost the big ones.
func TestGCFollowsDamagedDocuments(t *testing.T) {
	s := newStore(t)
	img := fetchImage(t, s, "app", "one")
	path, _ := s.blobPath(img.Manifest.Digest)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(data), `"schemaVersion":2`, `"schemaVersion":"2"`, 1)
	if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	collect(t, s, GCOptions{})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkImage(s, "app", "one"); err != nil {
		t.Error(err)
	}
}

func TestShareHoldsGCBack(t *testing.T) {
	s := newStore(t)
	release, err := s.Share()
	if err != nil {
		t.Fatal(err)
	}
	lease := openLease(t, s) // which does not
	done := make(chan struct{})
	asked := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := s.GC(func() (InUse, error) { close(asked); return InUse{}, nil }, GCOptions{}); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-asked:
		t.Fatal("GC did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := lease.HasBlob(descOf(nil)); err != nil { // while GC waits
		t.Error(err)
	}
	release()
	release() // is harmless
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("GC still waits")
	}
}
