package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const goldenKeys = "../image/trust/testdata/golden/"

// rktTrust runs 'rkt trust ARGS' with a configuration of its own.
func rktTrust(t *testing.T, config string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot(nil)
	root.SetArgs(append([]string{"--local-config=" + config, "--system-config=", "trust"}, args...))
	root.SetOut(&out)
	root.SetErr(&errs)
	err = root.Execute()
	return out.String(), errs.String(), err
}

func TestTrust(t *testing.T) {
	config := filepath.Join(t.TempDir(), "etc")
	out, notes, err := rktTrust(t, config, "--prefix=reg.example/team", "--skip-fingerprint-review", goldenKeys+"cosign-default.pub", goldenKeys+"openpgp-sub.asc")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"cosign key fingerprint is: sha256:", `"Sub <sub@example.org>"`, "Signing subkey fingerprint: ",
		`to vouch for: "reg.example/team" and everything below it`, filepath.Join(config, "trust.d", "keys", "cosign-"),
		`match "reg.example/team/**", keys: any of 2`, filepath.Join(config, "trust.d", "50-trust-995-reg.example+team.json") + "#1",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q:\n%s", want, out)
		}
	}
	if !regexp.MustCompile(`openpgp key fingerprint is: ([0-9A-F]{4} ){5}( [0-9A-F]{4}){5}\n`).MatchString(out) {
		t.Errorf("the OpenPGP fingerprint is not printed as gpg does:\n%s", out)
	}
	if !strings.Contains(notes, "-a docker-reference=REPOSITORY") || strings.Contains(notes, "warning") {
		t.Errorf("notes:\n%s", notes)
	}

	// A wider rule comes later, a narrower one earlier; a rule in front is told.
	for _, scope := range []string{"--root", "--repository=reg.example/team/app", "--prefix=oci-archive:/srv/images"} {
		if _, notes, err := rktTrust(t, config, scope, "--skip-fingerprint-review", goldenKeys+"openpgp-rsa.asc"); err != nil || notes != "" {
			t.Errorf("%s: %v, notes %q", scope, err, notes)
		}
	}
	first := filepath.Join(config, "trust.d", "10-first.json")
	if err := os.WriteFile(first, []byte(`{"rktKind":"trust","rktVersion":"v1","rules":[{"match":["reg.example/**"],"reject":true}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, notes, err := rktTrust(t, config, "--prefix=reg.example/x", "--skip-fingerprint-review", goldenKeys+"openpgp-rsa.asc"); err != nil || !strings.Contains(notes, "rule "+first+"#1 comes before this one") {
		t.Errorf("a rule in front: %v, notes %q", err, notes)
	}

	var rules []ruleView
	out, _, err = rktTrust(t, config, "list", "--format=json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &rules)
	}
	if err != nil || len(rules) != 6 || rules[0].Verdict != "reject" || rules[1].Match[0] != "reg.example/team/app" || len(rules[1].Keys) != 1 || rules[5].Match[0] != "**" {
		t.Errorf("list: %v\n%s", err, out)
	}
	out, _, err = rktTrust(t, config, "list")
	if err != nil || strings.Count(out, "\n") != 8 || !strings.HasPrefix(out, "MATCH") {
		t.Errorf("list: %v\n%s", err, out)
	}

	out, _, err = rktTrust(t, config, "rm", rules[1].Keys[0].Fingerprint)
	if err != nil || strings.Count(out, "none left, so it refuses everything") != 4 {
		t.Errorf("rm of a key in four rules: %v\n%s", err, out)
	}
	out, _, err = rktTrust(t, config, "rm", "--root")
	if err != nil || !strings.Contains(out, "Removed the rule for every image") {
		t.Errorf("rm of a rule: %v\n%s", err, out)
	}
}

func TestTrustRefuses(t *testing.T) {
	config := filepath.Join(t.TempDir(), "etc")
	key := goldenKeys + "cosign-default.pub"
	private := filepath.Join(t.TempDir(), "cosign.key")
	if err := os.WriteFile(private, []byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		reason string
	}{
		{"", "requires at least 1 arg"},
		{key, "a key is not trusted for everything unasked"},
		{"--prefix=reg.example --root " + key, "only one of"},
		{"--prefix=https://reg.example " + key, "without a scheme"},
		{"--prefix=reg.example --skip-fingerprint-review missing.pub", `"missing.pub": no such file`},
		{"--prefix=reg.example --skip-fingerprint-review " + private, "cosign writes the public one to cosign.pub"},
		{"--prefix=reg.example --skip-fingerprint-review " + goldenKeys + "openpgp-revoked.asc", "is revoked"},
		{"--prefix=reg.example --skip-fingerprint-review " + goldenKeys + "openpgp-both.asc", "holds 2 keys"},
		{"--prefix=team --skip-fingerprint-review " + key, "must start with a host"},
		{"--repository=nginx --skip-fingerprint-review " + key, `"docker.io/library/nginx"`},
		{"--prefix=reg.example " + key, "standard input is no terminal"},
		{"rm", "give the fingerprint of a key, or"},
		{"rm 0123456789", "no rule was made yet"},
		{"rm --root 0123456789", "not both"},
		{"rm --prefix=reg.example", "no rule was made yet"},
	} {
		_, _, err := rktTrust(t, config, strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.reason) || strings.Contains(err.Error(), "\n") {
			t.Errorf("rkt trust %s: %v, want one sentence with %q", c.args, err, c.reason)
		}
		left, _ := filepath.Glob(filepath.Join(config, "trust.d", "*.json"))
		keys, _ := filepath.Glob(filepath.Join(config, "trust.d", "keys", "*"))
		if len(left)+len(keys) > 0 {
			t.Errorf("rkt trust %s: left %q %q", c.args, left, keys)
		}
	}
}

func TestConfirm(t *testing.T) {
	for answers, confirmed := range map[string]bool{
		"yes\n": true, "yes": true, "no\n": false, "": false, "y\nmaybe\nyes\n": true, "YES\nno\n": false, "oui\n": false,
	} {
		var out bytes.Buffer
		err := confirm(&out, bufio.NewReader(strings.NewReader(answers)))
		if (err == nil) != confirmed || !strings.HasPrefix(out.String(), "Are you sure you want to trust this key (yes/no)? ") {
			t.Errorf("%q: %v\n%s", answers, err, &out)
		}
	}
}
