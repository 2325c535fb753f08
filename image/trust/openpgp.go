package trust

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	armorStart   = "-----BEGIN PGP "
	signatureEnd = "PGP SIGNATURE"
	maxEntities  = 64
	maxPackets   = 16 // signatures in one message or file
	maxFiltered  = 512 << 10
)

// readOpenPGP reads the public keys of a file, armored or not.
func readOpenPGP(data []byte) ([]Key, error) {
	body, err := unarmor(data, openpgp.PublicKeyType)
	if err != nil {
		return nil, err
	}
	entities, err := openpgp.ReadKeyRing(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("it is not an OpenPGP public key that can be used: %w", plain(err))
	}
	if len(entities) == 0 || len(entities) > maxEntities {
		return nil, fmt.Errorf("it holds %d OpenPGP keys, allowed are 1 to %d", len(entities), maxEntities)
	}
	var keys []Key
	for _, e := range entities {
		if e.PrivateKey != nil {
			return nil, fmt.Errorf("it holds a private key; give the public one, as 'gpg --export --armor' writes it")
		}
		keys = append(keys, describeEntity(e))
	}
	return keys, nil
}

// unarmor returns the packets in a file that may be armored.
func unarmor(data []byte, kind string) ([]byte, error) {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0]&0x80 != 0 {
		return data, nil
	}
	if n := bytes.Count(data, []byte(armorStart)); n != 1 {
		return nil, fmt.Errorf("it has %d armored blocks, there must be one", n)
	}
	block, err := armor.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("its armor is cut off or garbled: %w", plain(err))
	}
	if block.Type != kind {
		return nil, fmt.Errorf("it is a %q, not a %q", clip(block.Type), kind)
	}
	body, err := io.ReadAll(io.LimitReader(block.Body, maxFile))
	if err != nil {
		return nil, fmt.Errorf("its armor is cut off or garbled: %w", plain(err))
	}
	return body, nil
}

// plain words the library's bare io.EOF.
func plain(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too early")
	}
	return err
}

func fingerprint(pk *packet.PublicKey) string { return fmt.Sprintf("%X", pk.Fingerprint) }

func describeEntity(e *openpgp.Entity) Key {
	k := Key{
		Type: OpenPGP, Fingerprint: fingerprint(e.PrimaryKey), Algorithm: algorithmOf(e.PrimaryKey),
		Created: e.PrimaryKey.CreationTime, Revoked: revoked(e), entity: e,
	}
	for name := range e.Identities {
		k.Identities = append(k.Identities, name)
	}
	sort.Strings(k.Identities)
	if self := selfSignature(e); self != nil {
		k.Expires = expiry(e.PrimaryKey, self)
	}
	for _, sub := range e.Subkeys {
		if sub.Sig.FlagsValid && sub.Sig.FlagSign {
			k.Subkeys = append(k.Subkeys, fingerprint(sub.PublicKey))
		}
	}
	return k
}

func algorithmOf(pk *packet.PublicKey) string {
	switch pk.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		bits, _ := pk.BitLength() // 0 if it cannot tell, which is too short too
		return fmt.Sprintf("RSA %d", bits)
	case packet.PubKeyAlgoDSA:
		return "DSA"
	case packet.PubKeyAlgoECDSA:
		curve, _ := pk.Curve()
		return fmt.Sprintf("ECDSA %s", curve)
	case packet.PubKeyAlgoEdDSA:
		if curve, _ := pk.Curve(); curve == packet.Curve448 {
			return "Ed448"
		}
		return "Ed25519"
	case packet.PubKeyAlgoEd25519:
		return "Ed25519"
	case packet.PubKeyAlgoEd448:
		return "Ed448"
	}
	return fmt.Sprintf("OpenPGP algorithm %d", pk.PubKeyAlgo)
}

// selfSignature is the newest statement of a key about itself; of equally new
// ones that which lets it expire first, so that the order of a file's user IDs
// decides nothing.
func selfSignature(e *openpgp.Entity) *packet.Signature {
	if e.PrimaryKey.Version >= 6 {
		return e.SelfSignature
	}
	var newest *packet.Signature
	for _, id := range e.Identities {
		sig := id.SelfSignature
		if sig == nil || len(id.Revocations) > 0 {
			continue
		}
		switch {
		case newest == nil, sig.CreationTime.After(newest.CreationTime):
			newest = sig
		case sig.CreationTime.Equal(newest.CreationTime):
			a, b := expiry(e.PrimaryKey, sig), expiry(e.PrimaryKey, newest)
			if b.IsZero() || !a.IsZero() && a.Before(b) {
				newest = sig
			}
		}
	}
	return newest
}

