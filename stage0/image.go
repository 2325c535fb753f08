package stage0

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/store"
)

// image is an image of the store that may be run.
type image struct {
	ref    reference.Reference // the name that was asked for, or that the ID has
	record pod.Image
	config ocispec.ImageConfig
	lower  []string
}

// resolver finds images in the store and has the missing ones fetched.
type resolver struct {
	c     Config
	store *store.Store
	pull  PullPolicy
	quiet bool
	judge judge
	names map[string]string // what was fetched, by what the app asks for -> the name that it got
}

// images gives the image of every app. Until release is called, garbage
// collection keeps them; when pods refer to them, that keeps them.
func (r *resolver) images(ctx context.Context, apps []App) (images []image, release func(), err error) {
	for _, app := range apps {
		if !r.fetchFirst(app) {
			continue
		}
		if err := r.fetchOnce(ctx, app); err != nil {
			return nil, nil, err
		}
	}
	for {
		// The lock is not held while fetching: that may take minutes.
		release, err := r.store.Share()
		if err != nil {
			return nil, nil, err
		}
		var missing []App
		images = images[:0]
		for _, app := range apps {
			img, err := r.image(app)
			if err != nil && r.fetchable(app, err) {
				missing = append(missing, app)
				continue
			}
			if err != nil {
				release()
				return nil, nil, err
			}
			images = append(images, img)
		}
		if len(missing) == 0 {
			return images, release, nil
		}
		release()
		for _, app := range missing {
			if err := r.fetchOnce(ctx, app); err != nil {
				return nil, nil, err
			}
		}
	}
}

// fetchable reports whether a fetch may help against an error. It has one try;
// rkt-fetch replaces what is corrupt, and says so.
func (r *resolver) fetchable(app App, err error) bool {
	if _, done := r.names[app.Image]; done || r.pull == PullNever || isID(app.Image) {
		return false
	}
	var corrupt *store.CorruptError
	var refused *refusal
	return errors.As(err, &corrupt) || errors.Is(err, store.ErrNotFound) || errors.As(err, &refused) && app.Signature != ""
}

// refusal is the trust policy's answer to an image that must not run.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// fetchOnce fetches an app's image unless that was done for another app.
func (r *resolver) fetchOnce(ctx context.Context, app App) error {
	if _, done := r.names[app.Image]; done {
		return nil
	}
	return r.fetch(ctx, app)
}

// fetchFirst reports whether an image is to be fetched whatever the store has.
// A local one may have changed since; whether it has is rkt-fetch's to find out.
func (r *resolver) fetchFirst(app App) bool {
	if r.pull == PullNever || isID(app.Image) {
		return false
	}
	ref, err := reference.Parse(app.Image)
	return err == nil && (r.pull == PullUpdate || ref.IsLocal())
}

// isID reports whether an image is asked for by its digest, or a part of it.
func isID(s string) bool { return strings.HasPrefix(s, "sha256:") || strings.HasPrefix(s, "sha512:") }

// image looks an app's image up, judges it and reads what is needed of it.
func (r *resolver) image(app App) (image, error) {
	found, err := r.lookUp(app.Image)
	if err != nil {
		return image{}, err
	}
	img, err := r.accept(found)
	if err != nil {
		return image{}, err
	}
	if err := r.load(&img, found[0]); err != nil {
		return image{}, damaged(img.record.Name, err)
	}
	return img, nil
}

// damaged says what is wrong with an image in the store, and what helps.
func damaged(name string, err error) error {
	var corrupt *store.CorruptError
	if errors.As(err, &corrupt) {
		return fmt.Errorf("image %q: %w; fetch it again with 'rkt fetch %s'", name, err, name)
	}
	return fmt.Errorf("image %q: %w", name, err)
}

