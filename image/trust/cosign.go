package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/reference"
)

// Types that the payload of a simple-signing document may have.
const (
	cosignType  = "cosign container image signature"
	atomicType  = "atomic container signature"
	maxSimple   = 256 << 10
	maxRaw      = 64 << 10 // base64 or binary signature; RSA 16384 has 2 KiB
	digestSHA2  = "SHA2_256"
	digestSHA23 = "SHA2_384"
	digestSHA25 = "SHA2_512"
)

// sum hashes a message with one of the three hashes that signatures use here.
func sum(hash crypto.Hash, message []byte) []byte {
	switch hash {
	case crypto.SHA256:
		s := sha256.Sum256(message)
		return s[:]
	case crypto.SHA384:
		s := sha512.Sum384(message)
		return s[:]
	}
	s := sha512.Sum512(message)
	return s[:]
}

// messageHash is the hash that cosign uses with a key. Its versions before 2
// used SHA-256 with every curve.
func messageHash(public crypto.PublicKey) crypto.Hash {
	if key, ok := public.(*ecdsa.PublicKey); ok {
		switch key.Curve {
		case elliptic.P384():
			return crypto.SHA384
		case elliptic.P521():
			return crypto.SHA512
		}
	}
	return crypto.SHA256
}

// verifyMessage checks a raw signature over a message that is at hand.
func verifyMessage(public crypto.PublicKey, message, signature []byte) bool {
	if key, ok := public.(ed25519.PublicKey); ok {
		// cosign signs images with Ed25519ph, files with plain Ed25519. The
		// two are separated by their domain, so taking both gives nothing away.
		prehashed := ed25519.Options{Hash: crypto.SHA512}
		return ed25519.Verify(key, message, signature) ||
			ed25519.VerifyWithOptions(key, sum(crypto.SHA512, message), signature, &prehashed) == nil
	}
	hash := messageHash(public)
	if verifySum(public, hash, sum(hash, message), signature) {
		return true
	}
	return hash != crypto.SHA256 && verifySum(public, crypto.SHA256, sum(crypto.SHA256, message), signature)
}

// verifySum checks a raw signature over a message of which only the hash is
// known, which plain Ed25519 does not allow.
func verifySum(public crypto.PublicKey, hash crypto.Hash, hashed, signature []byte) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, hashed, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, hash, hashed, signature) == nil ||
			rsa.VerifyPSS(key, hash, hashed, signature, nil) == nil
	case ed25519.PublicKey:
		return hash == crypto.SHA512 &&
			ed25519.VerifyWithOptions(key, hashed, signature, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}

func decodeBase64(text []byte) ([]byte, bool) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || len(text) > maxRaw {
		return nil, false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	return raw, err == nil && len(raw) > 0
}

// simplePayload is what both cosign and simple signing sign.
type simplePayload struct {
	Critical *struct {
		Type     string `json:"type"`
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest digest.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
	} `json:"critical"`
}

// verifyCosign judges one classic cosign signature.
func (j *judge) verifyCosign(key Key, item Evidence) *failure {
	if len(item.Payload) > maxSimple {
		return garbled("its cosign signature has a payload of %d bytes, more than %d", len(item.Payload), maxSimple)
	}
	raw, ok := decodeBase64(item.Signature)
	if !ok {
		return garbled("its cosign signature is cut off or garbled: it is not base64")
	}
	if !verifyMessage(key.public, item.Payload, raw) {
		return j.otherKey(item)
	}
	return j.checkSimple(key, item.Payload, cosignType)
}

// checkSimple judges a simple-signing payload after the signature over it was
// found good: it must be about this image and this name.
func (j *judge) checkSimple(key Key, data []byte, kind string) *failure {
	var payload simplePayload
	if err := json.Unmarshal(data, &payload); err != nil || payload.Critical == nil {
		return garbled("what key %s signed is not a simple-signing document", key.Fingerprint)
	}
	critical := payload.Critical
	if critical.Type != kind {
		return garbled("what key %s signed has the type %q, not %q", key.Fingerprint, clip(critical.Type), kind)
	}
	if f := j.checkDigest(key, critical.Image.Digest); f != nil {
		return f
	}
	if critical.Identity.Reference == "" {
		return j.unnamed(key, "its signature")
	}
	return j.checkName(key, critical.Identity.Reference)
}

// checkDigest: the signature must be of the manifest that would run, or of the
// index that it was chosen from.
func (j *judge) checkDigest(key Key, signed digest.Digest) *failure {
	if digestBytes(signed) == nil {
		return garbled("what key %s signed names the image by %q, which is not a sha256 digest", key.Fingerprint, clip(string(signed)))
	}
	if signed == j.subject.Manifest {
		return nil
	}
	if j.subject.Index == "" || signed != j.subject.Index {
		return fail(stageDigest, "its signature by key %s is of another image, %s, not of this one, %s", key.Fingerprint, signed, j.subject.Manifest)
	}
	if err := j.indexLists(); err != nil {
		return fail(stageDigest, "its signature by key %s is of the image index %s, and %w", key.Fingerprint, signed, err)
	}
	return nil
}

// checkName: a signature is for one repository, or a signed image could be
// passed off under the name of another one. When it names a tag it is for that
// tag, unless the caller chose the content by digest.
func (j *judge) checkName(key Key, signed string) *failure {
	asked := j.subject.Ref
	name, tagged, ok := signedName(signed)
	if !ok {
		return fail(stageName, "its signature by key %s is for %q, which is not a name of a repository", key.Fingerprint, clip(signed))
	}
	if name.Repository() != asked.Repository() {
		return fail(stageName, "its signature by key %s is for repository %q, not for %q", key.Fingerprint, name.Repository(), asked.Repository())
	}
	if name.Digest != "" && name.Digest != j.subject.Manifest && name.Digest != j.subject.Index {
		return fail(stageName, "its signature by key %s is for %s, not for %s", key.Fingerprint, name.Digest, j.subject.Manifest)
	}
	if tagged && asked.Digest == "" && name.Tag != asked.Tag {
		return fail(stageName, "its signature by key %s is for tag %q, not for %q; ask for that tag, or for the image by its digest", key.Fingerprint, name.Tag, asked.Tag)
	}
	return nil
}

// signedName reads a docker-reference. A name without tag has none here, where
// Parse would say "latest".
func signedName(text string) (name reference.Reference, tagged, ok bool) {
	name, err := reference.Parse(text)
	if err != nil || name.IsLocal() || strings.HasPrefix(text, "docker:") {
		return reference.Reference{}, false, false
	}
	withoutDigest, _, _ := strings.Cut(text, "@")
	return name, strings.HasSuffix(withoutDigest, ":"+name.Tag) && name.Tag != "", true
}
