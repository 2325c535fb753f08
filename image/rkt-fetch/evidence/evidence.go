// Package evidence collects the signatures of an image from where signers
// leave them: cosign's tags, Sigstore bundles that refer to the image, the
// lookaside server of OpenPGP simple signatures, a file that the user gives.
//
// It judges none of them: that is package trust, at fetch and at every start.
// What is too large, too much or cannot be read is left out and reported, for
// the fewer signatures there are, the less an image is trusted. Formats:
// https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md,
// https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md,
// https://github.com/containers/image/blob/main/docs/signature-protocols.md.
package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/rkt-fetch/registry"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/trust"
)

const (
	cosignLayer     = "application/vnd.dev.cosign.simplesigning.v1+json"
	cosignSignature = "dev.cosignproject.cosign/signature"
	bundleType      = "application/vnd.dev.sigstore.bundle.v0.3+json"

	// maxItem is how large one signature may be. Those of cosign and gpg have
	// one to ten kilobytes.
	maxItem = 256 << 10
	// maxAll keeps the document of all items, in base64, below its limit.
	maxAll = trust.MaxEvidence / 2
)

// Found is what was collected.
type Found struct {
	Items []trust.Evidence
	// Problems says what was left out and why, one sentence each.
	Problems []string
}

func (f *Found) leaveOut(format string, args ...any) {
	if len(f.Problems) < trust.MaxItems {
		f.Problems = append(f.Problems, fmt.Sprintf(format, args...))
	}
}

// Repository is the part of a registry.Source that signatures are read from.
type Repository interface {
	Manifest(ctx context.Context, tag string) (source.Document, error)
	Referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error)
	Document(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
}

// Collect asks for the signatures of subjects: the manifest and, if it was
// chosen from one, the index. It fails only when ctx ends. The order of what
// it returns does not depend on who answers first.
func Collect(ctx context.Context, from Repository, lookaside *Lookaside, subjects ...digest.Digest) (Found, error) {
	type ask func(ctx context.Context, subject digest.Digest) Found
	asks := []ask{
		func(ctx context.Context, subject digest.Digest) Found { return cosign(ctx, from, subject) },
		func(ctx context.Context, subject digest.Digest) Found { return bundles(ctx, from, subject) },
	}
	if lookaside != nil {
		asks = append(asks, lookaside.collect)
	}
	answers := make([]Found, len(subjects)*len(asks))
	var wait sync.WaitGroup
	for i, subject := range subjects {
		for k, ask := range asks {
			wait.Go(func() { answers[i*len(asks)+k] = ask(ctx, subject) })
		}
	}
	wait.Wait()
	if ctx.Err() != nil {
		return Found{}, context.Cause(ctx)
	}
	return Join(answers...), nil
}

// Join puts what was found together, up to what can be kept.
func Join(parts ...Found) Found {
	var all Found
	size := 0
	for _, part := range parts {
		all.Problems = append(all.Problems, part.Problems...)
		for _, item := range part.Items {
			size += len(item.Payload) + len(item.Signature)
			if len(all.Items) == trust.MaxItems || size > maxAll {
				all.leaveOut("there are more signatures than the %d, or %d bytes, that are kept", trust.MaxItems, maxAll)
				return all
			}
			all.Items = append(all.Items, item)
		}
	}
	return all
}

// cosign reads cosign's classic signatures, layers of an image with the tag
// sha256-HEX.sig.
func cosign(ctx context.Context, from Repository, subject digest.Digest) Found {
	var found Found
	tag := fmt.Sprintf("%s-%s.sig", subject.Algorithm(), subject.Encoded())
	doc, err := from.Manifest(ctx, tag)
	if registry.NotFound(err) {
		return found
	}
	if err != nil {
		found.leaveOut("the signatures under the tag %s cannot be read: %v", tag, err)
		return found
	}
	var m ocispec.Manifest
	if doc.IsIndex() || json.Unmarshal(doc.Body, &m) != nil {
		found.leaveOut("what the tag %s stands for is not a list of signatures", tag)
		return found
	}
	for i, layer := range m.Layers {
		if layer.MediaType != cosignLayer {
			continue
		}
		what := fmt.Sprintf("signature %d under the tag %s", i+1, tag)
		if len(found.Items) == trust.MaxItems {
			found.leaveOut("%s and those after it are left out, more than %d are not kept", what, trust.MaxItems)
			break
		}
		signature := layer.Annotations[cosignSignature]
		if len(signature) > maxItem {
			found.leaveOut("%s is larger than %d bytes", what, maxItem)
			continue
		}
		payload, err := read(ctx, from, layer)
		if err != nil {
			found.leaveOut("%s %v", what, err)
			continue
		}
		found.Items = append(found.Items, trust.Evidence{Format: trust.CosignSimple, Subject: subject, Payload: payload, Signature: []byte(signature)})
	}
	return found
}

// bundles reads Sigstore bundles, each the one layer of a manifest that refers
// to the subject.
func bundles(ctx context.Context, from Repository, subject digest.Digest) Found {
	var found Found
	list, err := from.Referrers(ctx, subject, bundleType)
	if err != nil {
		found.leaveOut("the Sigstore bundles of %s cannot be listed: %v", subject, err)
		return found
	}
	for _, referrer := range list {
		what := fmt.Sprintf("Sigstore bundle %s", referrer.Digest)
		if len(found.Items) == trust.MaxItems {
			found.leaveOut("%s and those after it are left out, more than %d are not kept", what, trust.MaxItems)
			break
		}
		bundle, err := readBundle(ctx, from, referrer)
		if err != nil {
			found.leaveOut("%s %v", what, err)
			continue
		}
		found.Items = append(found.Items, trust.Evidence{Format: trust.SigstoreBundle, Subject: subject, Signature: bundle})
	}
	return found
}

func readBundle(ctx context.Context, from Repository, referrer ocispec.Descriptor) ([]byte, error) {
	doc, err := from.Manifest(ctx, referrer.Digest.String())
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	var m ocispec.Manifest
	if doc.IsIndex() || json.Unmarshal(doc.Body, &m) != nil || len(m.Layers) != 1 {
		return nil, errors.New("does not have the one part of a bundle")
	}
	return read(ctx, from, m.Layers[0])
}

// read reads a signature's blob, which is text of a stranger like the rest but
// at least the text that its manifest names.
func read(ctx context.Context, from Repository, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxItem {
		return nil, fmt.Errorf("is larger than %d bytes", maxItem)
	}
	if err := source.CheckDescriptor(desc, maxItem); err != nil {
		return nil, fmt.Errorf("is not described properly: %w", err)
	}
	data, err := from.Document(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("was altered: its digest is %s, its manifest says %s", got, desc.Digest)
	}
	return data, nil
}
