package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestEvidenceRoundTrip(t *testing.T) {
	state := &Archive{Digest: digest.FromString("a"), Hashes: []HashState{{Hash: "sha256", State: []byte{1}}}}
	for name, items := range map[string][]Evidence{
		"none": {},
		"all": {
			{Format: CosignSimple, Subject: digest.FromString("x"), Payload: []byte("{}"), Signature: []byte("c2ln"), Key: "sha256:12"},
			{Format: SigstoreBundle, Subject: digest.FromString("x"), Signature: []byte("{}")},
			{Format: OpenPGPSimple, Subject: digest.FromString("x"), Signature: []byte{0xff, 0}},
			{Format: OpenPGPDetached, Subject: digest.FromString("x"), Signature: []byte("-----"), Archive: state},
		},
	} {
		data, err := Marshal(items)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unmarshal(data)
		if err != nil || !reflect.DeepEqual(got, items) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestEvidenceEmpty(t *testing.T) {
	data, err := Marshal([]Evidence{{Format: OpenPGPSimple}})
	if err != nil {
		t.Fatal(err)
	}
	if items, err := Unmarshal(data); err != nil || len(items) != 1 || len(items[0].Signature) != 0 {
		t.Errorf("an empty signature comes back as %+v, %v", items, err)
	}
}

func TestEvidenceLimits(t *testing.T) {
	item := Evidence{Format: SigstoreBundle, Signature: []byte("{}")}
	for reason, items := range map[string][]Evidence{
		"65 signatures, more than 64":    make([]Evidence, MaxItems+1),
		`format "" is unknown`:           {{}},
		"more than 1048576":              {item, {Format: OpenPGPSimple, Signature: make([]byte, MaxItem+1)}},
		"more than 4194304 are not kept": {large(), large(), large(), large()},
		"needs the state of the archive": {{Format: OpenPGPDetached}},
	} {
		data, err := Marshal(items)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("Marshal gives %d bytes, %v, want an error with %q", len(data), err, reason)
		}
	}
	for text, reason := range map[string]string{
		"":    "it ends before",
		"{}":  "of kind \"\"",
		"[1]": "must not be one",
		`{"rktKind":"evidence","rktVersion":"v1","items":[{"format":"x"}]}`:                                `format "x" is unknown`,
		`{"rktKind":"evidence","rktVersion":"v1","items":[{"format":"sigstore-bundle","key":"a\u001b["}]}`: "is not a fingerprint",
		`{"rktKind":"evidence","rktVersion":"v2","items":[]}`:                                              "fetch the image again",
		`{"rktKind":"evidence","rktVersion":"v1","items":[{"format":"sigstore-bundle","extra":1}]}`:        `field "items[0].extra" is unknown`,
		`{"rktKind":"evidence","rktVersion":"v1","items":[{"format":"cosign-simple","payload":"*"}]}`:      "base64",
		strings.Repeat(" ", MaxEvidence+1):                                                                 "more than",
	} {
		if got, err := Unmarshal([]byte(text)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.80s: %+v, %v, want an error with %q", text, got, err, reason)
		}
	}
}

func large() Evidence {
	return Evidence{Format: SigstoreBundle, Signature: bytes.Repeat([]byte("x"), MaxItem)}
}

// TestDamaged takes good signatures, damages them, and expects that each
// kind of damage is told.
func TestDamaged(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	flip := func(data []byte, at int) []byte {
		data = bytes.Clone(data)
		data[at] ^= 1
		return data
	}
	for _, c := range []struct {
		name, evidence, key, match, asked, reason string
		damage                                    func(e *Evidence)
	}{
		{"payload altered", "cosign2-default", "cosign-default.pub", teamRule, teamImage, "or it was altered", func(e *Evidence) { e.Payload = flip(e.Payload, 50) }},
		{"signature altered", "cosign2-default", "cosign-default.pub", teamRule, teamImage, "or it was altered", func(e *Evidence) { e.Signature = bytes.Replace(e.Signature, []byte("M"), []byte("N"), 1) }},
		{"signature cut off", "cosign2-default", "cosign-default.pub", teamRule, teamImage, "is not base64", func(e *Evidence) { e.Signature = e.Signature[:41] }},
		{"signature shortened", "cosign2-default", "cosign-default.pub", teamRule, teamImage, "or it was altered", func(e *Evidence) { e.Signature = e.Signature[:40] }},
		{"signature empty", "cosign2-default", "cosign-default.pub", teamRule, teamImage, "it is empty", func(e *Evidence) { e.Signature = nil }},
		{"payload oversized", "cosign2-default", "cosign-default.pub", teamRule, teamImage, "more than 262144", func(e *Evidence) { e.Payload = make([]byte, maxSimple+1) }},
		{"item oversized", "cosign3-named", "cosign-default.pub", teamRule, teamImage, "are not read", func(e *Evidence) { e.Signature = make([]byte, MaxItem+1) }},
		{"bundle cut off", "cosign3-named", "cosign-default.pub", teamRule, teamImage, "cut off or garbled", func(e *Evidence) { e.Signature = e.Signature[:200] }},
		{"bundle of another kind", "cosign3-named", "cosign-default.pub", teamRule, teamImage, "its media type is", func(e *Evidence) { e.Signature = []byte(`{"mediaType":"text/plain"}`) }},
		{"bundle empty", "cosign3-named", "cosign-default.pub", teamRule, teamImage, "either a DSSE envelope or", func(e *Evidence) { e.Signature = []byte(`{"mediaType":"` + bundlePrefix + `.v0.3+json"}`) }},
		{"bundle of a blob's signature missing", "cosign3-named", "cosign-default.pub", teamRule, teamImage, "is not base64", func(e *Evidence) {
			e.Signature = []byte(`{"mediaType":"` + bundlePrefix + `.v0.3+json","messageSignature":{"messageDigest":{"algorithm":"SHA2_256"}}}`)
		}},
		{"envelope of another kind", "cosign3-named", "cosign-default.pub", teamRule, teamImage, "not an in-toto statement", func(e *Evidence) {
			e.Signature = bytes.Replace(e.Signature, []byte("in-toto+json"), []byte("other"), 1)
		}},
		{"message cut off", "simple-rsa", "openpgp-rsa.asc", teamRule, teamImage, "cut off", func(e *Evidence) { e.Signature = e.Signature[:300] }},
		{"message garbled", "simple-rsa", "openpgp-rsa.asc", teamRule, teamImage, "cannot be read", func(e *Evidence) { e.Signature = []byte("no packets at all") }},
		{"detached cut off", "archive-binary.sig", "openpgp-rsa.asc", localRule, localName, "cut off", func(e *Evidence) { e.Signature = e.Signature[:100] }},
		{"detached altered", "archive-binary.sig", "openpgp-rsa.asc", localRule, localName, "does not verify", func(e *Evidence) { e.Signature = flip(e.Signature, len(e.Signature)-9) }},
		{"archive altered", "archive-sha512.asc", "openpgp-rsa.asc", localRule, localName, "does not verify", func(e *Evidence) { e.Archive = otherArchive(t, e.Signature) }},
		{"archive swapped in part", "archive-rsa.asc", "openpgp-rsa.asc", localRule, localName, "no sha512 hash of its archive was kept", func(e *Evidence) { e.Archive.Hashes[0].Hash = "sha256"; e.Archive.Hashes = e.Archive.Hashes[:0] }},
		{"archive state garbled", "archive-rsa.asc", "openpgp-rsa.asc", localRule, localName, "is garbled", func(e *Evidence) { e.Archive.Hashes[0].State = []byte("x") }},
		{"archive contradicts itself", "blob-default.bundle", "cosign-default.pub", localRule, localName, "contradicts itself", func(e *Evidence) { e.Archive.Digest = digest.FromString("x") }},
		{"archive of another image", "archive-rsa.asc", "openpgp-rsa.asc", localRule, localName, "of the archive of another image", func(e *Evidence) { e.Subject = digest.FromString("x") }},
		{"blob's archive altered", "blob-default.bundle", "cosign-default.pub", localRule, localName, "or it was altered", func(e *Evidence) { e.Archive = otherArchive(t, e.Signature) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := g.evidence(t, c.evidence)
			c.damage(&e)
			d := g.policy(t, keyRule(c.match, c.key)).Evaluate(g.subject(t, c.asked), []Evidence{e}, g.made)
			checkDecision(t, d, c.reason)
		})
	}
}

func otherArchive(t *testing.T, signature []byte) *Archive {
	t.Helper()
	hasher, err := NewArchiveHasher(signature)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = hasher.Write([]byte("another archive"))
	e, err := hasher.Evidence(digest.FromString("x"))
	if err != nil {
		t.Fatal(err)
	}
	return e.Archive
}

func TestArchiveHasherRefuses(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	for reason, data := range map[string][]byte{
		"has no signature in it":           {},
		"0 armored blocks":                 []byte("text"),
		"not one of a file":                read(t, g.dir, "cosign3-named.bundle"),
		"it is a \"PGP PUBLIC KEY BLOCK\"": read(t, g.dir, "openpgp-rsa.asc"),
		"2 armored blocks":                 read(t, g.dir, "archive-clear.asc"),
		"is not a detached signature":      read(t, g.dir, "simple-rsa.sig"),
		"cut off or garbled":               read(t, g.dir, "archive-rsa.asc")[:200],
		"longer than":                      make([]byte, MaxItem),
	} {
		if _, err := NewArchiveHasher(data); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("got %v, want an error with %q", err, reason)
		}
	}
}

