package trust

import (
	"bytes"
	"crypto"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/opencontainers/go-digest"
)

// ArchiveHasher remembers of an archive what verifying the signature beside it
// takes: write the archive's bytes through it, all of them and in order.
type ArchiveHasher struct {
	format    Format
	signature []byte
	digest    hash.Hash
	states    []archiveState
}

type archiveState struct {
	kind    crypto.Hash
	salt    []byte
	running hash.Hash
}

// NewArchiveHasher reads the signature file beside an archive: a detached
// OpenPGP signature, armored or not, or a Sigstore bundle by 'cosign
// sign-blob'. The signature is not verified.
func NewArchiveHasher(signature []byte) (*ArchiveHasher, error) {
	a := &ArchiveHasher{signature: bytes.Clone(signature), digest: crypto.SHA256.New()}
	if len(signature) > MaxItem/2 {
		return nil, fmt.Errorf("read detached signature: it is longer than %d bytes", MaxItem/2)
	}
	var err error
	if trimmed := bytes.TrimSpace(signature); len(trimmed) > 0 && trimmed[0] == '{' {
		a.format = SigstoreBundle
		err = a.needBundle(trimmed)
	} else {
		a.format = OpenPGPDetached
		err = a.needOpenPGP(signature)
	}
	if err != nil {
		return nil, fmt.Errorf("read detached signature: %w", err)
	}
	return a, nil
}

func (a *ArchiveHasher) needBundle(data []byte) error {
	b, err := readBundle(data)
	if err != nil {
		return err
	}
	if b.Message == nil {
		return errors.New("it is a bundle about an image, not one of a file by 'cosign sign-blob'")
	}
	if h, ok := blobHash(b.Message.Digest.Algorithm); ok {
		a.need(h, nil)
	}
	return nil
}

func (a *ArchiveHasher) needOpenPGP(data []byte) error {
	sigs, err := readDetached(data)
	if err != nil {
		return err
	}
	for _, sig := range sigs {
		if _, strong := hashName(sig.Hash); strong {
			a.need(sig.Hash, sig.Salt())
		}
	}
	return nil
}

func (a *ArchiveHasher) need(kind crypto.Hash, salt []byte) {
	for _, s := range a.states {
		if s.kind == kind && bytes.Equal(s.salt, salt) {
			return
		}
	}
	running := kind.New()
	running.Write(salt)
	a.states = append(a.states, archiveState{kind, salt, running})
}

// Write adds bytes of the archive. It never fails.
func (a *ArchiveHasher) Write(p []byte) (int, error) {
	a.digest.Write(p)
	for _, s := range a.states {
		s.running.Write(p)
	}
	return len(p), nil
}

// Evidence is the item to keep, after the whole archive was written. manifest
// is the digest of the image that was imported from it.
func (a *ArchiveHasher) Evidence(manifest digest.Digest) (Evidence, error) {
	e := Evidence{Format: a.format, Subject: manifest, Signature: a.signature, Archive: &Archive{
		Digest: digest.NewDigestFromBytes(digest.SHA256, a.digest.Sum(nil)),
		Hashes: []HashState{},
	}}
	for _, s := range a.states {
		marshaler, ok := s.running.(encoding.BinaryMarshaler)
		if !ok {
			return Evidence{}, fmt.Errorf("keep the hash of an archive: %s cannot be kept", s.kind)
		}
		state, err := marshaler.MarshalBinary()
		if err != nil {
			return Evidence{}, fmt.Errorf("keep the hash of an archive: %w", err)
		}
		name, _ := hashName(s.kind)
		e.Archive.Hashes = append(e.Archive.Hashes, HashState{Hash: name, Salt: s.salt, State: state})
	}
	return e, nil
}

// resume continues the hash over the archive where its bytes ended.
func (a *Archive) resume(kind crypto.Hash, salt []byte) (hash.Hash, error) {
	name, _ := hashName(kind)
	for _, s := range a.Hashes {
		if s.Hash != name || !bytes.Equal(s.Salt, salt) {
			continue
		}
		h := kind.New()
		u, ok := h.(encoding.BinaryUnmarshaler)
		if !ok || u.UnmarshalBinary(s.State) != nil {
			return nil, errors.New("the hash kept of its archive is garbled; fetch the archive again")
		}
		return h, nil
	}
	return nil, fmt.Errorf("no %s hash of its archive was kept; fetch the archive again", name)
}

func (a *Archive) sum(kind crypto.Hash) ([]byte, error) {
	h, err := a.resume(kind, nil)
	if err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// checkArchive: that the image came from the signed archive is what the store
// remembers; here only that it is this image, and that what was kept agrees
// with itself.
func (j *judge) checkArchive(item Evidence) *failure {
	if item.Archive == nil {
		return garbled("nothing was kept of the archive that its detached signature is for; fetch the archive again")
	}
	if item.Subject != j.subject.Manifest && (j.subject.Index == "" || item.Subject != j.subject.Index) {
		return fail(stageDigest, "its detached signature is of the archive of another image, %q, not of this one, %s", clip(string(item.Subject)), j.subject.Manifest)
	}
	if item.Subject != j.subject.Manifest {
		if err := j.indexLists(); err != nil {
			return fail(stageDigest, "its detached signature is of the archive of the image index %s, and %w", item.Subject, err)
		}
	}
	for _, s := range item.Archive.Hashes {
		if s.Hash != "sha256" || len(s.Salt) > 0 {
			continue
		}
		hashed, err := item.Archive.sum(crypto.SHA256)
		if err != nil {
			return garbled("its detached signature cannot be verified again: %w", err)
		}
		if "sha256:"+hex.EncodeToString(hashed) != string(item.Archive.Digest) {
			return garbled("what was kept of its archive contradicts itself; fetch the archive again")
		}
	}
	return nil
}

// checkUnnamedArchive: who gives an archive's path has chosen the image; under
// a registry's name a signature without repository needs more.
func (j *judge) checkUnnamedArchive(key Key) *failure {
	if j.subject.Ref.IsLocal() {
		return nil
	}
	return j.unnamed(key, "its detached signature")
}
