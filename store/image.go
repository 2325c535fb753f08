package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// What an entry of index.json carries besides org.opencontainers.image.ref.name.
const (
	annotationIndex    = "com.github.rkt.index"
	annotationEvidence = "com.github.rkt.evidence"
	annotationImported = "com.github.rkt.imported" // RFC 3339; only entries that have it are rkt's own
	annotationSize     = "com.github.rkt.size"
)

// Media types of manifests besides the OCI's own.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
)

const maxName = 1024

// Image is a name and what it stands for.
type Image struct {
	Name     string
	Manifest ocispec.Descriptor
	Index    digest.Digest // of the image index that the manifest was chosen from, or ""
	Evidence digest.Digest // of the blob with the signatures, or ""
	Imported time.Time     // when the name got this manifest
	LastUsed time.Time     // when the manifest was last touched, under whatever name
	Size     int64         // bytes of manifest, configuration and layers as blobs
}

// Put makes a name stand for an image, which has to be there with every blob.
// It replaces what the name stood for. LastUsed is ignored: it is now. Of
// Imported and Size, zero values are filled in.
func (s *Store) Put(img Image) error {
	if err := s.put(img); err != nil {
		return fmt.Errorf("name image %q: %w", img.Name, err)
	}
	return nil
}

func (s *Store) put(img Image) error {
	if err := checkName(img.Name); err != nil {
		return err
	}
	if !isManifest(img.Manifest.MediaType) {
		return fmt.Errorf("media type %.80q is not one of an image manifest", img.Manifest.MediaType)
	}
	release, err := s.Share()
	if err != nil {
		return err
	}
	defer release()
	size, err := s.checkBlobs(img)
	if err != nil {
		return err
	}
	if img.Size == 0 {
		img.Size = size
	}
	if err := s.Touch(img); err != nil {
		return err
	}
	return s.editIndex(func(x *index) (bool, error) {
		old, found := s.find(x.entries, img.Name)
		if found && old.Manifest.Digest == img.Manifest.Digest && img.Imported.IsZero() {
			img.Imported = old.Imported
		}
		if img.Imported.IsZero() {
			img.Imported = time.Now()
		}
		return true, x.put(img.Name, img.descriptor())
	})
}

func checkName(name string) error {
	unprintable := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || unprintable {
		return fmt.Errorf("a name has 1 to %d printable characters", maxName)
	}
	return nil
}

// checkBlobs makes sure that an image is whole, and sums up its size.
func (s *Store) checkBlobs(img Image) (int64, error) {
	m, err := s.Manifest(img)
	if err != nil {
		return 0, err
	}
	size := img.Manifest.Size
	for _, desc := range append(m.Layers, m.Config) {
		if _, _, err := splitDigest(desc.Digest); err != nil {
			return 0, err
		}
		if !s.complete(desc) {
			return 0, fmt.Errorf("blob %s of %d bytes %w", desc.Digest, desc.Size, ErrNotFound)
		}
		size += desc.Size
	}
	for _, d := range []digest.Digest{img.Index, img.Evidence} {
		if d == "" || s.HasBlob(d, 0) {
			continue
		}
		if _, _, err := splitDigest(d); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("blob %s %w", d, ErrNotFound)
	}
	return size, nil
}

// descriptor is the entry of an image in index.json; imageOf reads it.
func (img Image) descriptor() ocispec.Descriptor {
	desc := img.Manifest
	desc.Annotations = maps.Clone(desc.Annotations)
	if desc.Annotations == nil {
		desc.Annotations = map[string]string{}
	}
	desc.Annotations[ocispec.AnnotationRefName] = img.Name
	desc.Annotations[annotationImported] = img.Imported.UTC().Format(time.RFC3339Nano)
	desc.Annotations[annotationSize] = strconv.FormatInt(img.Size, 10)
	for key, d := range map[string]digest.Digest{annotationIndex: img.Index, annotationEvidence: img.Evidence} {
		if d != "" {
			desc.Annotations[key] = d.String()
		}
	}
	return desc
}

// imageOf reads an entry of index.json. It is not ok if the entry has no name,
// or stands for something else than one image manifest: then it is some other
// tool's.
func (s *Store) imageOf(desc ocispec.Descriptor) (img Image, ok bool) {
	notes := maps.Clone(desc.Annotations)
	img = Image{Name: notes[ocispec.AnnotationRefName], Manifest: desc}
	if checkName(img.Name) != nil || !isManifest(desc.MediaType) {
		return Image{}, false
	}
	img.Index, img.Evidence = noteDigest(notes[annotationIndex]), noteDigest(notes[annotationEvidence])
	if path, err := s.blobPath(desc.Digest); err == nil {
		if info, err := os.Lstat(path); err == nil {
			img.LastUsed = info.ModTime()
		}
	}
	var err error
	if img.Imported, err = time.Parse(time.RFC3339Nano, notes[annotationImported]); err != nil {
		img.Imported = img.LastUsed
	}
	if img.Size, err = strconv.ParseInt(notes[annotationSize], 10, 64); err != nil || img.Size < 0 {
		img.Size = s.measure(img)
	}
	for _, key := range []string{ocispec.AnnotationRefName, annotationIndex, annotationEvidence, annotationImported, annotationSize} {
		delete(notes, key)
	}
	if len(notes) == 0 {
		notes = nil
	}
	img.Manifest.Annotations = notes
	return img, true
}