// TestRevokedByPolicy: a key that is taken out of the policy after the fetch.
func TestRevokedByPolicy(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	for _, c := range []struct{ evidence, key, other string }{
		{"cosign2-default", "cosign-default.pub", "cosign-pss.pub"},
		{"cosign2-default", "cosign-default.pub", "openpgp-ed.asc"},
		{"simple-rsa", "openpgp-rsa.asc", "openpgp-ed.asc"},
		{"simple-rsa", "openpgp-rsa.asc", "cosign-pss.pub"},
	} {
		items := []Evidence{g.evidence(t, c.evidence)}
		s := g.subject(t, teamImage)
		d := g.policy(t, keyRule(teamRule, c.key)).Evaluate(s, items, g.made)
		checkDecision(t, d, "")
		kept := d.Record(items)
		if kept[0].Key != d.Keys[0] || items[0].Key != "" {
			t.Errorf("Record noted %q, want %q, and must not change its argument: %q", kept[0].Key, d.Keys[0], items[0].Key)
		}
		key := d.Keys[0]
		for rules, reason := range map[string]string{
			keyRule(teamRule, c.key):         "",
			keyRule(teamRule, c.other):       "key " + key + ", which vouched for it when it was fetched, is no longer in the rule",
			keyRule("reg.example/**", c.key): "no rule of the trust policy matches it any more, key " + key + " vouched",
		} {
			checkDecision(t, g.policy(t, rules).Evaluate(s, kept, g.made), reason)
		}
	}
}

