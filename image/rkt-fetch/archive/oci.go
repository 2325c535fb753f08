package archive

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/rkt-fetch/source"
)

// containerdName is the annotation in which containerd and docker keep a whole
// name; org.opencontainers.image.ref.name then only has the tag.
const containerdName = "io.containerd.image.name"

// findOCI finds an image in index.json, which is a list of names here.
func (s *Source) findOCI(name string) error {
	version, err := s.file(ocispec.ImageLayoutFile)
	if err != nil {
		return err
	}
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(version, &layout); err != nil {
		return fmt.Errorf("file %q is not JSON of the right form: %w", ocispec.ImageLayoutFile, err)
	}
	if !strings.HasPrefix(layout.Version, "1.") {
		return fmt.Errorf("it is an image layout of version %.20q, not 1", layout.Version)
	}
	body, err := s.file(ocispec.ImageIndexFile)
	if err != nil {
		return err
	}
	index, err := source.NewDocument(ocispec.MediaTypeImageIndex, body).Index()
	if err != nil {
		return err
	}
	desc, err := pick(index, name)
	if err != nil {
		return err
	}
	image, err := s.document(desc)
	if err != nil {
		return err
	}
	s.image = source.NewDocument(desc.MediaType, image)
	return nil
}

// pick chooses by name, or the only image if there is no name.
func pick(index ocispec.Index, name string) (ocispec.Descriptor, error) {
	var matching []ocispec.Descriptor
	var names []string
	for _, m := range index.Manifests {
		ref, full := m.Annotations[ocispec.AnnotationRefName], m.Annotations[containerdName]
		if name == "" || name == ref || name == full || sameName(name, full) {
			matching = append(matching, m)
		}
		if ref == "" {
			ref = full
		}
		if len(names) < 20 && ref != "" {
			names = append(names, fmt.Sprintf("%.100q", ref))
		}
	}
	slices.SortStableFunc(matching, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	matching = slices.CompactFunc(matching, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })
	known := "its images have no names"
	if len(names) > 0 {
		known = "it has " + strings.Join(names, ", ")
	}
	switch {
	case len(matching) == 1:
		return matching[0], nil
	case len(index.Manifests) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("it has no image")
	case len(matching) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("it has no image of the name %q, %s", name, known)
	case name == "":
		return ocispec.Descriptor{}, fmt.Errorf("it has %d images, choose one by \":NAME\" after its path: %s", len(matching), known)
	}
	return ocispec.Descriptor{}, fmt.Errorf("it has %d images of the name %q", len(matching), name)
}
