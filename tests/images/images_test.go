package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func small(t *testing.T, compression Compression) Image {
	t.Helper()
	layer, err := NewLayer(compression, append(base(), File{Name: "hello", Body: "hello\n"}))
	if err != nil {
		t.Fatal(err)
	}
	return Image{Layers: []Layer{layer}, Config: ocispec.ImageConfig{Cmd: []string{"/hello"}}, Platform: host()}
}

func TestSameBytes(t *testing.T) {
	for _, compression := range []Compression{Gzip, Zstd, Uncompressed} {
		var digests []string
		for range 2 {
			layout, err := CreateLayout(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			desc, err := layout.Put("latest", small(t, compression))
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, desc.Digest.String())
		}
		if digests[0] != digests[1] {
			t.Errorf("%s: built twice, got %v", compression, digests)
		}
	}
}

func TestTagIsReplaced(t *testing.T) {
	dir := t.TempDir()
	layout, err := CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, compression := range []Compression{Gzip, Zstd} {
		for _, tag := range []string{"one", "two"} {
			if _, err := layout.Put(tag, small(t, compression)); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 2 || index.Manifests[0].Digest != index.Manifests[1].Digest {
		t.Errorf("two tags put twice should name the last image twice, got %+v", index.Manifests)
	}
}

// A hostile layer tests nothing when it is refused for being no archive at all:
// those that aim at the canary must be well-formed.
func TestHostileLayersAreArchives(t *testing.T) {
	for name, layers := range hostile("/canary") {
		for _, files := range layers {
			layer, err := NewLayer(Gzip, files)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if n := count(t, layer); n != len(files) {
				t.Errorf("%s: the archive has %d entries, want %d", name, n, len(files))
			}
		}
	}
	layer, err := sparse()
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(layer.Blob))
	if err != nil {
		t.Fatal(err)
	}
	header, err := tar.NewReader(z).Next()
	if err != nil || header.Size != 1<<62 || header.Name != "hole" {
		t.Errorf("sparse: got %+v, %v", header, err)
	}
}

func count(t *testing.T, layer Layer) int {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(layer.Blob))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	for n := 0; ; n++ {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Errorf("read entry %d: %v", n, err)
			return n
		}
	}
}