// TestSeveral: rules with several keys and images with several signatures.
func TestSeveral(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	var items []Evidence
	for _, name := range []string{"simple-otherdigest", "cosign2-elsewhere", "cosign2-secp384r1", "simple-rsa"} {
		items = append(items, g.evidence(t, name))
	}
	rule := func(require string, files ...string) string {
		var keys []string
		for _, file := range files {
			one := keyRule("x.x/x", file)
			keys = append(keys, one[strings.Index(one, `{"type"`):len(one)-2])
		}
		return `{"match": ["` + teamRule + `"], "require": "` + require + `", "keys": [` + strings.Join(keys, ",") + `]}`
	}
	for _, c := range []struct {
		rule, reason string
		keys         int
	}{
		{rule("any", "cosign-pss.pub", "openpgp-rsa.asc"), "", 1},
		{rule("any", "cosign-missing.pub", "openpgp-rsa.asc"), "", 1},
		{rule("all", "cosign-secp384r1.pub", "openpgp-rsa.asc"), "", 2},
		{rule("all", "cosign-missing.pub", "openpgp-rsa.asc"), "no such file", 0},
		{rule("all", "openpgp-rsa.asc", "cosign-pss.pub"), "not made by a key of the rule", 0},
		{rule("any", "cosign-pss.pub", "cosign-default.pub"), "is for repository", 0},
		{rule("any"), "no keys left", 0},
		{rule("all"), "no keys left", 0},
	} {
		d := g.policy(t, c.rule).Evaluate(g.subject(t, teamImage), items, g.made)
		checkDecision(t, d, c.reason)
		if len(d.Keys) != c.keys {
			t.Errorf("%s: keys %q, want %d", c.rule, d.Keys, c.keys)
		}
	}
}

// TestSharedKey: a bundle that names no repository vouches for none when its
// key is trusted for two.
func TestSharedKey(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	items := []Evidence{g.evidence(t, "cosign3-default")}
	s := g.subject(t, teamImage)
	one := keyRule(exactly, "cosign-default.pub")
	for rules, reason := range map[string]string{
		one + "," + one: "",
		one + "," + keyRule("reg.example/x", "cosign-pss.pub"):      "",
		one + "," + keyRule("reg.example/x", "cosign-missing.pub"):  "",
		one + "," + keyRule("reg.example/x", "cosign-default.pub"):  "test.json#2 trusts the same key for others",
		keyRule("reg.example/**", "cosign-default.pub") + "," + one: "test.json#1 trusts the same key for others",
	} {
		checkDecision(t, g.policy(t, rules).Evaluate(s, items, g.made), reason)
	}
}

