package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/source"
)

const (
	dockerManifestFile = "manifest.json"
	maxDockerImages    = 1024
	maxDockerLayers    = 500
)

// dockerImage is an entry of the manifest.json of 'docker save'.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// findDocker makes a manifest for an image that has none. It only depends on
// the image: the same one, saved again, has the same digest.
func (s *Source) findDocker(name string) error {
	body, err := s.file(dockerManifestFile)
	if err != nil {
		return err
	}
	var list []dockerImage
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("file %q is not JSON of the right form: %w", dockerManifestFile, err)
	}
	if len(list) > maxDockerImages {
		return fmt.Errorf("file %q lists %d images, more than %d", dockerManifestFile, len(list), maxDockerImages)
	}
	image, err := pickDocker(list, name)
	if err != nil {
		return err
	}
	if len(image.Layers) > maxDockerLayers {
		return fmt.Errorf("the image has %d layers, more than the %d that can be stacked", len(image.Layers), maxDockerLayers)
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	s.made = map[digest.Digest]member{}
	config, err := s.file(image.Config)
	if err != nil {
		return err
	}
	if m.Config, err = s.make(image.Config, ocispec.MediaTypeImageConfig); err != nil {
		return err
	}
	if m.Config.Digest != digest.FromBytes(config) {
		return fmt.Errorf("file %q changed while it was read", image.Config)
	}
	seen := map[string]ocispec.Descriptor{}
	for _, file := range image.Layers {
		desc, ok := seen[file]
		if !ok {
			if desc, err = s.make(file, ""); err != nil {
				return err
			}
			seen[file] = desc
		}
		m.Layers = append(m.Layers, desc)
	}
	if body, err = json.Marshal(m); err != nil {
		return err
	}
	s.image = source.NewDocument(ocispec.MediaTypeImageManifest, body)
	return nil
}

// make turns a member into a blob. Without a media type it is a layer, which
// has that of its compression.
func (s *Source) make(file, mediaType string) (ocispec.Descriptor, error) {
	m, err := s.files.open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, fmt.Errorf("its %s names the file %.100q, which is not in it", dockerManifestFile, file)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("file %.100q: %w", file, err)
	}
	if mediaType == "" {
		magic := make([]byte, 6)
		n, err := m.ReadAt(magic, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return ocispec.Descriptor{}, fmt.Errorf("file %.100q: %w", file, err)
		}
		switch compression := sniff(magic[:n]); compression {
		case "":
			mediaType = ocispec.MediaTypeImageLayer
		case "gzip":
			mediaType = ocispec.MediaTypeImageLayerGzip
		case "zstd":
			mediaType = ocispec.MediaTypeImageLayerZstd
		default:
			return ocispec.Descriptor{}, fmt.Errorf("layer %.100q is compressed with %s, which image layers cannot be", file, compression)
		}
	}
	hash := digest.SHA256.Digester()
	if _, err := io.CopyBuffer(hash.Hash(), struct{ io.Reader }{io.NewSectionReader(m, 0, m.size)}, make([]byte, copyBuffer)); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("file %.100q: %w", file, err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: hash.Digest(), Size: m.size}
	s.made[desc.Digest] = m
	return desc, nil
}

func pickDocker(list []dockerImage, name string) (dockerImage, error) {
	var matching []dockerImage
	var names []string
	for _, image := range list {
		ok := name == ""
		for _, tag := range image.RepoTags {
			ok = ok || tag == name || sameName(name, tag)
			if len(names) < 20 {
				names = append(names, fmt.Sprintf("%.100q", tag))
			}
		}
		if ok {
			matching = append(matching, image)
		}
	}
	known := "its images have no names"
	if len(names) > 0 {
		known = "it has " + strings.Join(names, ", ")
	}
	switch {
	case len(matching) == 1:
		return matching[0], nil
	case len(list) == 0:
		return dockerImage{}, errors.New("it has no image")
	case len(matching) == 0:
		return dockerImage{}, fmt.Errorf("it has no image of the name %q, %s", name, known)
	case name == "":
		return dockerImage{}, fmt.Errorf("it has %d images, choose one by \":NAME\" after its path: %s", len(list), known)
	}
	return dockerImage{}, fmt.Errorf("it has %d images of the name %q", len(matching), name)
}

// sameName reports whether two spellings are one name, as "nginx" and
// "docker.io/library/nginx:latest".
func sameName(a, b string) bool {
	x, err := reference.Parse(a)
	if err != nil || x.IsLocal() {
		return false
	}
	y, err := reference.Parse(b)
	return err == nil && x == y
}
