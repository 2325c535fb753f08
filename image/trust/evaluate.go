package trust

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// stage is how far a signature came before it failed. Of several signatures
// the one that came furthest explains a refusal best.
type stage int

const (
	stageNone     stage = iota // there is no signature
	stageFormat                // none is of a kind that the rule's keys make
	stageGarbled               // it cannot be read
	stageOtherKey              // another key made it, or it does not verify
	stageDigest                // a good signature, of another image
	stageName                  // of another repository or tag
	stageKey                   // right in everything, but the key must not vouch any more
)

// failure says why one key and one signature do not vouch for the image. It
// continues the sentence "image X is not trusted: ".
type failure struct {
	stage stage
	err   error
}

func fail(s stage, format string, args ...any) *failure {
	return &failure{s, fmt.Errorf(format, args...)}
}

func garbled(format string, args ...any) *failure { return fail(stageGarbled, format, args...) }

// further keeps the failure that came further, the earlier one of equals.
func further(a, b *failure) *failure {
	if a == nil || b != nil && b.stage > a.stage {
		return b
	}
	return a
}

// judge is one rule at work on one image.
type judge struct {
	policy  *Policy
	rule    rule
	subject Subject
	now     time.Time

	keys      [][]Key // of each key of the rule, nil when it cannot be read
	broken    []error // why not
	indexRead bool
	indexErr  error
}

// Evaluate asks the rules in their order; the first that matches the
// repository decides, and when none does the image is refused. It reads no
// clock and no network, and costs a few signature verifications at most.
func (p *Policy) Evaluate(s Subject, items []Evidence, now time.Time) Decision {
	var d Decision
	if err := s.check(); err != nil {
		d.Err = fmt.Errorf("image %q is not trusted: %w", s.Ref, err)
		return d
	}
	repository := s.Ref.Repository()
	segments := strings.Split(repository, "/")
	for _, r := range p.rules {
		matched, ok := r.match(segments)
		if !ok {
			d.explain("rule %s: does not match, it is for %s", r.name, r.matchText())
			continue
		}
		d.Rule = r.name
		switch r.verdict {
		case rejectImage:
			d.explain("rule %s: matches by %q and rejects", r.name, matched.text)
			d.Err = fmt.Errorf("image %q is not trusted: rule %s rejects everything of %q", s.Ref, r.name, matched.text)
		case acceptUnsigned:
			d.explain("rule %s: matches by %q and accepts unsigned images", r.name, matched.text)
			d.Trusted, d.Unsigned = true, true
		default:
			d.explain("rule %s: matches by %q and wants %s", r.name, matched.text, r.wants())
			j := &judge{policy: p, rule: r, subject: s, now: now}
			j.decide(&d, items)
		}
		return d
	}
	why := "no rule of the trust policy matches it"
	d.explain("%s", why)
	if len(items) == 0 {
		why = "it has no signature and " + why
	}
	if key := lastKey(items); key != "" {
		why += fmt.Sprintf(" any more, key %s vouched for it when it was fetched", key)
	}
	d.Err = fmt.Errorf("image %q is not trusted: %s; trust the key of who made it with %s, or %s", s.Ref, why, s.trustKey(), atRisk)
	return d
}

func (s Subject) check() error {
	for _, d := range [...]digest.Digest{s.Manifest, s.Index} {
		if d != "" && digestBytes(d) == nil {
			return fmt.Errorf("its digest %q is not a sha256 digest", clip(string(d)))
		}
	}
	if s.Manifest == "" {
		return errors.New("its manifest digest is not known")
	}
	if asked := s.Ref.Digest; asked != "" && asked.Algorithm() == digest.SHA256 && asked != s.Manifest && asked != s.Index {
		return fmt.Errorf("its digest is %s", s.Manifest)
	}
	return nil
}

// trustKey is the command that makes a key vouch for the image.
func (s Subject) trustKey() string {
	return fmt.Sprintf("'rkt trust --prefix=%s KEYFILE'", s.Ref.Repository())
}

// atRisk is the way without verification, and what it gives up.
const atRisk = "give --insecure-options=image to run it unverified, at the risk that anybody may have made or altered it"

func (d *Decision) explain(format string, args ...any) {
	d.Steps = append(d.Steps, fmt.Sprintf(format, args...))
}

func lastKey(items []Evidence) string {
	for _, item := range items {
		if item.Key != "" {
			return item.Key
		}
	}
	return ""
}