func TestKeysRefused(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	config := t.TempDir()
	for reason, data := range map[string]string{
		"neither a PEM public key nor": "hello",
		`a PEM "CERTIFICATE"`:          "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"not a public key":             "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"more than one PEM block":      string(read(t, g.dir, "cosign-default.pub")) + string(read(t, g.dir, "cosign-pss.pub")),
		"2 armored blocks":             string(read(t, g.dir, "openpgp-ed.asc")) + string(read(t, g.dir, "openpgp-rsa.asc")),
		"holds 2 keys":                 string(read(t, g.dir, "openpgp-both.asc")),
		`is a "PGP SIGNATURE"`:         string(read(t, g.dir, "archive-ed.asc")),
		"can be used: it ends":         "\x99\x01",
		"larger than":                  strings.Repeat("x", maxFile+1),
		"too early":                    string(read(t, g.dir, "openpgp-ed.asc")[:120]),
		"not supported, use P-256":     "-----BEGIN PUBLIC KEY-----\nME4wEAYHKoZIzj0CAQYFK4EEACEDOgAEt6FgOIwGpXbjtqDhYYyuFvrkLrO3iRhC\nQ1PEEFZNqCaz6g9pvOqOBVJKgP1bQWUUrPYhRvzW0KY=\n-----END PUBLIC KEY-----\n",
	} {
		file := filepath.Join(config, "key")
		writeFile(t, file, data)
		key, _, err := ReadKeyFile(file)
		if reason == "not supported, use P-256" && err != nil && strings.Contains(err.Error(), "not a public key") {
			continue // a point that is not on P-224 is refused even earlier
		}
		if err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), file) {
			t.Errorf("got %+v, %v, want an error with the file and %q", key, err, reason)
		}
	}
	if _, _, err := ReadKeyFile(filepath.Join(config, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing key file gives %v", err)
	}
}