// measure sums up the size of an image that another tool named, as far as it
// can be read.
func (s *Store) measure(img Image) int64 {
	m, _ := s.Manifest(img)
	size := img.Manifest.Size + m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return max(size, 0)
}

func noteDigest(s string) digest.Digest {
	if _, _, err := splitDigest(digest.Digest(s)); err != nil {
		return ""
	}
	return digest.Digest(s)
}

func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == mediaTypeDockerManifest
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == mediaTypeDockerIndex
}

// find looks a name up; where other tools wrote it twice, the first counts, as
// it does for them.
func (s *Store) find(entries []entry, name string) (Image, bool) {
	for _, e := range entries {
		if desc, ok := e.named(name); ok {
			if img, ok := s.imageOf(desc); ok {
				return img, true
			}
		}
	}
	return Image{}, false
}

// Get returns the image of a name, or ErrNotFound.
func (s *Store) Get(name string) (Image, error) {
	entries, err := s.entriesNamed(name)
	if err != nil {
		return Image{}, err
	}
	img, found := s.find(entries, name)
	if !found {
		return Image{}, fmt.Errorf("image %q %w", name, ErrNotFound)
	}
	return img, nil
}

// Images returns every name, in the order in which they first came.
func (s *Store) Images() ([]Image, error) {
	entries, err := s.readEntries()
	if err != nil {
		return nil, err
	}
	return s.images(entries), nil
}

func (s *Store) images(entries []entry) []Image {
	var all []Image
	seen := map[string]bool{}
	for _, e := range entries {
		desc, ok := e.descriptor()
		if !ok {
			continue
		}
		if img, ok := s.imageOf(desc); ok && !seen[img.Name] {
			seen[img.Name] = true
			all = append(all, img)
		}
	}
	return all
}

// ByDigest returns the names whose manifest's digest starts with prefix,
// written as "sha256:ab…" or, with at least two digits, "ab…". They may stand
// for several manifests. There being none is ErrNotFound.
func (s *Store) ByDigest(prefix string) ([]Image, error) {
	algorithm, hex, found := strings.Cut(prefix, ":")
	if !found {
		algorithm, hex = "", prefix
	}
	if len(hex) < 2 || !isHex(hex) {
		return nil, fmt.Errorf("image ID %.140q is not 2 or more of the digits 0-9a-f", prefix)
	}
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	var matching []Image
	for _, img := range images {
		d := img.Manifest.Digest
		if strings.HasPrefix(d.Encoded(), hex) && (!found || d.Algorithm().String() == algorithm) {
			matching = append(matching, img)
		}
	}
	if len(matching) == 0 {
		return nil, fmt.Errorf("image ID %q %w", prefix, ErrNotFound)
	}
	return matching, nil
}

// Remove drops a name, or returns ErrNotFound. Blobs and layers stay until GC.
func (s *Store) Remove(name string) error {
	err := s.editIndex(func(x *index) (bool, error) {
		if !x.remove(name) {
			return false, ErrNotFound
		}
		return true, nil
	})
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("image %q %w", name, err)
	}
	if err != nil {
		return fmt.Errorf("remove image %q: %w", name, err)
	}
	return nil
}

// Touch notes that an image is being used, which is what GCOptions.Grace
// counts from. It is one system call and changes no content.
func (s *Store) Touch(img Image) error {
	path, err := s.blobPath(img.Manifest.Digest)
	if err != nil {
		return err
	}
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	err = unix.UtimesNanoAt(unix.AT_FDCWD, path, now, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("blob %s %w", img.Manifest.Digest, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("note use of image %q: file %q: %w", img.Name, path, err)
	}
	return nil
}

// Manifest reads and verifies the manifest of an image.
func (s *Store) Manifest(img Image) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := s.readJSON(img.Manifest, &m); err != nil {
		return ocispec.Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

// Config reads and verifies the configuration that a manifest refers to, which
// has to know as many layers as the manifest.
func (s *Store) Config(m ocispec.Manifest) (ocispec.Image, error) {
	var cfg ocispec.Image
	if err := s.readJSON(m.Config, &cfg); err != nil {
		return ocispec.Image{}, fmt.Errorf("read image configuration: %w", err)
	}
	if known := len(cfg.RootFS.DiffIDs); known != len(m.Layers) {
		return ocispec.Image{}, fmt.Errorf("read image configuration: blob %s lists %d layers, its manifest %d", m.Config.Digest, known, len(m.Layers))
	}
	return cfg, nil
}

func (s *Store) readJSON(desc ocispec.Descriptor, v any) error {
	data, err := s.ReadBlob(desc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	return nil
}
