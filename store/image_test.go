package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func names(images []Image) string {
	var all []string
	for _, img := range images {
		all = append(all, img.Name)
	}
	return strings.Join(all, " ")
}

func TestNames(t *testing.T) {
	s := newStore(t)
	start := time.Now().Add(-time.Second)
	one := fetchImage(t, s, "reg.example:5000/team/app:1", "one")
	two := fetchImage(t, s, "reg.example:5000/team/app:2", "one", "two")

	got, err := s.Get(one.Name)
	if err != nil {
		t.Fatal(err)
	}
	if got.Imported.Before(start) || got.LastUsed.Before(start) || got.Size <= int64(len("one")) {
		t.Errorf("Get did not fill in: %+v", got)
	}
	one.Imported, one.LastUsed, one.Size = got.Imported, got.LastUsed, got.Size
	if diff := cmp.Diff(one, got); diff != "" {
		t.Errorf("Get differs from what was Put:\n%s", diff)
	}
	all, err := s.Images()
	if err != nil || names(all) != one.Name+" "+two.Name {
		t.Errorf("Images = %q, %v", names(all), err)
	}

	// A name moves to another image and keeps its place.
	moved := two
	moved.Name, moved.Index, moved.Imported = one.Name, two.Manifest.Digest, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	if err := s.Put(moved); err != nil {
		t.Fatal(err)
	}
	got, err = s.Get(one.Name)
	if err != nil || got.Manifest.Digest != two.Manifest.Digest || got.Index != moved.Index || !got.Imported.Equal(moved.Imported) {
		t.Errorf("Get of a moved name = %+v, %v", got, err)
	}
	if all, err := s.Images(); err != nil || names(all) != one.Name+" "+two.Name {
		t.Errorf("Images = %q, %v", names(all), err)
	}
	// Put again without a time: it is the same image, imported then.
	moved.Imported = time.Time{}
	if err := s.Put(moved); err != nil {
		t.Fatal(err)
	}
	if again, _ := s.Get(one.Name); !again.Imported.Equal(got.Imported) {
		t.Errorf("Imported changed from %v to %v", got.Imported, again.Imported)
	}

	if err := s.Remove(one.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(one.Name); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a removed name = %v", err)
	}
	if err := s.Remove(one.Name); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove of a removed name = %v", err)
	}
	if err := checkImage(s, two.Name, "one", "two"); err != nil {
		t.Error(err)
	}
}

func TestPutRefuses(t *testing.T) {
	s := newStore(t)
	good := fetchImage(t, s, "good", "one")
	lost := fetchImage(t, s, "lost", "two")
	if err := s.RemoveBlob(digest.FromString("two")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Image)
		want   string
	}{
		"no name":             {func(i *Image) { i.Name = "" }, "printable characters"},
		"a newline":           {func(i *Image) { i.Name = "a\nb" }, "printable characters"},
		"an escape":           {func(i *Image) { i.Name = "\x1b[31m" }, "printable characters"},
		"no UTF-8":            {func(i *Image) { i.Name = "a\xff" }, "printable characters"},
		"a long name":         {func(i *Image) { i.Name = strings.Repeat("a", 1025) }, "printable characters"},
		"an index":            {func(i *Image) { i.Manifest.MediaType = ocispec.MediaTypeImageIndex }, "media type"},
		"no manifest":         {func(i *Image) { i.Manifest.Digest = digest.FromString("nothing") }, "is not in the store"},
		"another size":        {func(i *Image) { i.Manifest.Size++ }, "is corrupt"},
		"no evidence":         {func(i *Image) { i.Evidence = digest.FromString("nothing") }, "is not in the store"},
		"no index":            {func(i *Image) { i.Index = digest.FromString("nothing") }, "is not in the store"},
		"an invalid evidence": {func(i *Image) { i.Evidence = "sha256:.." }, "is not a sha256 or sha512 digest"},
		"a missing layer":     {func(i *Image) { i.Manifest = lost.Manifest }, "is not in the store"},
	} {
		t.Run(name, func(t *testing.T) {
			img := good
			c.change(&img)
			if err := s.Put(img); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Put = %v, want %q", err, c.want)
			}
		})
	}
}

