package trust

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/reference"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct{ pattern, yes, no string }{
		{"reg.example/foo", "reg.example/foo", "reg.example/foobar reg.example/foo/bar reg.example/fo other.example/foo"},
		{"reg.example/foo/*", "reg.example/foo/a", "reg.example/foo reg.example/foobar/a reg.example/foo/a/b"},
		{"reg.example/foo/**", "reg.example/foo reg.example/foo/a reg.example/foo/a/b/c", "reg.example/foobar reg.example/foobar/a"},
		{"reg.example/**", "reg.example/a reg.example/a/b", "reg.example.org/a reg.example:5000/a"},
		{"**", "reg.example/a docker.io/library/nginx oci:/srv/img file:/x.tar", ""},
		{"*/team/app", "reg.example/team/app localhost:5000/team/app", "reg.example/x/team/app oci:/team/app"},
		{"**/app", "reg.example/app reg.example/a/b/app", "reg.example/app/x reg.example/myapp"},
		{"reg.example/**/app/*", "reg.example/app/x reg.example/a/app/app/x", "reg.example/app reg.example/app/x/y"},
		{"**/a/**/b/**", "reg.example/a/b reg.example/x/a/y/b/z", "reg.example/b/a"},
		{"docker.io/library/*", "docker.io/library/nginx", "docker.io/nginx/x"},
		{"localhost:5000/*", "localhost:5000/a", "localhost/a"},
		{"[::1]:5000/*", "[::1]:5000/a", ""},
		{"oci-archive:/srv/images/*", "oci-archive:/srv/images/a.tar", "oci:/srv/images/a.tar oci-archive:/srv/images2/a.tar"},
		{"file:/srv/**", "file:/srv/a.tar", "oci:/srv/a.tar"},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Errorf("pattern %q: %v", c.pattern, err)
			continue
		}
		for want, list := range map[bool]string{true: c.yes, false: c.no} {
			for repository := range strings.FieldsSeq(list) {
				if got := p.fits(strings.Split(repository, "/")); got != want {
					t.Errorf("pattern %q fits %q: %v, want %v", c.pattern, repository, got, want)
				}
			}
		}
	}
}

func TestPatternRefused(t *testing.T) {
	for pattern, reason := range map[string]string{
		"":                        "not made of a host",
		"*":                       `write "**"`,
		"nginx":                   `write the repository in full: "docker.io/library/nginx"`,
		"team/*":                  "must start with a host",
		"reg.example":             `write the repository in full`,
		"reg.example/app:1":       `write the repository in full: "reg.example/app"`,
		"reg.example/app-*":       "whole segments",
		"reg.example/***":         "whole segments",
		"reg.example/":            "no repository path",
		"reg.example//a":          "empty component",
		"reg.example/App":         "upper case",
		"REG.example/app":         `"reg.example/app"`,
		"index.docker.io/foo/*":   "would never match",
		"https://reg.example/**":  "do not come by",
		"docker://reg.example/**": "would never match",
		"oci:srv":                 "would never match",
		strings.Repeat("a/", 40):  "more than 32 segments",
	} {
		if p, err := parsePattern(pattern); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("pattern %q gives %+v, %v, want an error with %q", pattern, p, err, reason)
		}
	}
}

