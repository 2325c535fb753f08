package trust

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// MediaType is that of the blob which keeps the evidence of one image.
const MediaType = "application/vnd.rkt.evidence.v1+json"

// Limits of what Marshal writes and Unmarshal reads. What a registry offers
// beyond them is left out by the fetcher, which can only lead to a refusal.
const (
	MaxItems        = 64
	MaxItem         = 1 << 20 // payload, signature and archive state of one item
	MaxEvidence     = 4 << 20 // the whole document
	evidenceKind    = "evidence"
	evidenceVersion = "v1"
)

// Format says how an item of evidence was signed.
type Format string

const (
	// CosignSimple is cosign's classic signature, kept under the tag
	// sha256-….sig: Payload is the layer's blob (simple-signing JSON),
	// Signature the text of the layer's annotation
	// "dev.cosignproject.cosign/signature", still in base64.
	CosignSimple Format = "cosign-simple"
	// SigstoreBundle is a Sigstore bundle, found as a referrer of the image or
	// beside an archive: Signature is the bundle's JSON, Payload is empty.
	SigstoreBundle Format = "sigstore-bundle"
	// OpenPGPSimple is a simple-signing message of skopeo and podman:
	// Signature is the whole signed message, Payload is empty.
	OpenPGPSimple Format = "openpgp-simple"
	// OpenPGPDetached is a detached signature of an archive: Signature is the
	// file, armored or not, Payload is empty and Archive is set.
	OpenPGPDetached Format = "openpgp-detached"
)

// Evidence is one signature as it was found, before anyone judged it.
type Evidence struct {
	Format Format `json:"format"`
	// Subject is the manifest or index digest that the signature was found
	// for, or the manifest that was imported from the signed archive.
	Subject   digest.Digest `json:"subject"`
	Payload   []byte        `json:"payload,omitempty"`
	Signature []byte        `json:"signature"`
	// Archive is what an ArchiveHasher remembers of the archive's bytes.
	Archive *Archive `json:"archive,omitempty"`
	// Key is the fingerprint of the key that verified this item when the image
	// was fetched (Decision.Record). It words refusals and is never trusted.
	Key string `json:"key,omitempty"`
}

// Archive stands for the bytes of an archive that is no longer there: running
// hashes over all of them, so that a detached signature can be verified again.
type Archive struct {
	Digest digest.Digest `json:"digest"` // sha256 of the bytes
	Hashes []HashState   `json:"hashes"`
}

// HashState is a running hash over a salt, if any, and all of the archive.
type HashState struct {
	Hash  string `json:"hash"` // "sha256", "sha384" or "sha512"
	Salt  []byte `json:"salt,omitempty"`
	State []byte `json:"state"` // encoding.BinaryMarshaler's form
}

type evidenceFile struct {
	Kind    string     `json:"rktKind"`
	Version string     `json:"rktVersion"`
	Items   []Evidence `json:"items"`
}

// Marshal makes the document that is kept in the store beside the image.
// The order of the items stays; the same items give the same bytes.
func Marshal(items []Evidence) ([]byte, error) {
	if err := checkEvidence(items); err != nil {
		return nil, fmt.Errorf("keep the signatures of an image: %w", err)
	}
	written := make([]Evidence, len(items)) // an empty list or signature is not written as null
	for i, item := range items {
		if item.Signature == nil {
			item.Signature = []byte{}
		}
		written[i] = item
	}
	data, err := json.Marshal(evidenceFile{evidenceKind, evidenceVersion, written})
	if err != nil {
		return nil, fmt.Errorf("keep the signatures of an image: %w", err)
	}
	if len(data) > MaxEvidence {
		return nil, fmt.Errorf("keep the signatures of an image: they take %d bytes, more than %d are not kept", len(data), MaxEvidence)
	}
	return data, nil
}

// Unmarshal reads what Marshal wrote. It checks sizes and forms, no signature.
func Unmarshal(data []byte) ([]Evidence, error) {
	if len(data) > MaxEvidence {
		return nil, fmt.Errorf("read the kept signatures of an image: the document has %d bytes, more than %d", len(data), MaxEvidence)
	}
	var file evidenceFile
	if err := decodeStrict(data, &file); err != nil {
		return nil, fmt.Errorf("read the kept signatures of an image: %w", err)
	}
	if file.Kind != evidenceKind || file.Version != evidenceVersion {
		return nil, fmt.Errorf("read the kept signatures of an image: the document is of kind %q version %q, not %q %q; fetch the image again", file.Kind, file.Version, evidenceKind, evidenceVersion)
	}
	if err := checkEvidence(file.Items); err != nil {
		return nil, fmt.Errorf("read the kept signatures of an image: %w", err)
	}
	return file.Items, nil
}

func checkEvidence(items []Evidence) error {
	if len(items) > MaxItems {
		return fmt.Errorf("there are %d signatures, more than %d", len(items), MaxItems)
	}
	for i, item := range items {
		if err := item.check(); err != nil {
			return fmt.Errorf("signature %d: %w", i+1, err)
		}
	}
	return nil
}

func (e Evidence) check() error {
	switch e.Format {
	case CosignSimple, SigstoreBundle, OpenPGPSimple:
	case OpenPGPDetached:
		if e.Archive == nil {
			return fmt.Errorf("format %q needs the state of the archive", e.Format)
		}
	default:
		return fmt.Errorf("format %q is unknown", e.Format)
	}
	if strings.Trim(e.Key, "0123456789abcdefABCDEFsh:") != "" {
		return fmt.Errorf("its key %q is not a fingerprint", clip(e.Key))
	}
	if size := e.size(); size > MaxItem {
		return fmt.Errorf("it has %d bytes, more than %d", size, MaxItem)
	}
	return nil
}

func (e Evidence) size() int {
	size := len(e.Payload) + len(e.Signature) + len(e.Key) + len(e.Subject)
	if e.Archive != nil {
		for _, h := range e.Archive.Hashes {
			size += len(h.Hash) + len(h.Salt) + len(h.State)
		}
	}
	return size
}
