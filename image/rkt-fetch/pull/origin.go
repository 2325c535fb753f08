package pull

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/rkt-fetch/archive"
	"github.com/rkt/rkt/image/rkt-fetch/evidence"
	"github.com/rkt/rkt/image/rkt-fetch/registry"
	"github.com/rkt/rkt/image/trust"
)

// Registry is an image in a registry, as an Origin.
type Registry struct {
	*registry.Source
	Lookaside *evidence.Lookaside // or nil
	Signature string              // a file with one more signature, or ""
}

// Evidence implements Origin.
func (r Registry) Evidence(ctx context.Context, manifest, index digest.Digest) (evidence.Found, error) {
	subjects := []digest.Digest{manifest}
	if index != "" {
		subjects = append(subjects, index)
	}
	var given []evidence.Found
	if r.Signature != "" {
		for _, subject := range subjects {
			item, err := evidence.File(r.Signature, subject)
			if err != nil {
				return evidence.Found{}, err
			}
			given = append(given, evidence.Found{Items: []trust.Evidence{item}})
		}
	}
	found, err := evidence.Collect(ctx, r.Source, r.Lookaside, subjects...)
	if err != nil {
		return evidence.Found{}, err
	}
	return evidence.Join(append(given, found)...), nil
}

// Close implements Origin.
func (r Registry) Close() error { return nil }

// Archive is an image in a local layout or archive, as an Origin.
type Archive struct{ *archive.Source }

// Head implements Origin: only reading it tells whether an archive is the same.
func (a Archive) Head(context.Context) (digest.Digest, error) { return "", nil }

// Evidence implements Origin.
func (a Archive) Evidence(_ context.Context, manifest, _ digest.Digest) (evidence.Found, error) {
	items, err := a.Source.Evidence(manifest)
	return evidence.Found{Items: items}, err
}