func (r rule) wants() string {
	switch {
	case len(r.keys) == 0:
		return "a key, but has none left"
	case len(r.keys) == 1:
		return "a signature by its key"
	case r.all:
		return fmt.Sprintf("signatures by all of its %d keys", len(r.keys))
	}
	return fmt.Sprintf("a signature by any of its %d keys", len(r.keys))
}

// decide asks every key of the rule until the verdict is known.
func (j *judge) decide(d *Decision, items []Evidence) {
	j.loadKeys()
	var worst *failure
	for i := range j.rule.keys {
		index, fingerprint, f := j.ask(d, i, items)
		if f == nil {
			d.Keys = append(d.Keys, fingerprint)
			if d.verified == nil {
				d.verified = map[int]string{}
			}
			d.verified[index] = fingerprint
			if !j.rule.all {
				break
			}
			continue
		}
		worst = further(worst, f)
		if j.rule.all {
			break
		}
	}
	enough := len(d.Keys) > 0
	if j.rule.all {
		enough = len(j.rule.keys) > 0 && len(d.Keys) == len(j.rule.keys)
	}
	if enough {
		d.Trusted = true
		d.explain("rule %s: trusted", j.rule.name)
		return
	}
	if worst == nil {
		worst = fail(stageNone, "the rule has no keys left, so it refuses everything; trust one with %s", j.subject.trustKey())
	}
	d.Keys, d.verified = nil, nil
	d.Err = fmt.Errorf("image %q is not trusted by rule %s: %w", j.subject.Ref, j.rule.name, worst.err)
	d.explain("rule %s: not trusted: %v", j.rule.name, worst.err)
}

func (j *judge) loadKeys() {
	for _, spec := range j.rule.keys {
		keys, err := spec.load(j.rule.file)
		j.keys = append(j.keys, keys)
		j.broken = append(j.broken, err)
	}
}

// fingerprints lists the keys of a type that the rule has and could read.
func (j *judge) fingerprints(kind string) []string {
	var all []string
	for _, keys := range j.keys {
		for _, key := range keys {
			if key.Type == kind {
				all = append(all, key.Fingerprint)
			}
		}
	}
	return all
}

// ask looks for a signature by the rule's key number i. It returns the item
// that verified and the key's fingerprint, or the best reason against it.
func (j *judge) ask(d *Decision, i int, items []Evidence) (int, string, *failure) {
	spec := j.rule.keys[i]
	if err := j.broken[i]; err != nil {
		d.explain("  %s %v", spec.Type, err)
		return 0, "", fail(stageOtherKey, "%s %w; put the key back or take it out of the rule", spec.Type, err)
	}
	var worst *failure
	for _, key := range j.keys[i] {
		label := fmt.Sprintf("  %s key %s", key.Type, key.Fingerprint)
		for n, item := range items {
			if !key.makes(item.Format) {
				continue
			}
			f := j.verify(key, item)
			if f == nil {
				d.explain("%s: signature %d (%s) is good", label, n+1, item.Format)
				return n, key.Fingerprint, nil
			}
			d.explain("%s: signature %d (%s): %v", label, n+1, item.Format, f.err)
			worst = further(worst, f)
		}
	}
	if worst == nil {
		worst = j.nothingBy(spec.Type, items)
		d.explain("  %s key %s: %v", spec.Type, j.keys[i][0].Fingerprint, worst.err)
	}
	return 0, "", worst
}

func (k Key) makes(f Format) bool {
	openpgp := f == OpenPGPSimple || f == OpenPGPDetached
	return openpgp == (k.Type == OpenPGP)
}

func (j *judge) nothingBy(kind string, items []Evidence) *failure {
	if len(items) == 0 {
		return fail(stageNone, "it has no signature; have it signed by a key of the rule, trust another key with %s, or %s", j.subject.trustKey(), atRisk)
	}
	if key := lastKey(items); key != "" && !slices.Contains(append(j.fingerprints(Cosign), j.fingerprints(OpenPGP)...), key) {
		return fail(stageOtherKey, "key %s, which vouched for it when it was fetched, is no longer in the rule", key)
	}
	var formats []string
	for _, item := range items {
		if format := string(item.Format); !slices.Contains(formats, format) {
			formats = append(formats, format)
		}
	}
	return fail(stageFormat, "it has no signature that %s keys make, only %s; have it signed by a key of the rule", kind, strings.Join(formats, ", "))
}

