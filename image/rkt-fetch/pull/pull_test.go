package pull

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/archive"
	"github.com/rkt/rkt/image/rkt-fetch/registry"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/image/unpack"
	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/store"
	"github.com/rkt/rkt/tests/images"
	"github.com/rkt/rkt/tests/registrytest"
)

// notes is a Progress that remembers.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) Note(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
}

func (n *notes) Layer(digest.Digest, int64) Track { return silent{} }

func (n *notes) all() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

// unpackHere unpacks in this process.
func unpackHere(ctx context.Context, blob io.Reader, mediaType string, diffID digest.Digest, target string) error {
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dir.Close()
	_, err = unpack.Layer(ctx, blob, dir, unpack.Options{MediaType: mediaType, DiffID: diffID})
	return err
}

// client is somebody who fetches into a store of his own.
type client struct {
	t      *testing.T
	dir    string
	policy *trust.Policy
	notes  *notes
	wanted source.Platform
}

func newClient(t *testing.T) *client {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the files of layers belong to root")
	}
	amd, err := source.ParsePlatform("linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, dir: t.TempDir(), notes: &notes{}, wanted: amd}
}

func (c *client) store() *store.Store {
	c.t.Helper()
	s, err := store.Open(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *client) options(image string, when Policy) Options {
	c.t.Helper()
	ref, err := reference.Parse(image)
	if err != nil {
		c.t.Fatal(err)
	}
	conf := &config.Config{}
	return Options{
		Store: c.store(), Dir: c.dir, Ref: ref, When: when, Trust: c.policy, Platform: c.wanted,
		Unpack: unpackHere, Unpacks: 2, Progress: c.notes,
		Open: func(ctx context.Context) (Origin, error) {
			if ref.IsLocal() {
				s, err := archive.Open(ctx, ref, archive.Options{Temp: filepath.Join(c.dir, "partial")})
				if err != nil {
					return nil, err
				}
				return Archive{s}, nil
			}
			tr := transport.New(transport.Options{Base: ctx, Config: conf, Insecure: insecure.HTTP, Stall: 5 * time.Second})
			return Registry{Source: registry.New(ctx, registry.Options{Ref: ref, Config: conf, Insecure: insecure.HTTP, Transport: tr, Note: c.notes.Note})}, nil
		},
	}
}

func (c *client) fetch(image string, when Policy) (Result, error) {
	c.t.Helper()
	return Fetch(c.t.Context(), c.options(image, when))
}

func (c *client) must(image string, when Policy, fetched bool) store.Image {
	c.t.Helper()
	r, err := c.fetch(image, when)
	if err != nil {
		c.t.Fatal(err)
	}
	if r.Fetched != fetched {
		c.t.Errorf("%s with policy %s: fetched is %v, want %v", image, when, r.Fetched, fetched)
	}
	img, err := c.store().Get(r.Name)
	if err != nil || img.Manifest.Digest != r.Digest {
		c.t.Fatalf("the store has %+v, %v, the result says %s", img.Manifest, err, r.Digest)
	}
	return img
}

// read returns a file of an image's root.
func (c *client) read(img store.Image, name string) string {
	c.t.Helper()
	s := c.store()
	m, err := s.Manifest(img)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg, err := s.Config(m)
	if err != nil {
		c.t.Fatal(err)
	}
	root, err := s.Root(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, lower := range root.Lower {
		if data, err := os.ReadFile(filepath.Join(lower, name)); err == nil {
			return string(data)
		}
	}
	return ""
}

// left lists what is in the store beside its lock files and empty directories.
func (c *client) left() []string {
	c.t.Helper()
	var files []string
	err := filepath.WalkDir(c.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.dir, path)
		if err != nil {
			return err
		}
		known := rel == "images/index.json" || rel == "images/oci-layout" || strings.HasPrefix(rel, "locks")
		if entry.IsDir() && !strings.HasPrefix(rel, "layers/") || known {
			return nil
		}
		files = append(files, rel)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return files
}

func makeLayer(t *testing.T, compression images.Compression, name string, size int) images.Layer {
	t.Helper()
	body := make([]byte, size)
	state := uint32(len(name)) + uint32(name[0])
	for i := range body {
		state = state*1664525 + 1013904223
		body[i] = byte(state >> 24)
	}
	l, err := images.NewLayer(compression, []images.File{{Name: name, Body: "content of " + name}, {Name: name + ".data", Body: string(body)}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func image(arch string, layers ...images.Layer) images.Image {
	return images.Image{Layers: layers, Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
}

// put writes an image into a new layout under the tag "v1".
func put(t *testing.T, list ...images.Image) (dir string, desc ocispec.Descriptor) {
	t.Helper()
	dir = t.TempDir()
	l, err := images.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 1 {
		desc, err = l.Put("v1", list[0])
	} else {
		desc, err = l.PutIndex("v1", list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, desc
}

func TestFetchFormats(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	gz, zs, plain := makeLayer(t, images.Gzip, "a", 50_000), makeLayer(t, images.Zstd, "b", 50_000), makeLayer(t, images.Uncompressed, "c", 50_000)
	again := makeLayer(t, images.Uncompressed, "a", 50_000) // the same tree as gz, another blob
	for _, tc := range []struct {
		name  string
		image images.Image
		flags []string
		files []string
	}{
		{"gzip", image("amd64", gz), nil, []string{"a"}},
		{"zstd and plain", image("amd64", zs, plain), nil, []string{"b", "c"}},
		{"repeated layers", image("amd64", gz, zs, gz, gz), nil, []string{"a", "b"}},
		{"one tree, two blobs", image("amd64", gz, zs, again), nil, []string{"a", "b"}},
		{"no layers", image("amd64"), nil, nil},
		{"Docker schema 2", image("amd64", gz), []string{"--format=v2s2"}, []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := "app/" + strings.ReplaceAll(strings.ToLower(strings.ReplaceAll(tc.name, ",", "")), " ", "-")
			dir, _ := put(t, tc.image)
			r.Push(t, dir, "v1", name+":v1", tc.flags...)
			c := newClient(t)
			img := c.must(r.Host+"/"+name+":v1", New, true)
			for _, file := range tc.files {
				if got := c.read(img, file); got != "content of "+file {
					t.Errorf("file %q is %q", file, got)
				}
			}
			c.must(r.Host+"/"+name+":v1", Update, false)
			c.must(r.Host+"/"+name+"@"+img.Manifest.Digest.String(), New, true)
			if lines := c.notes.all(); lines != "" {
				t.Errorf("there are notes: %s", lines)
			}
			for _, entry := range c.left() {
				if strings.HasPrefix(entry, "partial/") || strings.Contains(entry, ".tmp-") {
					t.Errorf("%s is left over", entry)
				}
			}
		})
	}
}

func TestPlatforms(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	dir, index := put(t, image("amd64", makeLayer(t, images.Gzip, "amd", 10)), image("arm64", makeLayer(t, images.Gzip, "arm", 10)))
	r.Push(t, dir, "v1", "multi:v1")
	arm := image("arm64", makeLayer(t, images.Gzip, "arm", 10))
	single, _ := put(t, arm)
	r.Push(t, single, "v1", "arm-only:v1")
	c := newClient(t)
	img := c.must(r.Host+"/multi:v1", New, true)
	if got := c.read(img, "amd"); got == "" || img.Index != index.Digest {
		t.Errorf("file is %q, index %s, want %s", got, img.Index, index.Digest)
	}
	c.must(r.Host+"/multi:v1", Update, false)
	if _, err := c.fetch(r.Host+"/arm-only:v1", New); err == nil || !strings.Contains(err.Error(), "the image is for linux/arm64, not for linux/amd64") {
		t.Errorf("an image of another platform gives %v", err)
	}
	var err error
	if c.wanted, err = source.ParsePlatform("linux/arm64"); err != nil {
		t.Fatal(err)
	}
	other := c.must(r.Host+"/multi:v1", New, true)
	if got := c.read(other, "arm"); got == "" || other.Manifest.Digest == img.Manifest.Digest {
		t.Errorf("for arm64 the file is %q", got)
	}
	if c.wanted, err = source.ParsePlatform("linux/s390x"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.fetch(r.Host+"/multi:v1", Update); err == nil || !strings.Contains(err.Error(), "nothing for linux/s390x, only for linux/amd64, linux/arm64") {
		t.Errorf("a platform that is not there gives %v", err)
	}
}

func TestPullPolicies(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	p := registrytest.NewProxy(t, r)
	base, top, newTop := makeLayer(t, images.Gzip, "base", 300_000), makeLayer(t, images.Gzip, "top", 1000), makeLayer(t, images.Gzip, "new", 2000)
	dir, _ := put(t, image("amd64", base, top))
	r.Push(t, dir, "v1", "app:v1")
	name := p.Host + "/app:v1"
	c := newClient(t)
	if _, err := c.fetch(name, Never); err == nil || !strings.Contains(err.Error(), `it is not in the store, and the pull policy "never" forbids to fetch it`) {
		t.Errorf("never, without the image: %v", err)
	}
	if asked, _ := p.Take(); len(asked) != 0 {
		t.Errorf("never asked the registry: %q", asked)
	}
	first := c.must(name, New, true)
	p.Take()
	for _, when := range []Policy{New, Never} {
		c.must(name, when, false)
		if asked, _ := p.Take(); len(asked) != 0 {
			t.Errorf("%s asked the registry: %q", when, asked)
		}
	}
	c.must(name, Update, false)
	if asked, _ := p.Take(); len(asked) != 1 || asked[0] != "HEAD /v2/app/manifests/v1" {
		t.Errorf("an update without change asked %q, want one HEAD", asked)
	}
	dir, _ = put(t, image("amd64", base, newTop))
	r.Push(t, dir, "v1", "app:v1")
	c.must(name, New, false)
	p.Take()
	second := c.must(name, Update, true)
	asked, blobs := p.Take()
	if c.read(second, "new") == "" || second.Manifest.Digest == first.Manifest.Digest {
		t.Error("the update did not bring the new image")
	}
	if most := int64(len(newTop.Blob) + 2000); blobs > most {
		t.Errorf("the update read %d bytes of blobs (%q), the new layer has %d", blobs, asked, len(newTop.Blob))
	}
	c.must(p.Host+"/app@"+second.Manifest.Digest.String(), Update, true)
	p.Take()
	c.must(p.Host+"/app@"+second.Manifest.Digest.String(), Update, false)
	if asked, _ := p.Take(); len(asked) != 0 {
		t.Errorf("for a digest that is there the registry was asked %q", asked)
	}
}

// TestMissingPartsAreRepaired takes parts of a stored image away, or changes
// them, and looks at what the next fetch asks for.
func TestMissingPartsAreRepaired(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	p := registrytest.NewProxy(t, r)
	a, b := makeLayer(t, images.Gzip, "a", 200_000), makeLayer(t, images.Gzip, "b", 100_000)
	dir, desc := put(t, image("amd64", a, b))
	r.Push(t, dir, "v1", "app:v1")
	c := newClient(t)
	name := p.Host + "/app:v1"
	img := c.must(name, New, true)
	m, err := c.store().Manifest(img)
	if err != nil {
		t.Fatal(err)
	}
	blob := func(d digest.Digest) string { return filepath.Join(c.dir, "images/blobs/sha256", d.Encoded()) }
	tree := filepath.Join(c.dir, "layers", a.DiffID.Encoded())
	damage := func(path string) {
		info, err := os.Stat(path)
		if err == nil {
			err = os.WriteFile(path, make([]byte, info.Size()), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	remove := func(path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	small := int64(10_000)
	for _, tc := range []struct {
		name      string
		hurt      func()
		mostBytes int64
		note      string
	}{
		{"a tree", func() { remove(tree) }, 0, ""},
		{"a layer's blob", func() { remove(blob(m.Layers[0].Digest)) }, int64(len(a.Blob)), ""},
		{"blob and tree", func() { remove(tree); remove(blob(m.Layers[0].Digest)) }, int64(len(a.Blob)), ""},
		{"short blob", func() {
			if err := os.Truncate(blob(m.Layers[0].Digest), 10); err != nil {
				t.Fatal(err)
			}
		}, int64(len(a.Blob)), ""},
		{"corrupt blob without its tree", func() { remove(tree); damage(blob(m.Layers[0].Digest)) }, int64(len(a.Blob)), "blob " + m.Layers[0].Digest.String() + " is corrupt"},
		{"corrupt configuration", func() { damage(blob(m.Config.Digest)) }, small, "blob " + m.Config.Digest.String() + " is corrupt"},
		{"corrupt manifest", func() { damage(blob(desc.Digest)) }, small, "blob " + desc.Digest.String() + " is corrupt"},
		{"manifest", func() { remove(blob(desc.Digest)) }, small, ""},
		{"everything", func() { remove(filepath.Join(c.dir, "images/blobs/sha256")); remove(filepath.Join(c.dir, "layers")) }, int64(len(a.Blob)+len(b.Blob)) + small, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.hurt()
			c.notes = &notes{}
			p.Take()
			if _, err := c.fetch(name, Never); err == nil || !strings.Contains(err.Error(), "in the store") {
				t.Errorf("with policy never it gives %v", err)
			}
			never := c.notes.all()
			img := c.must(name, New, true)
			if c.read(img, "a") == "" || c.read(img, "b") == "" {
				t.Error("the image is not whole")
			}
			asked, blobs := p.Take()
			if blobs > tc.mostBytes {
				t.Errorf("%d bytes of blobs were read (%q), want at most %d", blobs, asked, tc.mostBytes)
			}
			if got := never + c.notes.all(); tc.note == "" && got != "" || !strings.Contains(got, tc.note) {
				t.Errorf("notes are %q, want %q", got, tc.note)
			}
			c.must(name, Never, false)
		})
	}
}

func TestSkopeoReadsTheStore(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skipf("needs skopeo: %v", err)
	}
	r := registrytest.Start(t, registrytest.Options{})
	dir, desc := put(t, image("amd64", makeLayer(t, images.Gzip, "a", 1000)))
	r.Push(t, dir, "v1", "app:v1")
	c := newClient(t)
	c.must(r.Host+"/app:v1", New, true)
	out, err := exec.Command("skopeo", "inspect", "--raw", fmt.Sprintf("oci:%s/images:%s/app:v1", c.dir, r.Host)).CombinedOutput()
	if err != nil || digest.FromBytes(out) != desc.Digest {
		t.Errorf("skopeo reads %s, %v", out, err)
	}
}

// TestOverlappingFetches fetches images that share layers at the same time,
// as several processes would.
func TestOverlappingFetches(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	p := registrytest.NewProxy(t, r)
	var layers []images.Layer
	total := 0
	for _, name := range []string{"a", "b", "c", "d"} {
		layers = append(layers, makeLayer(t, images.Gzip, name, 150_000))
		total += len(layers[len(layers)-1].Blob)
	}
	var names []string
	for i := range layers {
		order := slices.Concat(layers[i:], layers[:i])
		dir, _ := put(t, image("amd64", order...))
		name := fmt.Sprintf("app%d:v1", i)
		r.Push(t, dir, "v1", name)
		names = append(names, p.Host+"/"+name)
	}
	c := newClient(t)
	var wait sync.WaitGroup
	for _, name := range slices.Concat(names, names) {
		wait.Go(func() {
			if _, err := c.fetch(name, New); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if _, blobs := p.Take(); blobs > int64(total)+20_000 {
		t.Errorf("%d bytes of blobs were read, all layers together have %d", blobs, total)
	}
	for _, name := range names {
		img := c.must(name, Never, false)
		for _, file := range []string{"a", "b", "c", "d"} {
			if c.read(img, file) == "" {
				t.Errorf("%s lacks file %q", name, file)
			}
		}
	}
}
