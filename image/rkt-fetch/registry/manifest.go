package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/scheme"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/manifest"
	"github.com/regclient/regclient/types/ref"
	"github.com/regclient/regclient/types/referrer"

	"github.com/rkt/rkt/image/rkt-fetch/source"
)

// maxRequests is for one document: it may be asked for once without and once
// with a token, and redirected; lists come in pages.
const maxRequests = 24

var documentTypes = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, source.DockerManifest, source.DockerIndex}

// Head asks for the digest of what the name stands for, without its document.
// It is "" when the registry does not say.
func (s *Source) Head(ctx context.Context) (digest.Digest, error) {
	tag := s.tag()
	var found digest.Digest
	err := s.retry(ctx, false, func(ep endpoint) error {
		c := &call{ep: ep, wire: s.wire, limit: source.MaxDocument, most: maxRequests}
		m, err := s.client.ManifestHead(c.in(ctx), ep.tagged(tag))
		if err != nil && c.silent() {
			return nil
		}
		if err != nil {
			return c.failure(ep.what(tag), err)
		}
		found = m.GetDescriptor().Digest
		return nil
	})
	if err != nil || found.Validate() != nil {
		return "", err
	}
	return found, nil
}

// Resolve implements source.Source.
func (s *Source) Resolve(ctx context.Context) (source.Document, error) {
	return s.Manifest(ctx, s.tag())
}

// tag is what the name asks for in its repository.
func (s *Source) tag() string {
	if s.opts.Ref.Digest != "" {
		return s.opts.Ref.Digest.String()
	}
	return s.opts.Ref.Tag
}

// Child implements source.Source.
func (s *Source) Child(ctx context.Context, desc ocispec.Descriptor) (source.Document, error) {
	doc, err := s.Manifest(ctx, desc.Digest.String())
	if err == nil && doc.Descriptor.Size != desc.Size {
		err = fmt.Errorf("%s answers with %d bytes for %s, its index says %d", s, doc.Descriptor.Size, desc.Digest, desc.Size)
	}
	if err == nil && doc.Descriptor.MediaType != desc.MediaType {
		err = fmt.Errorf("%s answers with %q for %s, its index says %q", s, doc.Descriptor.MediaType, desc.Digest, desc.MediaType)
	}
	return doc, err
}

// silent says that the answer to a HEAD request says nothing, which some
// registries do well with for GET.
func (c *call) silent() bool {
	switch c.status {
	case 0:
		return c.broken == nil
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// Manifest reads the document of a tag or digest. By digest it is verified.
func (s *Source) Manifest(ctx context.Context, tag string) (source.Document, error) {
	var doc source.Document
	err := s.retry(ctx, false, func(ep endpoint) error {
		c := &call{ep: ep, wire: s.wire, limit: source.MaxDocument, most: maxRequests, types: documentTypes}
		m, err := s.client.ManifestGet(c.in(ctx), ep.tagged(tag))
		if err != nil {
			return c.failure(ep.what(tag), err)
		}
		doc, err = verified(m, tag)
		if err != nil {
			return &Failure{What: fmt.Sprintf("registry %s %v", ep.host, err)}
		}
		return nil
	})
	return doc, err
}

func verified(m manifest.Manifest, tag string) (source.Document, error) {
	body, err := m.RawBody()
	if err != nil {
		return source.Document{}, fmt.Errorf("gives no document: %w", err)
	}
	asked, err := digest.Parse(tag)
	if err != nil {
		asked = digest.FromBytes(body)
	}
	if got := asked.Algorithm().FromBytes(body); got != asked {
		return source.Document{}, fmt.Errorf("answers with a document of digest %s when asked for %s", got, asked)
	}
	return source.NewDocument(m.GetDescriptor().MediaType, body), nil
}

// Referrers lists the manifests that refer to a digest as their subject and
// have one of the artifact types, by the referrers API or, where a registry
// does not have that, by the tag that stands in for it.
func (s *Source) Referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	client := s.client
	err := s.retry(ctx, false, func(ep endpoint) error {
		c := &call{ep: ep, wire: s.wire, limit: source.MaxDocument, most: maxRequests, types: documentTypes}
		found, err := client.ReferrerList(c.in(ctx), ep.tagged(subject.String()),
			scheme.WithReferrerMatchOpt(descriptor.MatchOpt{ArtifactType: artifactType}))
		if err != nil {
			return c.failure("list of what refers to "+subject.String(), err)
		}
		// regclient takes any failure of the API for its absence, now and later.
		client = s.connect()
		if c.refused != nil {
			return c.refused
		}
		if c.worst >= 500 {
			c.status = c.worst
			return c.refusal("list of what refers to " + subject.String())
		}
		list, err = descriptors(found)
		if err != nil {
			return &Failure{What: fmt.Sprintf("registry %s lists %v", ep.host, err)}
		}
		return nil
	})
	if NotFound(err) {
		return nil, nil
	}
	return list, err
}

func descriptors(found referrer.ReferrerList) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	for _, d := range found.Descriptors {
		if err := d.Digest.Validate(); err != nil {
			return nil, errors.New("a referrer without a valid digest")
		}
		list = append(list, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType})
	}
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return compare(a.Digest, b.Digest) })
	return list, nil
}

func compare(a, b digest.Digest) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// tagged names one image of the repository by tag or digest.
func (ep endpoint) tagged(tag string) ref.Ref {
	if _, err := digest.Parse(tag); err == nil {
		return ep.ref().SetDigest(tag)
	}
	return ep.ref().SetTag(tag)
}

func (ep endpoint) what(tag string) string {
	if _, err := digest.Parse(tag); err == nil {
		return fmt.Sprintf("image %s@%s", ep.path, tag)
	}
	return fmt.Sprintf("image %s:%s", ep.path, tag)
}
