package pull

import (
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/store"
)

// stored is what the store has under the image's name.
type stored struct {
	img       store.Image
	indexBody []byte
	items     []trust.Evidence
	missing   string // why it cannot be used as it is, or ""
}

func (s stored) subject(ref reference.Reference) trust.Subject {
	return trust.Subject{Ref: ref, Manifest: s.img.Manifest.Digest, Index: s.img.Index, IndexBody: s.indexBody}
}

// stored looks the name up and makes sure that all of the image is there and
// stays there. Documents that are corrupt are removed, to be fetched again.
func (f *fetch) stored() (stored, error) {
	img, err := f.Store.Get(f.Name)
	if errors.Is(err, store.ErrNotFound) {
		return stored{missing: "it is not in the store"}, nil
	}
	if err != nil {
		return stored{}, err
	}
	have := stored{img: img}
	err = f.look(&have)
	var corrupt *store.CorruptError
	switch {
	case errors.As(err, &corrupt):
		f.Progress.Note(corrupt.Error() + "; it is removed")
		if err := f.Store.RemoveBlob(corrupt.Digest); err != nil {
			return stored{}, err
		}
		have.missing = "it is incomplete in the store"
	case errors.Is(err, store.ErrNotFound):
		have.missing = "it is incomplete in the store"
	case err != nil:
		return stored{}, err
	}
	return have, nil
}

func (f *fetch) look(have *stored) error {
	if err := f.hold(have.img.Manifest); err != nil {
		return err
	}
	m, err := f.Store.Manifest(have.img)
	if err != nil {
		return err
	}
	cfg, err := f.Store.Config(m)
	if err != nil {
		return err
	}
	if err := f.lookDocuments(have); err != nil {
		return err
	}
	for i, layer := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		ok, err := f.lease.HasBlob(layer)
		if ok && err == nil && i > 0 {
			ok, err = f.lease.HasLayer(cfg.RootFS.DiffIDs[i-1])
		}
		if err != nil {
			return err
		}
		if !ok {
			return store.ErrNotFound
		}
	}
	wanted := f.Ref.Digest
	switch {
	case have.missing != "":
	case source.Config(cfg, m, f.Platform) != nil:
		have.missing = fmt.Sprintf("the store has it for %s/%s, not for %s", cfg.OS, cfg.Architecture, f.Platform)
	case wanted != "" && wanted.Algorithm() == digest.SHA256 && wanted != have.img.Manifest.Digest && wanted != have.img.Index:
		have.missing = fmt.Sprintf("the store has %s under this name", have.img.Manifest.Digest)
	}
	return nil
}

// hold keeps a blob from garbage collection, if it is there.
func (f *fetch) hold(desc ocispec.Descriptor) error {
	ok, err := f.lease.HasBlob(desc)
	if err == nil && !ok {
		err = store.ErrNotFound
	}
	return err
}

// lookDocuments reads the index and the signatures.
func (f *fetch) lookDocuments(have *stored) error {
	for _, doc := range []struct {
		digest digest.Digest
		use    func(data []byte) error
	}{
		{have.img.Index, func(data []byte) error { have.indexBody = data; return nil }},
		{have.img.Evidence, func(data []byte) (err error) {
			if have.items, err = trust.Unmarshal(data); err != nil {
				have.missing = "its signatures in the store are garbled"
			}
			return nil
		}},
	} {
		if doc.digest == "" {
			continue
		}
		desc := ocispec.Descriptor{Digest: doc.digest}
		if err := f.hold(desc); err != nil {
			return err
		}
		data, err := f.Store.ReadBlob(desc)
		if err == nil {
			err = doc.use(data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sound reads a blob that the store has, if it has it, before others rely on
// it. A corrupt one is named and removed, to be fetched again.
func (f *fetch) sound(desc ocispec.Descriptor) error {
	if ok, err := f.lease.HasBlob(desc); err != nil || !ok {
		return err
	}
	r, err := f.Store.OpenBlob(desc)
	if err == nil {
		_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, 1<<20))
		_ = r.Close()
	}
	var corrupt *store.CorruptError
	if errors.As(err, &corrupt) {
		f.Progress.Note(corrupt.Error() + "; it is fetched again")
		return f.Store.RemoveBlob(desc.Digest)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