func TestByDigest(t *testing.T) {
	s := newStore(t)
	one := fetchImage(t, s, "one", "one")
	alias := one
	alias.Name = "alias"
	if err := s.Put(alias); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // some of which begin with the same digit
		fetchImage(t, s, fmt.Sprintf("other%d", i), fmt.Sprint(i))
	}
	hex := one.Manifest.Digest.Encoded()
	for prefix, want := range map[string]string{
		one.Manifest.Digest.String(): "one alias",
		hex:                          "one alias",
		hex[:12]:                     "one alias",
		"sha256:" + hex[:12]:         "one alias",
	} {
		if got, err := s.ByDigest(prefix); err != nil || names(got) != want {
			t.Errorf("ByDigest(%q) = %q, %v, want %q", prefix, names(got), err, want)
		}
	}
	for _, prefix := range []string{"", "a", "sha256:", "sha256:a", "xy", "AB", "a/b", "../.."} {
		if _, err := s.ByDigest(prefix); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("ByDigest(%q) = %v, want it refused", prefix, err)
		}
	}
	for _, prefix := range []string{"sha512:" + hex[:12], strings.Repeat("ab", 32)} {
		if _, err := s.ByDigest(prefix); !errors.Is(err, ErrNotFound) {
			t.Errorf("ByDigest(%q) = %v, want ErrNotFound", prefix, err)
		}
	}
}

func TestTouch(t *testing.T) {
	s := newStore(t)
	img := fetchImage(t, s, "app", "one")
	path, _ := s.blobPath(img.Manifest.Digest)
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get("app"); time.Since(got.LastUsed) < 24*time.Hour {
		t.Errorf("LastUsed = %v, want %v", got.LastUsed, past)
	}
	if err := s.Touch(img); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get("app"); time.Since(got.LastUsed) > time.Hour {
		t.Errorf("LastUsed = %v after Touch", got.LastUsed)
	}
	if err := s.RemoveBlob(img.Manifest.Digest); err != nil {
		t.Fatal(err)
	}
	if err := s.Touch(img); !errors.Is(err, ErrNotFound) {
		t.Errorf("Touch of a missing image = %v", err)
	}
}

func TestConfigKnowsTheLayers(t *testing.T) {
	s := newStore(t)
	img := fetchImage(t, s, "app", "one", "two")
	m, err := s.Manifest(img)
	if err != nil {
		t.Fatal(err)
	}
	m.Layers = m.Layers[:1]
	if _, err := s.Config(m); err == nil || !strings.Contains(err.Error(), "lists 2 layers, its manifest 1") {
		t.Errorf("Config = %v", err)
	}
}

// foreign is an index as other tools write it, with things that rkt does not know.
const foreign = `{
 "schemaVersion": 2, "x-top": {"a": [1, 2.50, "<&>"]}, "annotations": {"org.example": "top"},
 "manifests": [
  {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:DIGEST", "size": 5, "annotations": {"org.opencontainers.image.ref.name": "multi"}},
  {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:DIGEST", "size": 5, "x-field": 12345678901234567890},
  {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:DIGEST", "size": 5, "annotations": {"org.opencontainers.image.ref.name": "foreign", "org.example": "\u003cb\u003e"}},
  {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:DIGEST", "size": 6, "annotations": {"org.opencontainers.image.ref.name": "foreign"}},
  {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "no digest", "size": 5, "annotations": {"org.opencontainers.image.ref.name": "broken"}},
  {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:DIGEST", "size": 5, "annotations": {"org.opencontainers.image.ref.name": "esc\u0061ped"}},
  17
 ]
}`

func writeIndex(t testing.TB, s *Store, content string) {
	t.Helper()
	if err := os.WriteFile(s.indexPath(), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestForeignEntriesStay(t *testing.T) {
	s := newStore(t)
	writeIndex(t, s, strings.ReplaceAll(foreign, "DIGEST", digest.FromString("x").Encoded()))
	all, err := s.Images()
	if err != nil || names(all) != "foreign escaped" {
		t.Errorf("Images = %q, %v", names(all), err)
	}
	if img, err := s.Get("foreign"); err != nil || img.Manifest.Size != 5 || img.Manifest.Annotations["org.example"] != "<b>" {
		t.Errorf("Get = %+v, %v", img, err)
	}
	for _, name := range []string{"multi", "broken", "", "nothing"} {
		if img, err := s.Get(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q) = %+v, %v", name, img, err)
		}
	}
	before := decode(t, s)
	for _, name := range []string{"", "nothing"} {
		if err := s.Remove(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Remove(%q) = %v", name, err)
		}
	}
	fetchImage(t, s, "ours", "one")
	fetchImage(t, s, "also ours", "two")
	if err := s.Remove("ours"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("also ours"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, decode(t, s)); diff != "" {
		t.Errorf("putting and removing our names changed:\n%s", diff)
	}
	collect(t, s, GCOptions{Grace: 1})
	if diff := cmp.Diff(before, decode(t, s)); diff != "" {
		t.Errorf("GC changed:\n%s", diff)
	}
	fetchImage(t, s, "escaped", "three")
	fetchImage(t, s, "foreign", "three")
	if all, err := s.Images(); err != nil || names(all) != "foreign escaped" {
		t.Errorf("after replacing, Images = %q, %v", names(all), err)
	}
	if err := checkImage(s, "foreign", "three"); err != nil {
		t.Error(err)
	}
}

func decode(t *testing.T, s *Store) any {
	t.Helper()
	data, err := os.ReadFile(s.indexPath())
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDamagedIndex(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "cut": foreign[:len(foreign)/2], "null": "null", "a list": "[]",
		"manifests": `{"manifests":{}}`, "a name": `"x"`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img := fetchImage(t, s, "app", "one")
			writeIndex(t, s, content)
			before := tree(t, s)
			for what, use := range map[string]func() error{
				"Images": func() error { _, err := s.Images(); return err },
				"Get":    func() error { _, err := s.Get("app"); return err },
				"Put":    func() error { return s.Put(img) },
				"Remove": func() error { return s.Remove("app") },
				"GC":     func() error { _, err := s.GC(nothingInUse, GCOptions{}); return err },
			} {
				if err := use(); err == nil || !strings.Contains(err.Error(), "index.json") {
					t.Errorf("%s = %v, want an error that names the file", what, err)
				}
			}
			if got := tree(t, s); !slices.Equal(got, before) {
				t.Errorf("changed %v into %v", before, got)
			}
			if err := os.Remove(s.indexPath()); err != nil {
				t.Fatal(err)
			}
			fetchImage(t, s, "app", "one")
			if err := checkImage(s, "app", "one"); err != nil {
				t.Errorf("after removing it, as the error says: %v", err)
			}
		})
	}
}

