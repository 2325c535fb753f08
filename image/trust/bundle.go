package trust

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	bundlePrefix    = "application/vnd.dev.sigstore.bundle"
	statementType   = "application/vnd.in-toto+json"
	statementV1     = "https://in-toto.io/Statement/v1"
	signPredicate   = "https://sigstore.dev/cosign/sign/v1"
	nameAnnotation  = "docker-reference"
	maxSubjects     = 1024
	maxDSSESignings = 16
)

// bundle is what is read of a Sigstore bundle. Certificates, time stamps and
// transparency log entries are not: a key pair needs none, and what nobody
// verifies must not look verified.
type bundle struct {
	MediaType string `json:"mediaType"`
	Message   *struct {
		Digest struct {
			Algorithm string `json:"algorithm"`
		} `json:"messageDigest"`
		Signature string `json:"signature"`
	} `json:"messageSignature"`
	Envelope *struct {
		Payload    string `json:"payload"`
		Type       string `json:"payloadType"`
		Signatures []struct {
			Signature string `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

func readBundle(data []byte) (*bundle, error) {
	var b bundle
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("it is cut off or garbled: %w", describe(err))
	}
	if !strings.HasPrefix(b.MediaType, bundlePrefix) {
		return nil, fmt.Errorf("its media type is %q, not %s…", clip(b.MediaType), bundlePrefix)
	}
	if (b.Message == nil) == (b.Envelope == nil) {
		return nil, fmt.Errorf("it must have either a DSSE envelope or a message signature")
	}
	if b.Envelope != nil && len(b.Envelope.Signatures) > maxDSSESignings {
		return nil, fmt.Errorf("its envelope has %d signatures, more than %d", len(b.Envelope.Signatures), maxDSSESignings)
	}
	return &b, nil
}

// verifyBundle judges one Sigstore bundle.
func (j *judge) verifyBundle(key Key, item Evidence) *failure {
	b, err := readBundle(item.Signature)
	if err != nil {
		return garbled("its Sigstore bundle cannot be read: %w", err)
	}
	if b.Message != nil {
		return j.verifyBlob(key, item, b)
	}
	return j.verifyEnvelope(key, item, b)
}

// verifyEnvelope checks a signature over an in-toto statement whose subject is
// the image.
func (j *judge) verifyEnvelope(key Key, item Evidence, b *bundle) *failure {
	if b.Envelope.Type != statementType {
		return garbled("its Sigstore bundle holds %q, not an in-toto statement", clip(b.Envelope.Type))
	}
	payload, err := base64.StdEncoding.DecodeString(b.Envelope.Payload)
	if err != nil || len(b.Envelope.Signatures) == 0 {
		return garbled("its Sigstore bundle is cut off or garbled: its envelope has no signed payload")
	}
	signed := envelopeBytes(b.Envelope.Type, payload)
	good := false
	for _, s := range b.Envelope.Signatures {
		raw, ok := decodeBase64([]byte(s.Signature))
		if !ok {
			return garbled("its Sigstore bundle is cut off or garbled: its signature is not base64")
		}
		good = good || verifyMessage(key.public, signed, raw)
	}
	if !good {
		return j.otherKey(item)
	}
	return j.checkStatement(key, payload)
}

// envelopeBytes is what a DSSE signature covers (PAE, version 1).
func envelopeBytes(kind string, payload []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DSSEv1 %d %s %d ", len(kind), kind, len(payload))
	b.Write(payload)
	return b.Bytes()
}

type statement struct {
	Type      string `json:"_type"`
	Predicate string `json:"predicateType"`
	Subjects  []struct {
		Digest      map[string]string `json:"digest"`
		Annotations map[string]any    `json:"annotations"`
	} `json:"subject"`
}

// checkStatement judges a statement after the signature over it was found
// good. A key may sign many things about an image: only cosign's "sign" says
// that it may run, an SBOM or a scan report does not.
func (j *judge) checkStatement(key Key, payload []byte) *failure {
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return garbled("what key %s signed is not an in-toto statement", key.Fingerprint)
	}
	if s.Predicate != signPredicate {
		return garbled("what key %s signed is an attestation of type %q and not a signature of the image", key.Fingerprint, clip(s.Predicate))
	}
	if s.Type != statementV1 {
		return garbled("what key %s signed is of the unknown type %q", key.Fingerprint, clip(s.Type))
	}
	if len(s.Subjects) == 0 || len(s.Subjects) > maxSubjects {
		return garbled("what key %s signed has %d subjects", key.Fingerprint, len(s.Subjects))
	}
	var best *failure
	for _, subject := range s.Subjects {
		f := j.checkDigest(key, digest.Digest("sha256:"+subject.Digest["sha256"]))
		if f == nil {
			f = j.checkAnnotations(key, subject.Annotations)
		}
		if f == nil {
			return nil
		}
		best = further(best, f)
	}
	return best
}

// checkAnnotations: what "cosign sign -a docker-reference=REPOSITORY[:TAG]"
// signs binds a bundle to a repository; without it nothing in a bundle does.
func (j *judge) checkAnnotations(key Key, annotations map[string]any) *failure {
	value, present := annotations[nameAnnotation]
	if !present {
		return j.unnamed(key, "its Sigstore bundle")
	}
	name, _ := value.(string)
	return j.checkName(key, name)
}

// verifyBlob checks a signature over the bytes themselves, as "cosign
// sign-blob" makes it: those of the archive that the image came from, or of
// its manifest or index. What the bundle says of the digest is not believed.
func (j *judge) verifyBlob(key Key, item Evidence, b *bundle) *failure {
	raw, ok := decodeBase64([]byte(b.Message.Signature))
	if !ok {
		return garbled("its Sigstore bundle is cut off or garbled: its signature is not base64")
	}
	hash, ok := blobHash(b.Message.Digest.Algorithm)
	if !ok {
		return garbled("its Sigstore bundle was made by signing a file with an Ed25519 key or an unknown hash (%q), which can only be verified with the whole file: sign the file with an ECDSA or RSA key", clip(b.Message.Digest.Algorithm))
	}
	if item.Archive != nil {
		hashed, err := item.Archive.sum(hash)
		if err != nil {
			return garbled("its Sigstore bundle cannot be verified again: %w", err)
		}
		if f := j.checkArchive(item); f != nil {
			return f
		}
		if !verifySum(key.public, hash, hashed, raw) {
			return j.otherKey(item)
		}
		return j.checkUnnamedArchive(key)
	}
	if hash != crypto.SHA256 {
		return garbled("its Sigstore bundle signs a file by %s, and images are named by sha256: sign the image itself with 'cosign sign'", b.Message.Digest.Algorithm)
	}
	for _, d := range j.digests() {
		if verifySum(key.public, hash, digestBytes(d), raw) {
			return j.unnamed(key, "its Sigstore bundle")
		}
	}
	return j.otherKey(item)
}

func blobHash(algorithm string) (crypto.Hash, bool) {
	switch algorithm {
	case digestSHA2:
		return crypto.SHA256, true
	case digestSHA23:
		return crypto.SHA384, true
	case digestSHA25:
		return crypto.SHA512, true
	}
	return 0, false
}
