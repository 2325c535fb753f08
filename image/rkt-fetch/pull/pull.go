// Package pull brings one image into the store: it decides whether anything is
// to be fetched, has the policy judge the image before a byte of its content
// is asked for, downloads and unpacks its layers side by side, and names it
// when all of it is there.
//
// Nothing is visible before that: what fails or is killed leaves at most
// unfinished blobs, which the next pull continues. The package neither speaks
// HTTP nor unpacks; it is given a source and an unpacker. It does not print.
package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/evidence"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/store"
)

// Policy says when to go to the source.
type Policy string

// The values of --pull-policy.
const (
	Never  Policy = "never"  // the store must have it
	New    Policy = "new"    // if the store does not have it
	Update Policy = "update" // always, and fetch what changed
)

// ParsePolicy reads a value of --pull-policy.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case Never, New, Update:
		return p, nil
	}
	return "", fmt.Errorf("pull policy %q is unknown, choose never, new or update", s)
}

// Origin is a source with what else a pull asks of it.
type Origin interface {
	source.Source
	// Head is the digest that the name stands for now, or "" if only Resolve
	// can tell.
	Head(ctx context.Context) (digest.Digest, error)
	// Evidence collects the signatures of a manifest and of the index, or "",
	// that it was chosen from.
	Evidence(ctx context.Context, manifest, index digest.Digest) (evidence.Found, error)
	io.Closer
}

// Unpack unpacks a layer's blob into a directory and verifies its diffID.
type Unpack func(ctx context.Context, blob io.Reader, mediaType string, diffID digest.Digest, target string) error

// Options of Fetch.
type Options struct {
	Store *store.Store
	Dir   string // of the store
	Ref   reference.Reference
	Name  string // by which it is judged and kept in the store; "" is Ref's
	When  Policy
	// Trust judges the image; nil takes it unjudged.
	Trust    *trust.Policy
	Platform source.Platform
	Open     func(ctx context.Context) (Origin, error) // called at most once
	Unpack   Unpack
	Unpacks  int // layers unpacked at the same time
	Progress Progress
}

// Progress shows what happens. Its methods may be called from any goroutine.
type Progress interface {
	// Note says something out of the ordinary, in a line.
	Note(line string)
	// Layer starts a layer of so many bytes.
	Layer(d digest.Digest, size int64) Track
}

// Track is the progress of one layer.
type Track interface {
	At(offset int64) // so much of it is there
	Unpacking()
	Done()
}

// Result is what Fetch did.
type Result struct {
	Name    string        `json:"name"`
	Digest  digest.Digest `json:"digest"`
	Fetched bool          `json:"fetched"` // from the source, not only from the store
}

// Fetch makes sure that the image is in the store, complete and trusted.
func Fetch(ctx context.Context, o Options) (Result, error) {
	as := o.Ref
	if o.Name != "" {
		var err error
		if as, err = reference.Parse(o.Name); err != nil {
			return Result{}, fmt.Errorf("fetch %q: %w", o.Ref, err)
		}
	}
	o.Name = as.String()
	f := &fetch{Options: o, as: as}
	defer f.close()
	img, fetched, err := f.run(ctx)
	var refused *refusal
	switch {
	case ctx.Err() != nil && err != nil:
		return Result{}, context.Cause(ctx)
	case errors.As(err, &refused):
		return Result{}, refused
	case err != nil && isFull(err):
		return Result{}, fmt.Errorf("fetch %q: %w; make room in %q, 'rkt image gc' removes images that nobody uses", o.Ref, err, o.Dir)
	case err != nil:
		return Result{}, fmt.Errorf("fetch %q: %w", o.Ref, err)
	}
	return Result{Name: img.Name, Digest: img.Manifest.Digest, Fetched: fetched}, nil
}

// isFull recognises a full disk also in the words of the unpacking process.
func isFull(err error) bool {
	return err != nil && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || strings.Contains(err.Error(), syscall.ENOSPC.Error()))
}

// fetch is one call of Fetch.
type fetch struct {
	Options
	as     reference.Reference // Name
	lease  *store.Lease
	origin Origin
}

func (f *fetch) close() {
	if f.origin != nil {
		_ = f.origin.Close()
	}
	if f.lease != nil {
		_ = f.lease.Close()
	}
}

func (f *fetch) run(ctx context.Context) (img store.Image, fetched bool, err error) {
	if f.lease, err = f.Store.Lease(); err != nil {
		return img, false, err
	}
	have, err := f.stored()
	if err != nil {
		return img, false, err
	}
	switch f.When {
	case Never:
		if have.missing != "" {
			return img, false, fmt.Errorf("%s, and the pull policy \"never\" forbids to fetch it", have.missing)
		}
		return have.img, false, f.judge(have.subject(f.as), evidence.Found{Items: have.items})
	case New:
		if have.missing == "" && !f.Ref.IsLocal() {
			return have.img, false, f.judge(have.subject(f.as), evidence.Found{Items: have.items})
		}
	}
	if f.origin, err = f.Open(ctx); err != nil {
		return img, false, err
	}
	if have.missing == "" {
		now, err := f.current(ctx)
		if err != nil {
			return img, false, err
		}
		if now != "" && (now == have.img.Manifest.Digest || now == have.img.Index) {
			img, err = f.unchanged(ctx, have)
			return img, false, err
		}
	}
	img, err = f.download(ctx)
	return img, have.missing != "" || img.Manifest.Digest != have.img.Manifest.Digest, err
}