func TestIndexLimit(t *testing.T) {
	s := newStore(t)
	if err := os.Truncate(s.indexPath(), maxIndex+1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Images(); err == nil || !strings.Contains(err.Error(), "more than the limit") {
		t.Errorf("Images = %v", err)
	}
}

func TestNamesAtOnce(t *testing.T) {
	s := newStore(t)
	img := fetchImage(t, s, "app", "one")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			img := img
			for j := range 3 {
				img.Name = fmt.Sprintf("%d-%d", i, j)
				if err := s.Put(img); err != nil {
					t.Error(err)
				}
			}
			if err := s.Remove(fmt.Sprintf("%d-0", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	images, err := s.Images()
	if err != nil || len(images) != 1+20*2 {
		t.Errorf("there are %d names, %v", len(images), err)
	}
}

// FuzzIndex feeds any bytes as index.json: what can be read can be edited, and
// editing changes only what was asked for.
func FuzzIndex(f *testing.F) {
	f.Add(emptyIndex())
	f.Add([]byte(strings.ReplaceAll(foreign, "DIGEST", digest.FromString("x").Encoded())))
	f.Add([]byte(`{"manifests":null,"a":1}`))
	f.Add([]byte(`{"manifests":[{"digest":1}],"Manifests":[{}],"manifests":[]}`))
	f.Add([]byte(`{"a":{"manifests":[{"digest":"nested"}]},"manifests":[[{"a":1}],{"b":"\\\"]}"},{}],"b":["manifests"]}`))
	f.Add([]byte(`{"\u006danifests":[{}],"manifests":[{"a":[{}]}]}`))
	s := newStore(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex(data)
		if err != nil {
			return
		}
		var scanned []entry
		if scanEntries(data, func(e entry) { scanned = append(scanned, e) }) {
			objects := slices.DeleteFunc(slices.Clone(x.entries), func(e entry) bool { return e[0] != '{' })
			if diff := cmp.Diff(objects, scanned, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("scanning found other entries than parsing:\n%s", diff)
			}
		}
		images := s.images(x.entries)
		newMarker(s).index(x.entries)
		desc := Image{Name: "fuzz/new:name", Manifest: descOf([]byte("x")), Imported: time.Unix(1, 2)}
		desc.Manifest.MediaType = ocispec.MediaTypeImageManifest
		_, had := s.find(x.entries, desc.Name)
		if err := x.put(desc.Name, desc.descriptor()); err != nil {
			t.Fatalf("put: %v", err)
		}
		out, err := x.bytes()
		if err != nil {
			t.Fatalf("print: %v", err)
		}
		y, err := parseIndex(out)
		if err != nil {
			t.Fatalf("parse what was printed: %v\n%s", err, out)
		}
		got, found := s.find(y.entries, desc.Name)
		if !found || got.Manifest.Digest != desc.Manifest.Digest {
			t.Fatalf("the name that was put stands for %+v", got)
		}
		if !had && !slices.Equal(slices.Sorted(maps.Keys(x.fields)), slices.Sorted(maps.Keys(y.fields))) {
			t.Fatalf("fields %v became %v", x.fields, y.fields)
		}
		if !y.remove(desc.Name) {
			t.Fatal("the name that was put cannot be removed")
		}
		if again := s.images(y.entries); !had && names(again) != names(images) {
			t.Fatalf("names were %q and are %q", names(images), names(again))
		}
	})
}