func TestPolicyFileRefused(t *testing.T) {
	rule := func(s string) string { return `{"rktKind":"trust","rktVersion":"v1","rules":[` + s + `]}` }
	for text, reason := range map[string]string{
		"":                                      "it ends before its JSON document does",
		"{":                                     "it ends before its JSON document does",
		"null":                                  "it must be a JSON object",
		"[]":                                    "must not be",
		"{}x":                                   "something after the end",
		"{}":                                    `field "rktKind" is ""`,
		`{"rktKind":"auth","rktVersion":""}`:    `field "rktKind" is "auth"`,
		`{"rktKind":"trust","rktVersion":"v9"}`: `field "rktVersion" is "v9"`,
		`{"rktKind":"trust","rktVersion":"v1"}`: `field "rules" is missing`,
		`{"rktKind":"trust","rktversion":"v1"}`: `field "rktversion" is unknown`,
		`{"rktKind":"trust","rktKind":"trust"}`: `field "rktKind" is unknown or given twice`,
		rule(`null`):                            `field "rules[0]" is null`,
		rule(`7`):                               `must not be a number`,
		rule(`{}`):                              `field "rules[0].match" has no pattern`,
		rule(`{"match":"**"}`):                  `must not be a string`,
		rule(`{"match":[]}`):                    `field "rules[0].match" has no pattern`,
		rule(`{"match":["**"]}`):                `field "rules[0]" must have exactly one of "keys", "accept" and "reject"`,
		rule(`{"match":["x*"]}`):                `field "rules[0].match[0]": pattern "x*"`,
		rule(`{"match":["**"],"reject":true},{"match":["**"],"reject":true,"accept":"unsigned"}`):             `field "rules[1]" must have exactly one`,
		rule(`{"match":["**"],"accept":"everything"}`):                                                        `field "rules[0].accept" is "everything"`,
		rule(`{"match":["**"],"reject":true,"require":"any"}`):                                                `field "rules[0].require" needs "keys"`,
		rule(`{"match":["**"],"keys":[],"require":"two"}`):                                                    `field "rules[0].require" is "two"`,
		rule(`{"match":["**"],"keys":[{}]}`):                                                                  `field "rules[0].keys[0].type" is missing`,
		rule(`{"match":["**"],"keys":[{"type":"x509"}]}`):                                                     `field "rules[0].keys[0].type" is "x509"`,
		rule(`{"match":["**"],"keys":[{"type":"cosign"}]}`):                                                   `field "rules[0].keys[0]" must have exactly one of "path" and "data"`,
		rule(`{"match":["**"],"keys":[{"type":"cosign","path":"a","data":"b"}]}`):                             `exactly one of "path" and "data"`,
		rule(`{"match":["**"],"keys":[{"type":"cosign","pat":"a"}]}`):                                         `field "rules[0].keys[0].pat" is unknown`,
		rule(`{"match":["**"],"keys":[{"type":"keyless","issuer":"https://issuer.example","subject":"me"}]}`): `this build of rkt cannot verify keyless identities`,
		rule(`{"match":["**"],"keys":[{"type":"cosign","path":"a","issuer":"i"}]}`):                           `only keyless identities have`,
		rule(strings.Repeat(`{"match":["**"],"reject":true},`, 1024) + `{"match":["**"],"reject":true}`):      "more than 1024",
		strings.Repeat(" ", maxFile) + rule(""):                                                               "larger than",
	} {
		config := t.TempDir()
		file := filepath.Join(config, "trust.d", "bad.json")
		writeFile(t, file, text)
		p, err := LoadPolicy("", config)
		if err == nil {
			t.Errorf("%.100s: accepted as %+v", text, p)
			continue
		}
		if !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), file) {
			t.Errorf("%.100s: says %q, want the file and %q", text, err, reason)
		}
	}
}

