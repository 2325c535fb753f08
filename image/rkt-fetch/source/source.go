// Package source says what an image is fetched from, whatever that is, and
// reads the documents that come from there: indexes, manifests,
// configurations.
//
// Everything here comes from strangers. A document is taken only under the
// media type that it came with and if it can be read in one way only
// (CVE-2021-41190); sizes, counts and digests are checked before anybody acts
// on them. The package fetches and stores nothing. Formats: the OCI image
// specification 1.1, Docker's image manifest version 2, schema 2.
package source

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxDocument bounds every document.
const MaxDocument = 4 << 20

// Media types that Docker gave to what became the OCI's.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerSchema1  = "application/vnd.docker.distribution.manifest.v1+" // a prefix
)

// Source is where one image comes from.
type Source interface {
	// Resolve reads the document that the image's name stands for. Its digest
	// is that of its bytes, and the one that the name has, if it has one.
	Resolve(ctx context.Context) (Document, error)
	// Child reads a document that an index names. It has the digest and size
	// that the descriptor says.
	Child(ctx context.Context, desc ocispec.Descriptor) (Document, error)
	// Blob copies the rest of a blob into a sink. It does not verify it. With
	// direct it does not come from a mirror.
	Blob(ctx context.Context, desc ocispec.Descriptor, sink Sink, direct bool) error
	// String names the source in errors: `registry reg.example`.
	String() string
}

// Sink takes the bytes of one blob in order.
type Sink interface {
	// Offset is how many bytes it has; Write adds the next ones.
	Offset() int64
	io.Writer
	// Restart throws away what it has: the source cannot continue there.
	Restart() error
}

// Document is a manifest or an index as its bytes came. The descriptor has the
// media type that they came under.
type Document struct {
	Descriptor ocispec.Descriptor
	Body       []byte
}

// NewDocument describes bytes.
func NewDocument(mediaType string, body []byte) Document {
	return Document{
		Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))},
		Body:       body,
	}
}

// IsIndex says that the document lists manifests.
func (d Document) IsIndex() bool {
	return d.Descriptor.MediaType == ocispec.MediaTypeImageIndex || d.Descriptor.MediaType == DockerIndex
}
