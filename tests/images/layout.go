// Package images makes the images that tests run: OCI image layouts built from
// programs of this machine, the same bytes every time, and hostile ones.
//
// It knows nothing of rkt and pushes nothing: what it writes is read by skopeo
// as well as by rkt. The format is the OCI image specification 1.1.
package images

import (
	_ "crypto/sha256" // go-digest finds it by registration
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is what a layout holds for one platform.
type Image struct {
	Layers   []Layer
	Config   ocispec.ImageConfig
	Platform ocispec.Platform
}

// Layout is an OCI image layout being written.
type Layout struct{ dir string }

// CreateLayout opens the layout in dir and makes it first when it is not there.
func CreateLayout(dir string) (Layout, error) {
	l := Layout{dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return l, err
	}
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return l, err
	}
	return l, os.WriteFile(filepath.Join(dir, ocispec.ImageLayoutFile), version, 0o644)
}

// Put writes one image under a tag and returns its manifest's descriptor.
func (l Layout) Put(tag string, image Image) (ocispec.Descriptor, error) {
	desc, err := l.manifest(image)
	if err != nil {
		return desc, err
	}
	return desc, l.tag(tag, desc)
}

// PutIndex writes an image index of several platforms under a tag.
func (l Layout) PutIndex(tag string, images []Image) (ocispec.Descriptor, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, image := range images {
		desc, err := l.manifest(image)
		if err != nil {
			return desc, err
		}
		platform := image.Platform
		desc.Platform = &platform
		index.Manifests = append(index.Manifests, desc)
	}
	desc, err := l.document(ocispec.MediaTypeImageIndex, index)
	if err != nil {
		return desc, err
	}
	return desc, l.tag(tag, desc)
}

func (l Layout) manifest(image Image) (ocispec.Descriptor, error) {
	config := ocispec.Image{Platform: image.Platform, Config: image.Config, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, layer := range image.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.DiffID)
		desc, err := l.blob(layer.MediaType, layer.Blob)
		if err != nil {
			return desc, err
		}
		m.Layers = append(m.Layers, desc)
	}
	var err error
	if m.Config, err = l.document(ocispec.MediaTypeImageConfig, config); err != nil {
		return m.Config, err
	}
	return l.document(ocispec.MediaTypeImageManifest, m)
}

func (l Layout) document(mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return l.blob(mediaType, data)
}

func (l Layout) blob(mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, os.WriteFile(filepath.Join(l.dir, "blobs", "sha256", desc.Digest.Encoded()), data, 0o644)
}

// tag puts a descriptor into index.json, in place of an older one of that name.
func (l Layout) tag(name string, desc ocispec.Descriptor) error {
	path := filepath.Join(l.dir, ocispec.ImageIndexFile)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	var others []ocispec.Descriptor
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] != name {
			others = append(others, d)
		}
	}
	index.Manifests = append(others, desc)
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