func (j *judge) verify(key Key, item Evidence) *failure {
	if item.size() > MaxItem {
		return garbled("its signature has %d bytes, more than %d are not read", item.size(), MaxItem)
	}
	if len(item.Signature) == 0 {
		return garbled("its signature is cut off: it is empty")
	}
	switch item.Format {
	case CosignSimple:
		return j.verifyCosign(key, item)
	case SigstoreBundle:
		return j.verifyBundle(key, item)
	case OpenPGPSimple:
		return j.verifySigned(key, item)
	case OpenPGPDetached:
		return j.verifyDetached(key, item)
	}
	return garbled("its signature has the unknown format %q", clip(string(item.Format)))
}

// otherKey is the failure of a signature that the key did not make. Raw
// signatures do not tell who made them, so an altered one looks the same.
func (j *judge) otherKey(item Evidence) *failure {
	keys := j.fingerprints(Cosign)
	if item.Key != "" && !slices.Contains(keys, item.Key) {
		return fail(stageOtherKey, "key %s, which vouched for it when it was fetched, is no longer in the rule", item.Key)
	}
	return fail(stageOtherKey, "its signature was not made by a key of the rule (%s), or it was altered; to trust another key run %s", strings.Join(keys, ", "), j.subject.trustKey())
}

// unnamed judges a good signature that names no repository. It vouches only
// where the policy itself ties the key to one repository: by a rule for exactly
// that one, with a key that no rule has for anything else.
func (j *judge) unnamed(key Key, what string) *failure {
	repository := j.subject.Ref.Repository()
	remedy := fmt.Sprintf("have it signed with 'cosign sign -a %s=%s …'", nameAnnotation, repository)
	if key.Type == OpenPGP {
		remedy = "have it signed with 'skopeo copy --sign-by'"
	}
	if _, one := j.rule.onlyRepository(); !one {
		return fail(stageName, "%s by key %s names no repository and this rule is for more than one, so it could be a replay from another; %s, or, if the key signs nothing but %s, take it out of this rule and trust it with 'rkt trust --repository=%s KEYFILE'", what, key.Fingerprint, remedy, repository, repository)
	}
	if other, shared := j.policy.sharedWith(key, repository); shared {
		return fail(stageName, "%s by key %s names no repository and rule %s trusts the same key for others, so it could be a replay from one of them; %s", what, key.Fingerprint, other, remedy)
	}
	return nil
}

// sharedWith finds a rule that trusts the key for more than one repository or
// another one. A key that cannot be read vouches for nothing anywhere.
func (p *Policy) sharedWith(key Key, repository string) (string, bool) {
	for _, r := range p.rules {
		if only, one := r.onlyRepository(); one && only == repository {
			continue
		}
		for _, spec := range r.keys {
			keys, err := spec.load(r.file)
			if err != nil || spec.Type != key.Type {
				continue
			}
			for _, k := range keys {
				if k.Fingerprint == key.Fingerprint {
					return r.name, true
				}
			}
		}
	}
	return "", false
}

// digests are those that a signature may be of.
func (j *judge) digests() []digest.Digest {
	all := []digest.Digest{j.subject.Manifest}
	if j.subject.Index != "" && j.indexLists() == nil {
		all = append(all, j.subject.Index)
	}
	return all
}

// indexLists verifies that the signed index is the one at hand and that the
// manifest was chosen from it.
func (j *judge) indexLists() error {
	if !j.indexRead {
		j.indexRead, j.indexErr = true, j.subject.indexLists()
	}
	return j.indexErr
}

func (s Subject) indexLists() error {
	if digest.SHA256.FromBytes(s.IndexBody) != s.Index {
		return errors.New("the index at hand has another digest")
	}
	var index struct {
		Manifests []struct {
			Digest digest.Digest `json:"digest"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(s.IndexBody, &index); err != nil {
		return errors.New("that index is not JSON")
	}
	for _, m := range index.Manifests {
		if m.Digest == s.Manifest {
			return nil
		}
	}
	return fmt.Errorf("that index does not list the manifest %s", s.Manifest)
}

// digestBytes decodes a sha256 digest; nil when it is none.
func digestBytes(d digest.Digest) []byte {
	text, ok := strings.CutPrefix(string(d), "sha256:")
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != 32 || strings.ToLower(text) != text {
		return nil
	}
	return raw
}