func TestReadKey(t *testing.T) {
	for file, want := range map[string]Key{
		"cosign-default.pub":  {Type: Cosign, Algorithm: "ECDSA P-256"},
		"cosign-rsa2048.pub":  {Type: Cosign, Algorithm: "RSA 2048"},
		"cosign-ed25519.pub":  {Type: Cosign, Algorithm: "Ed25519"},
		"openpgp-rsa.asc":     {Type: OpenPGP, Algorithm: "RSA 3072", Identities: []string{"RSA <rsa@example.org>"}},
		"openpgp-rsa.gpg":     {Type: OpenPGP, Algorithm: "RSA 3072", Identities: []string{"RSA <rsa@example.org>"}},
		"openpgp-sub.asc":     {Type: OpenPGP, Algorithm: "Ed25519", Identities: []string{"Sub <sub@example.org>"}},
		"openpgp-revoked.asc": {Type: OpenPGP, Algorithm: "Ed25519", Revoked: true, Identities: []string{"Taken back <revoked@example.org>"}},
	} {
		key, data, err := ReadKeyFile(filepath.Join("testdata", "golden", file))
		if err != nil || len(data) == 0 {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if key.Type != want.Type || key.Algorithm != want.Algorithm || key.Revoked != want.Revoked || !reflect.DeepEqual(key.Identities, want.Identities) {
			t.Errorf("%s: got %+v", file, key)
		}
		if key.Type == OpenPGP && (len(key.Fingerprint) != 40 || key.Created.IsZero()) || (file == "openpgp-sub.asc") != (len(key.Subkeys) == 1) {
			t.Errorf("%s: got %+v", file, key)
		}
	}
}

func TestUsable(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	for file, reason := range map[string]string{
		"cosign-default.pub":     "",
		"openpgp-rsa.asc":        "",
		"openpgp-sub.asc":        "",
		"openpgp-short.asc":      "expired on",
		"openpgp-shortsub.asc":   "expired on",
		"openpgp-revoked.asc":    "is revoked",
		"openpgp-revokedsub.asc": "is revoked",
		"openpgp-weak.asc":       "too weak",
		"openpgp-small.asc":      "1024 bits",
	} {
		key, _ := goldenKey(t, file)
		err := key.Usable(g.made.AddDate(0, 0, 40))
		if (err == nil) != (reason == "") || err != nil && !strings.Contains(err.Error(), reason) {
			t.Errorf("%s after 40 days: %v, want %q", file, err, reason)
		}
	}
}

func FuzzEvidence(f *testing.F) {
	data, err := Marshal([]Evidence{{Format: OpenPGPDetached, Signature: []byte("x"), Archive: &Archive{Hashes: []HashState{{Hash: "sha256"}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := Unmarshal(data)
		if err != nil {
			return
		}
		again, err := Marshal(items)
		if err != nil {
			return // base64 may be longer than what was read
		}
		if back, err := Unmarshal(again); err != nil || !sameJSON(back, items) {
			t.Fatalf("%q is written as %q: %v", data, again, err)
		}
	})
}

func sameJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func FuzzBundle(f *testing.F) {
	g := readGolden(f, filepath.Join("testdata", "golden"))
	for _, name := range []string{"cosign3-named", "cosign3-default", "blob-manifest"} {
		f.Add(g.evidence(f, name).Signature)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := readBundle(data)
		if err == nil && (b.Message == nil) == (b.Envelope == nil) {
			t.Fatalf("%q signs two things or nothing", data)
		}
	})
}

// FuzzStatement and FuzzPayload let the fuzzer write what a trusted key
// signed: no document may vouch for two images or two repositories.
func FuzzStatement(f *testing.F) {
	g := readGolden(f, filepath.Join("testdata", "golden"))
	for _, name := range []string{"cosign3-named", "cosign3-tagged", "cosign3-index", "cosign3-attestation"} {
		b, err := readBundle(g.evidence(f, name).Signature)
		if err != nil {
			f.Fatal(err)
		}
		payload, _ := decodeBase64([]byte(b.Envelope.Payload))
		f.Add(payload)
	}
	fuzzSigned(f, g, func(j *judge, key Key, data []byte) *failure { return j.checkStatement(key, data) })
}

func FuzzPayload(f *testing.F) {
	g := readGolden(f, filepath.Join("testdata", "golden"))
	for _, name := range []string{"cosign2-default", "cosign2-tagged", "cosign2-elsewhere"} {
		f.Add(g.evidence(f, name).Payload)
	}
	fuzzSigned(f, g, func(j *judge, key Key, data []byte) *failure { return j.checkSimple(key, data, cosignType) })
}

func fuzzSigned(f *testing.F, g *golden, check func(j *judge, key Key, data []byte) *failure) {
	key, _, err := ReadKeyFile(filepath.Join(g.dir, "cosign-default.pub"))
	if err != nil {
		f.Fatal(err)
	}
	everything, err := ruleSpec{Match: []string{"**"}, Keys: []keySpec{}}.rule()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		vouches := func(path string, manifest digest.Digest) bool {
			j := &judge{policy: &Policy{}, rule: everything, subject: g.subject(t, teamImage), now: g.made}
			j.subject.Ref.Path, j.subject.Manifest = path, manifest
			return check(j, key, data) == nil
		}
		if !vouches("team/app", g.manifest) {
			return
		}
		if vouches("team/other", g.manifest) {
			t.Fatalf("%q vouches for two repositories", data)
		}
		if vouches("team/app", digest.FromString("other")) {
			t.Fatalf("%q vouches for two images", data)
		}
	})
}

func FuzzMessage(f *testing.F) {
	g := readGolden(f, filepath.Join("testdata", "golden"))
	for _, name := range []string{"simple-rsa", "simple-ed", "simple-sub"} {
		f.Add(g.evidence(f, name).Signature)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, sigs, err := readSigned(data)
		if err == nil && (payload == nil || len(payload) > maxSimple || len(sigs) > 4*maxPackets) {
			t.Fatalf("%q: %d bytes, %d signatures", data, len(payload), len(sigs))
		}
	})
}

func FuzzDetached(f *testing.F) {
	g := readGolden(f, filepath.Join("testdata", "golden"))
	for _, name := range []string{"archive-rsa.asc", "archive-binary.sig", "archive-two.asc", "blob-default.bundle"} {
		f.Add(g.evidence(f, name).Signature)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		hasher, err := NewArchiveHasher(data)
		if err != nil {
			return
		}
		e, err := hasher.Evidence(digest.FromString("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Marshal([]Evidence{e}); err != nil {
			t.Fatal(err)
		}
	})
}