// revoked: a revocation holds whatever its date and reason says. A key whose
// every user ID is revoked has nothing left to be known by.
func revoked(e *openpgp.Entity) bool {
	return len(e.Revocations) > 0 || e.PrimaryKey.Version < 6 && selfSignature(e) == nil
}

// expiry is when a key ends by a self-signature; zero is never.
func expiry(pk *packet.PublicKey, self *packet.Signature) time.Time {
	if self.KeyLifetimeSecs == nil || *self.KeyLifetimeSecs == 0 {
		return time.Time{}
	}
	return pk.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second)
}

// hashName names the hashes that a signature may use. SHA-1, MD5 and RIPEMD
// have collisions or are near it, the others hardly occur.
func hashName(h crypto.Hash) (string, bool) {
	switch h {
	case crypto.SHA256:
		return "sha256", true
	case crypto.SHA384:
		return "sha384", true
	case crypto.SHA512:
		return "sha512", true
	}
	return h.String(), false
}

// signer is the primary key or signing subkey of an entity that a signature
// claims to be made by.
type signer struct {
	entity *openpgp.Entity
	public *packet.PublicKey
	self   *packet.Signature // what says that public may sign
	subkey *openpgp.Subkey   // nil for the primary key
}

func findSigner(e *openpgp.Entity, sig *packet.Signature) (signer, bool) {
	if sig.CheckKeyIdOrFingerprint(e.PrimaryKey) {
		return signer{entity: e, public: e.PrimaryKey, self: selfSignature(e)}, true
	}
	for i := range e.Subkeys {
		if sub := &e.Subkeys[i]; sig.CheckKeyIdOrFingerprint(sub.PublicKey) {
			return signer{e, sub.PublicKey, sub.Sig, sub}, true
		}
	}
	return signer{}, false
}

// checkOpenPGP judges the signature packets over one content. about judges
// what was signed, once a signature over it is known to be the key's.
func (j *judge) checkOpenPGP(key Key, item Evidence, sigs []*packet.Signature, content func(*packet.Signature) (hash.Hash, error), about func() *failure) *failure {
	var worst *failure
	for _, sig := range sigs {
		f := j.checkOne(key, item, sig, content)
		if f == nil {
			f = about()
		}
		if f == nil {
			s, _ := findSigner(key.entity, sig)
			if err := s.mayVouch(sig, j.now); err != nil {
				f = fail(stageKey, "its signature is good, but %w", err)
			}
		}
		if f == nil {
			return nil
		}
		worst = further(worst, f)
	}
	if worst == nil {
		return garbled("its OpenPGP signature is cut off: it has no signature packet")
	}
	return worst
}

// checkOne finds out whether the key made this signature over this content.
func (j *judge) checkOne(key Key, item Evidence, sig *packet.Signature, content func(*packet.Signature) (hash.Hash, error)) *failure {
	s, ok := findSigner(key.entity, sig)
	if !ok {
		return j.otherSigner(item, sig)
	}
	if sig.SigType != packet.SigTypeBinary {
		return garbled("its OpenPGP signature is of type 0x%02x, only signatures over bytes (0x00) vouch", int(sig.SigType))
	}
	if name, strong := hashName(sig.Hash); !strong {
		return fail(stageKey, "its OpenPGP signature uses the hash %s, which is too weak or unknown; have it signed again with SHA-256, SHA-384 or SHA-512", name)
	}
	h, err := content(sig)
	if err != nil {
		return garbled("its OpenPGP signature cannot be verified: %w", err)
	}
	if err := s.public.VerifySignature(h, sig); err != nil {
		return fail(stageOtherKey, "its signature claims to be by OpenPGP key %s but does not verify: the signature or what it signs was altered", fingerprint(s.public))
	}
	return nil
}