// lookUp gives the names under which the store has what is asked for; all are
// names of one image.
func (r *resolver) lookUp(asked string) ([]store.Image, error) {
	if isID(asked) {
		found, err := r.store.ByDigest(asked)
		if err != nil {
			return nil, err
		}
		for _, other := range found[1:] {
			if other.Manifest.Digest != found[0].Manifest.Digest {
				return nil, fmt.Errorf("image ID %q is ambiguous: it matches %s and %s; give more of it", asked, found[0].Manifest.Digest, other.Manifest.Digest)
			}
		}
		return found, nil
	}
	name := r.names[asked]
	if name == "" {
		ref, err := reference.Parse(asked)
		if err != nil {
			return nil, err
		}
		name = ref.String()
	}
	img, err := r.store.Get(name)
	if errors.Is(err, store.ErrNotFound) && r.pull == PullNever {
		return nil, fmt.Errorf("%w, and the pull policy is never; fetch it with 'rkt fetch %s'", err, asked)
	}
	if err != nil {
		return nil, err
	}
	return []store.Image{img}, nil
}

// accept judges an image under its names, until one is trusted.
func (r *resolver) accept(names []store.Image) (image, error) {
	var first error
	for _, img := range names {
		ref, err := reference.Parse(img.Name)
		if err == nil {
			record := pod.Image{
				Name: img.Name, Digest: img.Manifest.Digest.String(),
				Index: img.Index.String(), Evidence: img.Evidence.String(),
			}
			if err = r.judge.image(r.store, ref, &record); err == nil {
				return image{ref: ref, record: record}, nil
			}
		}
		if first == nil {
			first = err
		}
	}
	return image{}, first
}

// load reads the configuration and finds the layers.
func (r *resolver) load(img *image, stored store.Image) error {
	m, err := r.store.Manifest(stored)
	if err != nil {
		return err
	}
	cfg, err := r.store.Config(m)
	if err != nil {
		return err
	}
	root, err := r.store.Root(cfg)
	if err != nil {
		return err
	}
	img.config, img.lower = cfg.Config, root.Lower
	return r.store.Touch(stored)
}

// judge applies the trust policy of this moment.
type judge struct {
	c      Config
	policy *trust.Policy // read when first needed
}

// image judges an image by the signatures that the store keeps, and notes the
// outcome. It fails if the image must not run.
func (j *judge) image(s *store.Store, ref reference.Reference, record *pod.Image) error {
	if j.c.Insecure.Has(insecure.Image) {
		record.Verified, record.Trust = false, "not verified: signatures were not checked (--insecure-options=image)"
		return nil
	}
	if j.policy == nil {
		policy, err := trust.LoadPolicy(j.c.SystemConfig, j.c.LocalConfig)
		if err != nil {
			return err
		}
		j.policy = policy
	}
	subject := trust.Subject{Ref: ref, Manifest: digest.Digest(record.Digest), Index: digest.Digest(record.Index)}
	evidence, err := readEvidence(s, digest.Digest(record.Evidence))
	if err != nil {
		return damaged(ref.String(), err)
	}
	// The index is read only if a signature is for it.
	ofIndex := func(e trust.Evidence) bool { return e.Subject == subject.Index }
	if subject.Index != "" && slices.ContainsFunc(evidence, ofIndex) {
		if subject.IndexBody, err = s.ReadBlob(ocispec.Descriptor{Digest: subject.Index}); err != nil {
			return damaged(ref.String(), fmt.Errorf("read image index: %w", err))
		}
	}
	d := j.policy.Evaluate(subject, evidence, time.Now())
	if !d.Trusted {
		return &refusal{d.Err}
	}
	record.Verified = !d.Unsigned
	record.Trust = "accepted unsigned by rule " + d.Rule
	if record.Verified {
		record.Trust = "verified by rule " + d.Rule + " with " + strings.Join(d.Keys, ", ")
	}
	return nil
}

func readEvidence(s *store.Store, blob digest.Digest) ([]trust.Evidence, error) {
	if blob == "" {
		return nil, nil
	}
	data, err := s.ReadBlob(ocispec.Descriptor{Digest: blob})
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	return trust.Unmarshal(data)
}
