// Package archive reads images from this machine: OCI image layouts, as
// directories or in a tar archive, and what 'docker save' writes, today's and
// that of old.
//
// An archive is never unpacked: its headers are read once and its members are
// then read where they are. What is compressed or comes with a detached
// signature is copied first, to a file without a name, so that what was hashed
// is what is imported. The package follows no link out of a layout and writes
// nothing else. Formats: OCI image-layout.md,
// https://github.com/moby/moby/blob/master/image/spec/v1.2.md.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/trust"
)

const copyBuffer = 1 << 20

// Options of a Source.
type Options struct {
	// Signature is the detached signature of the archive, or nil.
	Signature []byte
	// Temp is a directory for a copy of the archive.
	Temp string
}

// Source is one image in a layout or an archive. It is a source.Source.
type Source struct {
	name   string
	files  files
	image  source.Document
	made   map[digest.Digest]member // blobs that have no name of their own in the archive
	hasher *trust.ArchiveHasher
}

// files are the members of a layout, wherever they are.
type files interface {
	// open returns fs.ErrNotExist for what is not there.
	open(name string) (member, error)
	// has says whether there is such a member.
	has(name string) bool
	Close() error
}

// member is one file of it.
type member struct {
	io.ReaderAt
	size  int64
	close func() error
}

// Open opens what a local reference names and finds the image in it.
func Open(ctx context.Context, ref reference.Reference, o Options) (*Source, error) {
	kind, path, _ := strings.Cut(ref.Local, ":")
	s := &Source{name: fmt.Sprintf("%q", path)}
	if err := s.open(ctx, kind, path, o); err != nil {
		return nil, s.wrap(err)
	}
	if err := s.find(kind, ref); err != nil {
		_ = s.Close()
		return nil, s.wrap(err)
	}
	return s, nil
}

func (s *Source) wrap(err error) error { return fmt.Errorf("read image from %s: %w", s.name, err) }

func (s *Source) open(ctx context.Context, kind, path string, o Options) error {
	info, err := os.Stat(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	if info.IsDir() {
		if kind != "oci" && kind != "file" {
			return errors.New("it is a directory, not an archive; name a layout by \"oci:\"")
		}
		if o.Signature != nil {
			return errors.New("it is a directory, of which no detached signature can be verified; sign an archive of it")
		}
		s.files, err = openDir(path)
		return err
	}
	if kind == "oci" {
		return errors.New("it is not a directory; name an archive by \"oci-archive:\" or \"docker-archive:\"")
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is neither a directory nor a regular file")
	}
	if o.Signature != nil {
		if s.hasher, err = trust.NewArchiveHasher(o.Signature); err != nil {
			return err
		}
	}
	s.files, err = openTar(ctx, path, s.hasher, o.Temp)
	return err
}

// find reads the image's document, or makes it.
func (s *Source) find(kind string, ref reference.Reference) error {
	_, isTar := s.files.(*tarball)
	layout, docker := s.files.has(ocispec.ImageLayoutFile), isTar && s.files.has(dockerManifestFile)
	switch {
	case (kind == "oci" || kind == "oci-archive" || kind == "file") && layout:
		return s.findOCI(ref.Tag)
	case (kind == "docker-archive" || kind == "file") && docker:
		return s.findDocker(ref.Tag)
	case kind == "docker-archive":
		return fmt.Errorf("it is not an archive of 'docker save', it has no %s", dockerManifestFile)
	case kind == "file":
		return fmt.Errorf("it is no image: it has neither %s nor %s", ocispec.ImageLayoutFile, dockerManifestFile)
	}
	return fmt.Errorf("it is not an OCI image layout, it has no %s", ocispec.ImageLayoutFile)
}

// Close ends the reading.
func (s *Source) Close() error { return s.files.Close() }

// String implements source.Source.
func (s *Source) String() string { return s.name }

// Resolve implements source.Source.
func (s *Source) Resolve(context.Context) (source.Document, error) { return s.image, nil }

// Child implements source.Source.
func (s *Source) Child(_ context.Context, desc ocispec.Descriptor) (source.Document, error) {
	body, err := s.document(desc)
	if err != nil {
		return source.Document{}, s.wrap(err)
	}
	return source.NewDocument(desc.MediaType, body), nil
}

// Evidence is the detached signature that the archive was opened with, for the
// image that was found, or nothing.
func (s *Source) Evidence(manifest digest.Digest) ([]trust.Evidence, error) {
	if s.hasher == nil {
		return nil, nil
	}
	item, err := s.hasher.Evidence(manifest)
	if err != nil {
		return nil, err
	}
	return []trust.Evidence{item}, nil
}

// Blob implements source.Source.
func (s *Source) Blob(ctx context.Context, desc ocispec.Descriptor, sink source.Sink, _ bool) error {
	if err := s.copy(ctx, desc, sink); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.wrap(err)
	}
	return nil
}

func (s *Source) copy(ctx context.Context, desc ocispec.Descriptor, sink source.Sink) error {
	m, err := s.blob(desc)
	if err != nil {
		return err
	}
	defer func() { _ = m.close() }()
	buffer := make([]byte, copyBuffer)
	for sink.Offset() < m.size && ctx.Err() == nil {
		n, err := m.ReadAt(buffer[:min(copyBuffer, m.size-sink.Offset())], sink.Offset())
		if _, err := sink.Write(buffer[:n]); err != nil {
			return err
		}
		if err != nil && (!errors.Is(err, io.EOF) || sink.Offset() < m.size) {
			return fmt.Errorf("blob %s: %w", desc.Digest, err)
		}
	}
	return ctx.Err()
}

// blob opens a blob, which has the size that its descriptor says.
func (s *Source) blob(desc ocispec.Descriptor) (member, error) {
	m, ok := s.made[desc.Digest]
	if !ok {
		var err error
		m, err = s.files.open("blobs/" + desc.Digest.Algorithm().String() + "/" + desc.Digest.Encoded())
		if errors.Is(err, os.ErrNotExist) {
			return member{}, fmt.Errorf("blob %s is not in it", desc.Digest)
		}
		if err != nil {
			return member{}, fmt.Errorf("blob %s: %w", desc.Digest, err)
		}
	}
	if m.size != desc.Size {
		_ = m.close()
		return member{}, fmt.Errorf("blob %s has %d bytes in it, its descriptor says %d", desc.Digest, m.size, desc.Size)
	}
	return m, nil
}

// document reads and verifies a blob that is an index or a manifest.
func (s *Source) document(desc ocispec.Descriptor) ([]byte, error) {
	if err := source.CheckDescriptor(desc, source.MaxDocument); err != nil {
		return nil, err
	}
	m, err := s.blob(desc)
	if err != nil {
		return nil, err
	}
	body, err := m.all()
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(body); got != desc.Digest {
		return nil, fmt.Errorf("blob %s was altered: its digest is %s", desc.Digest, got)
	}
	return body, nil
}

// file reads a small file by its name.
func (s *Source) file(name string) ([]byte, error) {
	m, err := s.files.open(name)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", name, err)
	}
	body, err := m.all()
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", name, err)
	}
	return body, nil
}

// all reads a whole document and closes it.
func (m member) all() ([]byte, error) {
	defer func() { _ = m.close() }()
	if m.size > source.MaxDocument {
		return nil, fmt.Errorf("it has %d bytes, more than %d", m.size, source.MaxDocument)
	}
	body := make([]byte, m.size)
	if _, err := io.ReadFull(io.NewSectionReader(m, 0, m.size), body); err != nil {
		return nil, err
	}
	return body, nil
}