func (j *judge) otherSigner(item Evidence, sig *packet.Signature) *failure {
	claimed := "an unnamed key"
	switch {
	case len(sig.IssuerFingerprint) > 0:
		claimed = fmt.Sprintf("OpenPGP key %X", sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		claimed = fmt.Sprintf("OpenPGP key %016X", *sig.IssuerKeyId)
	}
	known := j.fingerprints(OpenPGP)
	if item.Key != "" && !slices.Contains(known, item.Key) {
		return fail(stageOtherKey, "OpenPGP key %s, which vouched for it when it was fetched, is no longer in the rule", item.Key)
	}
	return fail(stageOtherKey, "its signature was made by %s, which is not a key of the rule (%s); to trust that one run %s", claimed, strings.Join(known, ", "), j.subject.trustKey())
}

// mayVouch judges the key of a signature that verified. Its errors start with
// the key that is at fault.
func (s signer) mayVouch(sig *packet.Signature, now time.Time) error {
	name := fingerprint(s.public)
	primary := selfSignature(s.entity)
	if len(s.entity.Revocations) > 0 || s.subkey != nil && len(s.subkey.Revocations) > 0 || primary == nil {
		return fmt.Errorf("OpenPGP key %s is revoked: its owner took it back; have the image signed by another key", name)
	}
	if err := s.strong(sig, primary); err != nil {
		return err
	}
	if !s.self.FlagsValid || !s.self.FlagSign {
		return fmt.Errorf("OpenPGP key %s is not meant for signing", name)
	}
	for _, k := range [...]struct {
		public *packet.PublicKey
		self   *packet.Signature
	}{{s.entity.PrimaryKey, primary}, {s.public, s.self}} {
		if k.public.CreationTime.After(now) {
			return fmt.Errorf("OpenPGP key %s was made on %s and the clock says %s; check the clock", fingerprint(k.public), day(k.public.CreationTime), day(now))
		}
		if end := expiry(k.public, k.self); !end.IsZero() && !now.Before(end) {
			return fmt.Errorf("OpenPGP key %s expired on %s; get the renewed key from its owner and run 'rkt trust' with it, or have the image signed by another", fingerprint(k.public), day(end))
		}
	}
	for _, check := range s.selfSignatures(sig, primary) {
		if check.SigLifetimeSecs == nil || *check.SigLifetimeSecs == 0 {
			continue
		}
		end := check.CreationTime.Add(time.Duration(*check.SigLifetimeSecs) * time.Second)
		if !now.Before(end) {
			return fmt.Errorf("OpenPGP key %s made the signature so that it expired on %s; have the image signed again", name, day(end))
		}
	}
	return nil
}

// usable finds out whether the key or one of its subkeys could vouch now.
func usable(e *openpgp.Entity, now time.Time) error {
	self := selfSignature(e)
	candidates := []signer{{entity: e, public: e.PrimaryKey, self: self}}
	for i := range e.Subkeys {
		sub := &e.Subkeys[i]
		if sub.Sig.FlagsValid && sub.Sig.FlagSign {
			candidates = append(candidates, signer{e, sub.PublicKey, sub.Sig, sub})
		}
	}
	var err error
	for _, c := range candidates {
		// Of a key that only certifies, the subkeys' problem is the one to tell.
		if problem := c.mayVouch(c.self, now); problem == nil {
			return nil
		} else if err == nil || c.subkey != nil {
			err = problem
		}
	}
	return err
}

// selfSignatures lists all that the verdict about a signature leans on.
func (s signer) selfSignatures(sig, primary *packet.Signature) []*packet.Signature {
	all := []*packet.Signature{sig, primary}
	if s.subkey != nil {
		all = append(all, s.self)
		if s.self.EmbeddedSignature != nil {
			all = append(all, s.self.EmbeddedSignature)
		}
	}
	return all
}

// strong refuses keys and signatures that could have been forged, and what is
// marked critical and not understood.
func (s signer) strong(sig, primary *packet.Signature) error {
	name := fingerprint(s.public)
	for _, check := range s.selfSignatures(sig, primary) {
		if hash, ok := hashName(check.Hash); !ok {
			return fmt.Errorf("OpenPGP key %s has a self-signature with the hash %s, which is too weak or unknown; its owner must renew it (gpg --quick-set-expire does) and send the key again", name, hash)
		}
		for _, n := range check.Notations {
			if n.IsCritical {
				return fmt.Errorf("OpenPGP key %s made a signature with the critical notation %q, which rkt does not know", name, clip(n.Name))
			}
		}
	}
	if s.subkey != nil && s.self.EmbeddedSignature == nil {
		return fmt.Errorf("OpenPGP subkey %s did not confirm that it belongs to key %s", name, fingerprint(s.entity.PrimaryKey))
	}
	for _, pk := range [...]*packet.PublicKey{s.entity.PrimaryKey, s.public} {
		switch pk.PubKeyAlgo {
		case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
			if bits, err := pk.BitLength(); err != nil || bits < minRSA {
				return fmt.Errorf("OpenPGP key %s is an RSA key of %d bits, allowed are %d and more", fingerprint(pk), bits, minRSA)
			}
		case packet.PubKeyAlgoDSA:
			return fmt.Errorf("OpenPGP key %s is a DSA key, which is too weak; have the image signed by another", fingerprint(pk))
		}
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// verifySigned judges a simple-signing message: content and signature in one.
func (j *judge) verifySigned(key Key, item Evidence) *failure {
	payload, sigs, err := readSigned(item.Signature)
	if err != nil {
		return garbled("its OpenPGP signature cannot be read: %w", err)
	}
	content := func(sig *packet.Signature) (hash.Hash, error) {
		h, err := sig.PrepareVerify()
		if err == nil {
			_, err = h.Write(payload)
		}
		return h, err
	}
	return j.checkOpenPGP(key, item, sigs, content, func() *failure {
		return j.checkSimple(key, payload, atomicType)
	})
}

// readSigned reads a signed OpenPGP message, compressed or not, and verifies
// nothing. Encrypted and nested messages are refused.
func readSigned(data []byte) ([]byte, []*packet.Signature, error) {
	packets := packet.NewReader(bytes.NewReader(data))
	var payload []byte
	var sigs []*packet.Signature
	compressed := false
	for n := 0; n < 4*maxPackets; n++ {
		p, err := packets.Next()
		switch {
		case errors.Is(err, io.EOF) && payload == nil:
			return nil, nil, errors.New("it is cut off: it has no content")
		case errors.Is(err, io.EOF):
			return payload, sigs, nil
		case err != nil:
			return nil, nil, fmt.Errorf("it is cut off or garbled: %w", plain(err))
		}
		switch p := p.(type) {
		case *packet.Compressed:
			if compressed || payload != nil {
				return nil, nil, errors.New("it is compressed twice")
			}
			compressed = true
			if err := packets.Push(io.LimitReader(p.Body, maxFiltered)); err != nil {
				return nil, nil, err
			}
		case *packet.OnePassSignature:
		case *packet.LiteralData:
			if payload != nil {
				return nil, nil, errors.New("it has more than one content")
			}
			payload, err = io.ReadAll(io.LimitReader(p.Body, maxSimple+1))
			if err != nil {
				return nil, nil, fmt.Errorf("it is cut off or garbled: %w", plain(err))
			}
			if len(payload) > maxSimple {
				return nil, nil, fmt.Errorf("its content is longer than %d bytes", maxSimple)
			}
			if payload == nil {
				payload = []byte{}
			}
		case *packet.Signature:
			sigs = append(sigs, p)
		default:
			return nil, nil, errors.New("it is not a signed message")
		}
	}
	return nil, nil, fmt.Errorf("it has more than %d parts", 4*maxPackets)
}

// readDetached reads the signature packets of a detached signature.
func readDetached(data []byte) ([]*packet.Signature, error) {
	body, err := unarmor(data, signatureEnd)
	if err != nil {
		return nil, err
	}
	packets := packet.NewReader(bytes.NewReader(body))
	var sigs []*packet.Signature
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is cut off or garbled: %w", plain(err))
		}
		sig, ok := p.(*packet.Signature)
		if !ok {
			return nil, errors.New("it is not a detached signature")
		}
		if sigs = append(sigs, sig); len(sigs) > maxPackets {
			return nil, fmt.Errorf("it has more than %d signatures", maxPackets)
		}
	}
	if len(sigs) == 0 {
		return nil, errors.New("it has no signature in it")
	}
	return sigs, nil
}

// verifyDetached judges a detached signature over an archive by the hash that
// was kept of it.
func (j *judge) verifyDetached(key Key, item Evidence) *failure {
	sigs, err := readDetached(item.Signature)
	if err != nil {
		return garbled("its detached OpenPGP signature cannot be read: %w", err)
	}
	if f := j.checkArchive(item); f != nil {
		return f
	}
	content := func(sig *packet.Signature) (hash.Hash, error) {
		return item.Archive.resume(sig.Hash, sig.Salt())
	}
	return j.checkOpenPGP(key, item, sigs, content, func() *failure {
		return j.checkUnnamedArchive(key)
	})
}
