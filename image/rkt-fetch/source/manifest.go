package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	// The algorithms of digests, which go-digest finds by registration.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	maxManifests = 1024
	// maxLayers is what overlayfs can stack.
	maxLayers = 500
	// maxBlob is beyond every real layer, and lets sizes be added up.
	maxBlob = 1 << 44
)

var layerTypes = map[string]bool{
	ocispec.MediaTypeImageLayer:                         true,
	ocispec.MediaTypeImageLayerGzip:                     true,
	ocispec.MediaTypeImageLayerZstd:                     true,
	"application/vnd.docker.image.rootfs.diff.tar":      true,
	"application/vnd.docker.image.rootfs.diff.tar.gzip": true,
	"application/vnd.docker.image.rootfs.diff.tar.zstd": true,
	// Layers that were once not to be pushed. They are asked of the registry
	// like any other; the URLs that they may carry are never followed.
	"application/vnd.oci.image.layer.nondistributable.v1.tar":      true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar":         true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
}

// shape is what distinguishes documents. Pointers tell absent from empty.
type shape struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     *json.RawMessage `json:"manifests"`
	Config        *json.RawMessage `json:"config"`
	Layers        *json.RawMessage `json:"layers"`
	FSLayers      *json.RawMessage `json:"fsLayers"`
}

// check makes sure that a document is one thing only, and what it came as.
func (d Document) check() error {
	var s shape
	if len(d.Body) > MaxDocument {
		return fmt.Errorf("it has %d bytes, more than %d", len(d.Body), MaxDocument)
	}
	if err := json.Unmarshal(d.Body, &s); err != nil {
		return fmt.Errorf("it is not JSON of the right form: %w", err)
	}
	if s.FSLayers != nil || s.SchemaVersion == 1 || strings.HasPrefix(d.Descriptor.MediaType, DockerSchema1) {
		return errors.New("it is a Docker schema 1 manifest, a format that cannot be verified and was given up in 2017; push the image again with a current tool")
	}
	if s.SchemaVersion != 2 {
		return fmt.Errorf("its schema version is %d instead of 2", s.SchemaVersion)
	}
	if s.MediaType != "" && s.MediaType != d.Descriptor.MediaType {
		return fmt.Errorf("it came as %q and calls itself %q", d.Descriptor.MediaType, s.MediaType)
	}
	manifest := s.Config != nil || s.Layers != nil
	if s.Manifests != nil && manifest {
		return errors.New("it can be read as an index and as a manifest")
	}
	if d.IsIndex() && manifest || !d.IsIndex() && s.Manifests != nil {
		return fmt.Errorf("it came as %q and is not that", d.Descriptor.MediaType)
	}
	return nil
}

// Index reads an image index or manifest list.
func (d Document) Index() (ocispec.Index, error) {
	var index ocispec.Index
	err := d.check()
	if err == nil && !d.IsIndex() {
		err = fmt.Errorf("its media type is %.100q", d.Descriptor.MediaType)
	}
	if err == nil {
		err = json.Unmarshal(d.Body, &index)
	}
	if err == nil {
		err = checkIndex(index)
	}
	if err != nil {
		return ocispec.Index{}, fmt.Errorf("read image index %s: %w", d.Descriptor.Digest, err)
	}
	return index, nil
}

func checkIndex(index ocispec.Index) error {
	if len(index.Manifests) > maxManifests {
		return fmt.Errorf("it lists %d manifests, more than %d", len(index.Manifests), maxManifests)
	}
	for i, m := range index.Manifests {
		if err := CheckDescriptor(m, MaxDocument); err != nil {
			return fmt.Errorf("manifest %d: %w", i+1, err)
		}
	}
	return nil
}

// Manifest reads the manifest of an image that can be run.
func (d Document) Manifest() (ocispec.Manifest, error) {
	var m ocispec.Manifest
	err := d.check()
	if err == nil {
		err = json.Unmarshal(d.Body, &m)
	}
	if err == nil {
		err = checkManifest(m, d.Descriptor.MediaType)
	}
	if err != nil {
		return ocispec.Manifest{}, fmt.Errorf("read manifest %s: %w", d.Descriptor.Digest, err)
	}
	return m, nil
}

func checkManifest(m ocispec.Manifest, mediaType string) error {
	if mediaType != ocispec.MediaTypeImageManifest && mediaType != DockerManifest {
		return fmt.Errorf("its media type %.100q is not one of an image", mediaType)
	}
	if m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != DockerConfig {
		return fmt.Errorf("it describes something of type %.100q, not an image that can be run", m.Config.MediaType)
	}
	if err := CheckDescriptor(m.Config, MaxDocument); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("it has %d layers, more than the %d that can be stacked", len(m.Layers), maxLayers)
	}
	sizes := map[digest.Digest]int64{}
	for i, layer := range m.Layers {
		if err := CheckDescriptor(layer, maxBlob); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		if !layerTypes[layer.MediaType] {
			return fmt.Errorf("layer %d: its media type %.100q is not known", i+1, layer.MediaType)
		}
		if size, seen := sizes[layer.Digest]; seen && size != layer.Size {
			return fmt.Errorf("layer %d: it has two sizes, %d and %d", i+1, size, layer.Size)
		}
		sizes[layer.Digest] = layer.Size
	}
	return nil
}

// CheckDescriptor refuses digests that are none and sizes that cannot be.
func CheckDescriptor(desc ocispec.Descriptor, most int64) error {
	if err := checkDigest(desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 || desc.Size > most {
		return fmt.Errorf("its size of %d bytes is not between 0 and %d", desc.Size, most)
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return fmt.Errorf("%.150q is not a sha256 or sha512 digest", string(d))
	}
	return nil
}

// Config checks the configuration of an image against its manifest and the
// platform that is wanted.
func Config(cfg ocispec.Image, m ocispec.Manifest, wanted Platform) error {
	if cfg.RootFS.Type != "layers" {
		return fmt.Errorf("read image configuration %s: its rootfs has the type %.40q, not \"layers\"", m.Config.Digest, cfg.RootFS.Type)
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return fmt.Errorf("read image configuration %s: it lists %d layers, its manifest %d", m.Config.Digest, len(cfg.RootFS.DiffIDs), len(m.Layers))
	}
	for i, diffID := range cfg.RootFS.DiffIDs {
		if err := checkDigest(diffID); err != nil {
			return fmt.Errorf("read image configuration %s: layer %d: %w", m.Config.Digest, i+1, err)
		}
	}
	if !wanted.Runs(cfg.Platform) {
		return fmt.Errorf("the image is for %s, not for %s; choose another with --platform if it has others", describe(&cfg.Platform), wanted)
	}
	return nil
}