func TestPolicyFilesUnreadable(t *testing.T) {
	config := t.TempDir()
	file := filepath.Join(config, "trust.d", "fifo.json")
	writeFile(t, filepath.Join(config, "trust.d", "readme.txt"), "not read")
	if err := syscall.Mkfifo(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPolicy(config, ""); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a FIFO as policy file gives %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("missing", file); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPolicy(config, ""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a dangling link as policy file gives %v", err)
	}
}

// TestOrder: the administrator's files before the vendor's, each by name, the
// first matching rule decides, a file masks the vendor's of the same name.
func TestOrder(t *testing.T) {
	local, system := t.TempDir(), t.TempDir()
	writeRules(t, system, "10-a.json", `{"match":["reg.example/**"],"accept":"unsigned"}`)
	writeRules(t, system, "90-end.json", `{"match":["**"],"reject":true}`)
	writeRules(t, local, "50-b.json", `{"match":["reg.example/bad","reg.example/worse/*"],"reject":true}, {"match":["reg.example/team/*"],"accept":"unsigned"}`)
	writeRules(t, local, "20-c.json", `{"match":["reg.example/bad"],"accept":"unsigned"}`)
	decide := func(name string) Decision {
		t.Helper()
		p, err := LoadPolicy(system, local)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := reference.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		d := p.Evaluate(Subject{Ref: ref, Manifest: digest.FromString("x")}, nil, time.Now())
		if rule := p.Deciding(ref.Repository()); rule != d.Rule {
			t.Errorf("%s: Deciding says %q, Evaluate %q", name, rule, d.Rule)
		}
		return d
	}
	for name, want := range map[string]string{
		"reg.example/bad":     filepath.Join(local, "trust.d", "20-c.json") + "#1",
		"reg.example/worse/x": filepath.Join(local, "trust.d", "50-b.json") + "#1",
		"reg.example/team/x":  filepath.Join(local, "trust.d", "50-b.json") + "#2",
		"reg.example/else":    filepath.Join(system, "trust.d", "10-a.json") + "#1",
		"other.example/else":  filepath.Join(system, "trust.d", "90-end.json") + "#1",
	} {
		d := decide(name)
		if d.Rule != want {
			t.Errorf("%s: rule %q decides, want %q", name, d.Rule, want)
		}
		rejected := strings.Contains(name, "worse") || strings.HasPrefix(name, "other")
		if d.Trusted == rejected || d.Unsigned == rejected || (d.Err == nil) == rejected {
			t.Errorf("%s: %+v", name, d)
		}
	}
	writeRules(t, local, "90-end.json", "")
	d := decide("other.example/else")
	checkDecision(t, d, "it has no signature and no rule of the trust policy matches it")
	for _, next := range []string{"'rkt trust --prefix=other.example/else KEYFILE'", "--insecure-options=image", "risk"} {
		if !strings.Contains(d.Err.Error(), next) {
			t.Errorf("refusal of an unsigned image does not say %q: %v", next, d.Err)
		}
	}
}

func TestNoPolicyRefuses(t *testing.T) {
	p, err := LoadPolicy(filepath.Join(t.TempDir(), "missing"), "")
	if err != nil {
		t.Fatal(err)
	}
	ref, _ := reference.Parse("reg.example/app")
	checkDecision(t, p.Evaluate(Subject{Ref: ref, Manifest: digest.FromString("x")}, nil, time.Now()), "no rule of the trust policy matches it")
	checkRefusal := func(s Subject, reason string) {
		t.Helper()
		d := writeAccept(t).Evaluate(s, nil, time.Now())
		if d.Trusted || d.Err == nil || !strings.Contains(d.Err.Error(), reason) {
			t.Errorf("%+v: %+v, want %q", s, d, reason)
		}
	}
	checkRefusal(Subject{Ref: ref}, "its manifest digest is not known")
	checkRefusal(Subject{Ref: ref, Manifest: "sha256:12"}, "is not a sha256 digest")
	checkRefusal(Subject{Ref: ref, Manifest: "md5:12"}, "is not a sha256 digest")
	ref.Digest = digest.FromString("asked")
	checkRefusal(Subject{Ref: ref, Manifest: digest.FromString("x")}, "its digest is")
}

func writeAccept(t *testing.T) *Policy {
	t.Helper()
	config := t.TempDir()
	writeRules(t, config, "accept.json", `{"match":["**"],"accept":"unsigned"}`)
	p, err := LoadPolicy("", config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRulesListed(t *testing.T) {
	config := t.TempDir()
	data, _ := json.Marshal(string(read(t, "testdata", "golden", "cosign-default.pub")))
	writeRules(t, config, "a.json", fmt.Sprintf(`{"match":["reg.example/*"],"require":"all","keys":[
		{"type":"cosign","data":%s},{"type":"cosign","path":"missing.pub"}]},{"match":["**"],"reject":true}`, data))
	p, err := LoadPolicy("", config)
	if err != nil {
		t.Fatal(err)
	}
	rules := p.Rules()
	if len(rules) != 2 || rules[0].Verdict != "keys" || !rules[0].All || rules[1].Verdict != "reject" {
		t.Fatalf("got %+v", rules)
	}
	keys := rules[0].Keys
	if len(keys) != 2 || keys[0].Err != nil || keys[0].Keys[0].Algorithm != "ECDSA P-256" || keys[1].Err == nil {
		t.Errorf("got keys %+v", keys)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"rktKind":"trust","rktVersion":"v1","rules":[{"match":["reg.example/**"],"require":"all","keys":[{"type":"cosign","data":"x"},{"type":"openpgp","path":"y"}]},{"match":["**"],"reject":true}]}`))
	f.Add([]byte(`{"rktKind":"trust","rktVersion":"v1","rules":[{"match":["**/a/*"],"accept":"unsigned"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := parsePolicy("/fuzz.json", data)
		if err != nil {
			return
		}
		for _, r := range rules {
			if len(r.patterns) == 0 {
				t.Fatalf("rule without pattern: %q", data)
			}
		}
		// What is accepted is written back as the same policy.
		file, err := readPolicyFile(data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		rewritten, err := parsePolicy("/fuzz.json", again)
		if err != nil || fmt.Sprintf("%+v", rewritten) != fmt.Sprintf("%+v", rules) {
			t.Fatalf("%s is written as %s: %v", data, again, err)
		}
	})
}