// current is what the name stands for at its source. A digest cannot change.
func (f *fetch) current(ctx context.Context) (digest.Digest, error) {
	if f.Ref.Digest != "" {
		return f.Ref.Digest, nil
	}
	return f.origin.Head(ctx)
}

// unchanged judges an image that is there already. Only if its signatures do
// not suffice (any more), new ones are looked for.
func (f *fetch) unchanged(ctx context.Context, have stored) (store.Image, error) {
	subject := have.subject(f.as)
	if f.judge(subject, evidence.Found{Items: have.items}) == nil {
		return have.img, f.Store.Touch(have.img)
	}
	found, err := f.origin.Evidence(ctx, subject.Manifest, subject.Index)
	if err != nil {
		return have.img, err
	}
	kept, err := f.accept(subject, found)
	if err != nil {
		return have.img, err
	}
	have.img.Evidence = kept
	return have.img, f.Store.Put(have.img)
}

// download fetches what is missing of the image: its documents, then its
// signatures, and only if those suffice its content.
func (f *fetch) download(ctx context.Context) (store.Image, error) {
	top, err := f.origin.Resolve(ctx)
	if err != nil {
		return store.Image{}, err
	}
	subject := trust.Subject{Ref: f.as}
	doc := top
	if top.IsIndex() {
		if doc, err = f.choose(ctx, top); err != nil {
			return store.Image{}, err
		}
		subject.Index, subject.IndexBody = top.Descriptor.Digest, top.Body
	}
	subject.Manifest = doc.Descriptor.Digest
	m, err := doc.Manifest()
	if err != nil {
		return store.Image{}, err
	}
	found, err := f.origin.Evidence(ctx, subject.Manifest, subject.Index)
	if err != nil {
		return store.Image{}, err
	}
	kept, err := f.accept(subject, found)
	if err != nil {
		return store.Image{}, err
	}
	img := store.Image{Name: f.Name, Index: subject.Index, Evidence: kept}
	if subject.Index != "" {
		if _, err := f.Store.PutBlob(top.Descriptor.MediaType, top.Body); err != nil {
			return store.Image{}, err
		}
	}
	if img.Manifest, err = f.Store.PutBlob(doc.Descriptor.MediaType, doc.Body); err != nil {
		return store.Image{}, err
	}
	cfg, err := f.config(ctx, m)
	if err != nil {
		return store.Image{}, err
	}
	if err := f.layers(ctx, m, cfg); err != nil {
		return store.Image{}, err
	}
	return img, f.Store.Put(img)
}

// choose reads the manifest for the wanted platform.
func (f *fetch) choose(ctx context.Context, top source.Document) (source.Document, error) {
	index, err := top.Index()
	if err != nil {
		return source.Document{}, err
	}
	desc, err := f.Platform.Choose(index)
	if err != nil {
		return source.Document{}, err
	}
	return f.origin.Child(ctx, desc)
}

// config fetches and checks the image's configuration.
func (f *fetch) config(ctx context.Context, m ocispec.Manifest) (ocispec.Image, error) {
	if err := f.sound(m.Config); err != nil {
		return ocispec.Image{}, err
	}
	if err := f.blob(ctx, m.Config, silent{}); err != nil {
		return ocispec.Image{}, err
	}
	cfg, err := f.Store.Config(m)
	if err != nil {
		return ocispec.Image{}, err
	}
	return cfg, source.Config(cfg, m, f.Platform)
}

// refusal is the policy's no, a whole sentence.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// judge asks the policy, if it is to be asked.
func (f *fetch) judge(subject trust.Subject, found evidence.Found) error {
	if f.Trust == nil {
		return nil
	}
	d := f.Trust.Evaluate(subject, found.Items, time.Now())
	if d.Trusted {
		return nil
	}
	err := d.Err
	if len(found.Problems) > 0 {
		err = fmt.Errorf("%w (left out of its signatures: %s)", err, found.Problems[0])
	}
	return &refusal{err}
}

// accept judges and keeps the signatures that were found, also those that
// today's policy does not ask for.
func (f *fetch) accept(subject trust.Subject, found evidence.Found) (digest.Digest, error) {
	if err := f.judge(subject, found); err != nil {
		return "", err
	}
	for _, problem := range found.Problems {
		f.Progress.Note("left out of the image's signatures: " + problem)
	}
	if len(found.Items) == 0 {
		return "", nil
	}
	if f.Trust != nil {
		found.Items = f.Trust.Evaluate(subject, found.Items, time.Now()).Record(found.Items)
	}
	data, err := trust.Marshal(found.Items)
	if err != nil {
		return "", err
	}
	desc, err := f.Store.PutBlob(trust.MediaType, data)
	return desc.Digest, err
}
