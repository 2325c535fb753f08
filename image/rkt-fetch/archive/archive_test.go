package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/tests/images"
)

// memory is a sink that verifies nothing.
type memory struct{ bytes.Buffer }

func (m *memory) Offset() int64  { return int64(m.Len()) }
func (m *memory) Restart() error { m.Reset(); return nil }

func layer(t *testing.T, compression images.Compression, name string) images.Layer {
	t.Helper()
	l, err := images.NewLayer(compression, []images.File{{Name: name, Body: strings.Repeat(name, 1000)}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// layout writes an OCI layout with an image "one" of two layers, an index
// "multi" of two platforms and a second name of "one".
func layout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	l, err := images.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	amd, arm := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}
	one := images.Image{Layers: []images.Layer{layer(t, images.Gzip, "a"), layer(t, images.Zstd, "b")}, Platform: amd}
	for _, name := range []string{"one", "same"} {
		if _, err := l.Put(name, one); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.PutIndex("multi", []images.Image{one, {Layers: []images.Layer{layer(t, images.Uncompressed, "c")}, Platform: arm}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pack makes a tar archive of files, in an order.
func pack(t *testing.T, dir string, names ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if names == nil {
		if err := w.AddFS(os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		body, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func write(t *testing.T, body []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, name string, o Options) (*Source, error) {
	t.Helper()
	ref, err := reference.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	if o.Temp == "" {
		o.Temp = t.TempDir()
	}
	s, err := Open(t.Context(), ref, o)
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// readAll reads every blob of the image, for every platform, and verifies it.
func readAll(t *testing.T, s *Source) (blobs int) {
	t.Helper()
	doc, err := s.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manifests := []source.Document{doc}
	if doc.IsIndex() {
		index, err := doc.Index()
		if err != nil {
			t.Fatal(err)
		}
		manifests = nil
		for _, desc := range index.Manifests {
			child, err := s.Child(t.Context(), desc)
			if err != nil {
				t.Fatal(err)
			}
			manifests = append(manifests, child)
		}
	}
	for _, doc := range manifests {
		m, err := doc.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, desc := range append(m.Layers, m.Config) {
			var got memory
			if err := s.Blob(t.Context(), desc, &got, false); err != nil {
				t.Fatal(err)
			}
			if d := digest.FromBytes(got.Bytes()); d != desc.Digest {
				t.Errorf("blob %s was read as %s", desc.Digest, d)
			}
			blobs++
		}
	}
	return blobs
}

func TestLayouts(t *testing.T) {
	dir := layout(t)
	plain := pack(t, dir)
	var gzipped, zstded bytes.Buffer
	zw := gzip.NewWriter(&gzipped)
	if _, err := zw.Write(plain); err != nil || zw.Close() != nil {
		t.Fatal(err)
	}
	sw, err := zstd.NewWriter(&zstded)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sw.Write(plain); err != nil || sw.Close() != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, ref string
		blobs     int
	}{
		{"directory", "oci:" + dir + ":one", 3},
		{"index", "oci:" + dir + ":multi", 5},
		{"sniffed directory", "file:" + dir, 0},
		{"archive", "oci-archive:" + write(t, plain) + ":one", 3},
		{"archive, index", "oci-archive:" + write(t, plain) + ":multi", 5},
		{"gzip", "oci-archive:" + write(t, gzipped.Bytes()) + ":one", 3},
		{"zstd", "oci-archive:" + write(t, zstded.Bytes()) + ":multi", 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := open(t, tc.ref, Options{})
			if tc.blobs == 0 {
				if err == nil || !strings.Contains(err.Error(), `it has 2 images, choose one by ":NAME" after its path: it has "one", "same", "multi"`) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := readAll(t, s); n != tc.blobs {
				t.Errorf("%d blobs were read, want %d", n, tc.blobs)
			}
		})
	}
}

func TestBlobContinues(t *testing.T) {
	dir := layout(t)
	s, err := open(t, "oci:"+dir+":one", Options{})
	if err != nil {
		t.Fatal(err)
	}
	doc, _ := s.Resolve(t.Context())
	m, err := doc.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", m.Layers[0].Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	var got memory
	got.Write(want[:100])
	if err := s.Blob(t.Context(), m.Layers[0], &got, false); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("after 100 bytes the rest is wrong: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Blob(ctx, m.Layers[0], &memory{}, false); err == nil {
		t.Error("a cancelled copy ends without error")
	}
}

func TestDockerArchive(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skipf("needs skopeo, which writes what 'docker save' does: %v", err)
	}
	dir := t.TempDir()
	l, err := images.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Put("one", images.Image{Layers: []images.Layer{layer(t, images.Gzip, "a"), layer(t, images.Gzip, "b")}, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "saved.tar")
	out, err := exec.Command("skopeo", "--override-arch=amd64", "copy", "--quiet", "--insecure-policy", "oci:"+dir+":one", "docker-archive:"+path+":team/app:1").CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo: %v: %s", err, out)
	}
	var digests []digest.Digest
	for _, ref := range []string{"docker-archive:" + path, "file:" + path, "docker-archive:" + path + ":team/app:1", "docker-archive:" + path + ":docker.io/team/app:1"} {
		s, err := open(t, ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := readAll(t, s); n != 3 {
			t.Errorf("%s: %d blobs were read, want 3", ref, n)
		}
		doc, _ := s.Resolve(t.Context())
		m, err := doc.Manifest()
		if err != nil || m.Layers[0].MediaType != ocispec.MediaTypeImageLayer {
			t.Errorf("%s: the first layer is %+v, %v", ref, m.Layers, err)
		}
		digests = append(digests, doc.Descriptor.Digest)
	}
	for _, d := range digests {
		if d != digests[0] {
			t.Errorf("the same archive gave the manifests %v", digests)
		}
	}
	if _, err := open(t, "docker-archive:"+path+":team/app:2", Options{}); err == nil || !strings.Contains(err.Error(), `it has "team/app:1"`) && !strings.Contains(err.Error(), `it has "docker.io/team/app:1"`) {
		t.Errorf("an unknown name gives %v", err)
	}
	if _, err := open(t, "oci-archive:"+path, Options{}); err == nil || !strings.Contains(err.Error(), "not an OCI image layout") {
		t.Errorf("as OCI archive it gives %v", err)
	}
}

// TestOldDockerArchive reads what docker wrote before version 25: a directory
// per layer, and links where layers repeat.
func TestOldDockerArchive(t *testing.T) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h tar.Header, body []byte) {
		h.Size, h.Mode = int64(len(body)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	a := layer(t, images.Uncompressed, "a")
	config, err := json.Marshal(ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{a.DiffID, a.DiffID}}})
	if err != nil {
		t.Fatal(err)
	}
	add(tar.Header{Name: "1/layer.tar", Typeflag: tar.TypeReg}, a.Blob)
	add(tar.Header{Name: "2/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../1/layer.tar"}, nil)
	add(tar.Header{Name: "3/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../3/layer.tar"}, nil)
	add(tar.Header{Name: "c.json", Typeflag: tar.TypeReg}, config)
	add(tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg}, []byte(`[
		{"Config":"c.json","RepoTags":["good:1"],"Layers":["1/layer.tar","2/layer.tar"]},
		{"Config":"c.json","RepoTags":["loop:1"],"Layers":["3/layer.tar"]},
		{"Config":"c.json","RepoTags":["gone:1"],"Layers":["4/layer.tar"]},
		{"Config":"../../../../etc/hostname","RepoTags":["outside:1"],"Layers":[]}]`))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := write(t, out.Bytes())
	s, err := open(t, "docker-archive:"+path+":good:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := readAll(t, s); n != 3 {
		t.Errorf("%d blobs were read, want 3", n)
	}
	for name, want := range map[string]string{"loop:1": "a link to a link", "gone:1": "4/layer.tar\", which is not in it", "outside:1": "etc/hostname"} {
		if _, err := open(t, "docker-archive:"+path+":"+name, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want %q", name, err, want)
		}
	}
	if _, err := open(t, "docker-archive:"+path, Options{}); err == nil || !strings.Contains(err.Error(), "it has 4 images, choose one") {
		t.Errorf("without a name it gives %v", err)
	}
}

func TestRefused(t *testing.T) {
	dir := layout(t)
	plain := pack(t, dir)
	manifest := bytes.ReplaceAll(plain, []byte(`"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest`), []byte(`"schemaVersion":3,"mediaType":"application/vnd.oci.image.manifest`))
	var xz = []byte("\xfd7zXZ\x00abcdef")
	for _, tc := range []struct{ name, ref, want string }{
		{"missing", "oci:/nonexistent/dir", "no such file"},
		{"unknown name", "oci:" + dir + ":two", `it has no image of the name "two", it has "one"`},
		{"file as directory", "oci:" + write(t, plain), "not a directory"},
		{"directory as archive", "oci-archive:" + dir, "it is a directory"},
		{"no layout", "oci:" + t.TempDir(), "no oci-layout"},
		{"sniffed nothing", "file:" + t.TempDir(), "neither oci-layout nor manifest.json"},
		{"empty file", "oci-archive:" + write(t, nil), "not a tar archive"},
		{"text", "oci-archive:" + write(t, bytes.Repeat([]byte("hello "), 1000)), "not a tar archive"},
		{"xz", "oci-archive:" + write(t, xz), "xz"},
		{"damaged gzip", "oci-archive:" + write(t, append([]byte("\x1f\x8b"), plain[:100]...)), "damaged"},
		{"cut off", "oci-archive:" + write(t, plain[:bytes.Index(plain, []byte(`"schemaVersion"`))+5]) + ":one", "damaged"},
		{"altered manifest", "oci-archive:" + write(t, manifest) + ":one", "was altered"},
		{"as docker-archive", "docker-archive:" + write(t, plain), "not an archive of 'docker save'"},
		{"device", "file:/dev/null", "neither a directory nor a regular file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := open(t, tc.ref, Options{})
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, want one line with %q", err, tc.want)
			}
		})
	}
	t.Run("signed directory", func(t *testing.T) {
		if _, err := open(t, "oci:"+dir+":one", Options{Signature: []byte("x")}); err == nil || !strings.Contains(err.Error(), "sign an archive") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("link out of the layout", func(t *testing.T) {
		if err := os.Remove(filepath.Join(dir, "index.json")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc/passwd", filepath.Join(dir, "index.json")); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, "oci:"+dir+":one", Options{}); err == nil || strings.Contains(err.Error(), "root:") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestSizesAreCompared(t *testing.T) {
	s, err := open(t, "oci:"+layout(t)+":one", Options{})
	if err != nil {
		t.Fatal(err)
	}
	doc, _ := s.Resolve(t.Context())
	m, err := doc.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m.Layers[0].Size++
	if err := s.Blob(t.Context(), m.Layers[0], &memory{}, false); err == nil || !strings.Contains(err.Error(), "its descriptor says") {
		t.Errorf("error is %v", err)
	}
	m.Layers[0].Digest = digest.FromString("gone")
	if err := s.Blob(t.Context(), m.Layers[0], &memory{}, false); err == nil || !strings.Contains(err.Error(), "is not in it") {
		t.Errorf("error is %v", err)
	}
}

func FuzzArchive(f *testing.F) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, body := range map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":[]}`, "manifest.json": `[{"Config":"c","Layers":["c"]}]`, "c": "{}"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			f.Fatal(err)
		}
		fmt.Fprint(w, body)
	}
	f.Add(out.Bytes())
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body []byte) {
		path := filepath.Join(dir, "fuzz.tar")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"oci-archive:", "docker-archive:"} {
			s, err := Open(t.Context(), reference.Reference{Local: kind + path}, Options{Temp: dir})
			if err != nil {
				continue
			}
			if doc, err := s.Resolve(t.Context()); err != nil || len(doc.Body) > source.MaxDocument {
				t.Errorf("document of %d bytes, %v", len(doc.Body), err)
			}
			_ = s.Close()
		}
	})
}
