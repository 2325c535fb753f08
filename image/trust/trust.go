// Package trust decides whether an image may run: it evaluates the ordered
// rules of the trust policy over the evidence (signatures) that was kept when
// the image was fetched.
//
// It never touches the network, reads only policy and key files, and never
// asks anybody: what it cannot verify is refused. Trust on every start means
// that a decision is not kept: evidence is, and the policy of today judges it.
//
// What each format proves is in Documentation/images-and-trust.md. Formats:
// cosign's https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md,
// https://docs.sigstore.dev/about/bundle/, OpenPGP simple signing
// https://github.com/containers/image/blob/main/docs/containers-signature.5.md.
package trust

import (
	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/reference"
)

// Subject is the image that is judged.
type Subject struct {
	// Ref is the name that was asked for. Signatures must be for its
	// repository, and for its tag if they name one.
	Ref reference.Reference
	// Manifest is the digest of the manifest that would run.
	Manifest digest.Digest
	// Index is the image index that Manifest was chosen from, or "". A
	// signature of the index counts when IndexBody has that digest and lists
	// Manifest.
	Index     digest.Digest
	IndexBody []byte
}

// Decision is the policy's answer and its reasons.
type Decision struct {
	Trusted  bool
	Unsigned bool     // trusted by a rule that accepts unsigned images
	Rule     string   // the rule that decided, FILE#N, or "" when none matched
	Keys     []string // fingerprints of the keys that vouch for the image
	Steps    []string // the explanation, rule by rule and key by key
	Err      error    // why not: one sentence with the next step; nil when Trusted

	verified map[int]string // item of evidence -> fingerprint
}

// Record notes in a copy of the evidence which keys verified it, so that a
// later refusal can say that a key was taken out of the policy since.
func (d Decision) Record(items []Evidence) []Evidence {
	noted := make([]Evidence, len(items))
	copy(noted, items)
	for i, key := range d.verified {
		noted[i].Key = key
	}
	return noted
}
