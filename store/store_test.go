package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const testMediaType = "application/vnd.example.test+json"

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(memoryDir(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openLease(t testing.TB, s *Store) *Lease {
	t.Helper()
	l, err := s.Lease()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// descOf describes data as a blob.
func descOf(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// fetchImage does to the store what a fetch does: every layer is a blob and a
// tree with one file that holds the same. It returns the image, named.
func fetchImage(t testing.TB, s *Store, name string, layers ...string) Image {
	t.Helper()
	l := openLease(t, s)
	defer func() { _ = l.Close() }()
	img, err := fetchInto(s, l, name, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func fetchInto(s *Store, l *Lease, name string, layers ...string) (Image, error) {
	cfg := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, layer := range layers {
		if err := writeBlob(l, []byte(layer)); err != nil {
			return Image{}, err
		}
		if err := unpack(l, layer); err != nil {
			return Image{}, err
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromString(layer))
		manifest.Layers = append(manifest.Layers, descOf([]byte(layer)))
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		return Image{}, err
	}
	if manifest.Config, err = s.PutBlob(ocispec.MediaTypeImageConfig, data); err != nil {
		return Image{}, err
	}
	if data, err = json.Marshal(manifest); err != nil {
		return Image{}, err
	}
	img := Image{Name: name}
	if img.Manifest, err = s.PutBlob(ocispec.MediaTypeImageManifest, data); err != nil {
		return Image{}, err
	}
	evidence, err := s.PutBlob(testMediaType, []byte(`{"evidence":"`+name+`"}`))
	if err != nil {
		return Image{}, err
	}
	img.Evidence = evidence.Digest
	return img, s.Put(img)
}

func writeBlob(l *Lease, data []byte) error {
	w, err := l.Writer(descOf(data))
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	rest := data[w.Offset():]
	for _, part := range [][]byte{rest[:len(rest)/2], rest[len(rest)/2:]} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return w.Commit()
}

func unpack(l *Lease, layer string) error {
	d, err := l.Layer(digest.FromString(layer))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if d.Done() {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(d.Path(), "dir"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.Path(), "dir", "file"), []byte(layer), 0o600); err != nil {
		return err
	}
	if err := l.s.Sync(); err != nil {
		return err
	}
	return d.Commit()
}

// checkImage reads an image in every way.
func checkImage(s *Store, name string, layers ...string) error {
	img, err := s.Get(name)
	if err != nil {
		return err
	}
	m, err := s.Manifest(img)
	if err != nil {
		return err
	}
	cfg, err := s.Config(m)
	if err != nil {
		return err
	}
	root, err := s.Root(cfg)
	if err != nil {
		return err
	}
	if _, err := s.ReadBlob(ocispec.Descriptor{Digest: img.Evidence}); err != nil {
		return err
	}
	for i, l := range m.Layers {
		r, err := s.OpenBlob(l)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if closed := r.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
		if layers != nil && string(data) != layers[i] {
			return errors.New("layer has the content of another")
		}
	}
	for i, dir := range slices.Backward(root.Lower) {
		data, err := os.ReadFile(filepath.Join(dir, "dir", "file"))
		if err != nil {
			return err
		}
		if want := cfg.RootFS.DiffIDs[len(root.Lower)-1-i]; digest.FromBytes(data) != want {
			return errors.New("tree has the content of another")
		}
	}
	return nil
}

// tree lists all that is in the store, but for lock files that stay.
func tree(t testing.TB, s *Store) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(s.dir, func(path string, e os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, s.dir+"/")
		if err == nil && !e.IsDir() && name != "locks/store" && name != "locks/index" ||
			strings.HasPrefix(e.Name(), ".") || filepath.Dir(name) == "layers" {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func nothingInUse() (InUse, error) { return InUse{}, nil }

func collect(t testing.TB, s *Store, opts GCOptions) GCReport {
	t.Helper()
	report, err := s.GC(nothingInUse, opts)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

var emptyStore = []string{"images/index.json", "images/oci-layout"}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, s); !slices.Equal(got, emptyStore) {
		t.Errorf("new store has %v", got)
	}
	fetchImage(t, s, "reg.example/app:1", "one")
	before := tree(t, s)
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, again); !slices.Equal(got, before) {
		t.Errorf("opening again changed %v into %v", before, got)
	}
	if err := checkImage(again, "reg.example/app:1", "one"); err != nil {
		t.Error(err)
	}
}

func TestOpenRepairs(t *testing.T) {
	for _, missing := range []string{"layers", "partial", "locks", "images/oci-layout", "images/index.json", "images"} {
		t.Run(missing, func(t *testing.T) {
			s := newStore(t)
			if err := os.RemoveAll(s.path(missing)); err != nil {
				t.Fatal(err)
			}
			s, err := Open(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			fetchImage(t, s, "app", "one")
			if err := checkImage(s, "app", "one"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, content := range map[string]string{
		"another version": `{"imageLayoutVersion":"2.0.0"}`,
		"no JSON":         `imageLayoutVersion`,
		"empty":           ``,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if err := os.WriteFile(s.path("images", "oci-layout"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(s.dir)
			if err == nil || !strings.Contains(err.Error(), "oci-layout") {
				t.Errorf("Open = %v, want an error that names the file", err)
			}
		})
	}
}

func TestOpenAtOnce(t *testing.T) {
	dir := t.TempDir()
	errs := make(chan error)
	for range 16 {
		go func() {
			s, err := Open(dir)
			if err == nil {
				_, err = s.Images()
			}
			errs <- err
		}()
	}
	for range 16 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestSplitDigest(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for d, ok := range map[string]bool{
		"sha256:" + hex:                        true,
		"sha512:" + hex + hex:                  true,
		"sha256:" + hex[:63]:                   false,
		"sha256:" + hex + "0":                  false,
		"sha256:" + strings.ToUpper(hex):       false,
		"sha512:" + hex:                        false,
		"sha384:" + hex + hex[:32]:             false,
		"md5:" + hex[:32]:                      false,
		hex:                                    false,
		"":                                     false,
		":":                                    false,
		"sha256:":                              false,
		"sha256:../../../../../../etc/passwd":  false,
		"sha256:" + hex[:61] + "/..":           false,
		"../sha256:" + hex:                     false,
		"sha256:" + hex[:63] + "\n":            false,
		"sha256:" + hex[:63] + "\x00":          false,
		strings.Repeat("a", 1<<20) + ":" + hex: false,
	} {
		if _, _, err := splitDigest(digest.Digest(d)); (err == nil) != ok {
			t.Errorf("splitDigest(%.80q) = %v, want ok %v", d, err, ok)
		} else if err != nil && len(err.Error()) > 1000 {
			t.Errorf("splitDigest(%.80q) has an error of %d bytes", d, len(err.Error()))
		}
	}
}

func TestInvalidDigestsAreRefusedEverywhere(t *testing.T) {
	s := newStore(t)
	l := openLease(t, s)
	bad := ocispec.Descriptor{Digest: "sha256:../../../../../../../../../../../../../../../../../../../../../etc", Size: 1}
	for name, use := range map[string]func() error{
		"OpenBlob":   func() error { _, err := s.OpenBlob(bad); return err },
		"ReadBlob":   func() error { _, err := s.ReadBlob(bad); return err },
		"RemoveBlob": func() error { return s.RemoveBlob(bad.Digest) },
		"HasBlob":    func() error { _, err := l.HasBlob(bad); return err },
		"HasLayer":   func() error { _, err := l.HasLayer(bad.Digest); return err },
		"Writer":     func() error { _, err := l.Writer(bad); return err },
		"Layer":      func() error { _, err := l.Layer(bad.Digest); return err },
		"Touch":      func() error { return s.Touch(Image{Manifest: bad}) },
		"Manifest":   func() error { _, err := s.Manifest(Image{Manifest: bad}); return err },
		"Config":     func() error { _, err := s.Config(ocispec.Manifest{Config: bad}); return err },
		"Root": func() error {
			_, err := s.Root(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{bad.Digest}}})
			return err
		},
		"Put": func() error {
			bad := bad
			bad.MediaType = ocispec.MediaTypeImageManifest
			return s.Put(Image{Name: "app", Manifest: bad})
		},
	} {
		if err := use(); err == nil || !strings.Contains(err.Error(), "is not a sha256 or sha512 digest") {
			t.Errorf("%s: %v, want it to refuse the digest", name, err)
		}
	}
	if s.HasBlob(bad.Digest, 0) {
		t.Error("HasBlob found a file outside")
	}
}

func TestBlobs(t *testing.T) {
	s := newStore(t)
	for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("0123456789"), 1e5)} {
		desc, err := s.PutBlob(testMediaType, data)
		if err != nil {
			t.Fatal(err)
		}
		if desc.Digest != digest.FromBytes(data) || desc.Size != int64(len(data)) || desc.MediaType != testMediaType {
			t.Errorf("descriptor %+v", desc)
		}
		if again, err := s.PutBlob(testMediaType, data); err != nil || again.Digest != desc.Digest {
			t.Errorf("put again: %+v, %v", again, err)
		}
		for _, size := range []int64{0, desc.Size} {
			desc.Size = size
			got, err := s.ReadBlob(desc)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("ReadBlob = %d bytes, %v", len(got), err)
			}
			r, err := s.OpenBlob(desc)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
				t.Errorf("OpenBlob = %d bytes, %v", len(got), err)
			}
			_ = r.Close()
			if !s.HasBlob(desc.Digest, size) {
				t.Error("HasBlob = false")
			}
		}
		if s.HasBlob(desc.Digest, int64(len(data))+1) {
			t.Error("HasBlob = true with another size")
		}
		if err := s.RemoveBlob(desc.Digest); err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveBlob(desc.Digest); err != nil {
			t.Errorf("remove again: %v", err)
		}
		for _, read := range []func() error{
			func() error { _, err := s.ReadBlob(desc); return err },
			func() error { _, err := s.OpenBlob(desc); return err },
		} {
			if err := read(); !errors.Is(err, ErrNotFound) {
				t.Errorf("removed blob: %v, want ErrNotFound", err)
			}
		}
	}
	if _, err := s.PutBlob(testMediaType, make([]byte, MaxDocument+1)); err == nil {
		t.Error("PutBlob took more than MaxDocument")
	}
}

// TestCorruptBlob damages a blob in every way and expects it to be named, and
// to be whole after it was removed and put again.
func TestCorruptBlob(t *testing.T) {
	data := bytes.Repeat([]byte("layer"), 50000)
	for name, damage := range map[string]func(path string) error{
		"a bit": func(path string) error {
			changed := bytes.Clone(data)
			changed[len(changed)/2] ^= 1
			return os.WriteFile(path, changed, 0o600)
		},
		"the end":   func(path string) error { return os.Truncate(path, int64(len(data)-1)) },
		"longer":    func(path string) error { return os.WriteFile(path, append(bytes.Clone(data), 0), 0o600) },
		"all":       func(path string) error { return os.Truncate(path, 0) },
		"a symlink": func(path string) error { _ = os.Remove(path); return os.Symlink("/etc/passwd", path) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			l := openLease(t, s)
			if err := writeBlob(l, data); err != nil {
				t.Fatal(err)
			}
			desc := descOf(data)
			path, _ := s.blobPath(desc.Digest)
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			for _, desc := range []ocispec.Descriptor{desc, {Digest: desc.Digest}} {
				_, err := s.ReadBlob(desc)
				checkCorrupt(t, err, desc.Digest, path)
				r, err := s.OpenBlob(desc)
				if err == nil {
					_, err = io.Copy(io.Discard, r)
					_ = r.Close()
				}
				checkCorrupt(t, err, desc.Digest, path)
			}
			if err := s.RemoveBlob(desc.Digest); err != nil {
				t.Fatal(err)
			}
			if err := writeBlob(l, data); err != nil {
				t.Fatal(err)
			}
			if got, err := s.ReadBlob(desc); err != nil || !bytes.Equal(got, data) {
				t.Errorf("fetched again: %d bytes, %v", len(got), err)
			}
		})
	}
}

func checkCorrupt(t *testing.T, err error, d digest.Digest, path string) {
	t.Helper()
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Digest != d || corrupt.Path != path {
		t.Errorf("%v, want a CorruptError of %s", err, path)
	}
}

func TestPutBlobReplacesCorruptOne(t *testing.T) {
	s := newStore(t)
	desc, err := s.PutBlob(testMediaType, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	path, _ := s.blobPath(desc.Digest)
	if err := os.WriteFile(path, []byte("CONTENT"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutBlob(testMediaType, []byte("content")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(desc); err != nil {
		t.Error(err)
	}
}
