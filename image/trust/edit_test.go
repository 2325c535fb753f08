package trust

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func editor(t *testing.T, config string) *Editor {
	t.Helper()
	e, err := Edit(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // closed twice in some tests
	return e
}

func goldenKey(t *testing.T, name string) (Key, []byte) {
	t.Helper()
	key, data, err := ReadKeyFile(filepath.Join("testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return key, data
}

func add(t *testing.T, e *Editor, pattern, name string) Change {
	t.Helper()
	key, data := goldenKey(t, name)
	change, err := e.Add(pattern, key, data)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func load(t *testing.T, config string) *Policy {
	t.Helper()
	p, err := LoadPolicy("", config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAddAndRemove follows a rule through its life, evaluating it each time.
func TestAddAndRemove(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	config := filepath.Join(t.TempDir(), "etc", "rkt")
	e := editor(t, config)
	byCosign := []Evidence{g.evidence(t, "cosign2-default")}
	byGPG := []Evidence{g.evidence(t, "simple-rsa")}
	judge := func(items []Evidence, reason string) {
		t.Helper()
		checkDecision(t, load(t, config).Evaluate(g.subject(t, teamImage), items, g.made), reason)
	}
	judge(byCosign, "no rule")

	first := add(t, e, Below("127.0.0.1:5000/team"), "cosign-default.pub")
	if first.Unneeded || first.Keys != 1 || filepath.Dir(first.File) != filepath.Join(config, "trust.d") ||
		first.Rule != first.File+"#1" || filepath.Dir(first.KeyFile) != filepath.Join(config, "trust.d", "keys") {
		t.Errorf("first key: %+v", first)
	}
	judge(byCosign, "")
	judge(byGPG, "no signature that cosign keys make")
	if again := add(t, e, Below("127.0.0.1:5000/team/"), "cosign-default.pub"); !again.Unneeded || again.Keys != 1 {
		t.Errorf("the same key again: %+v", again)
	}
	second := add(t, e, Below("127.0.0.1:5000/team"), "openpgp-rsa.asc")
	if second.Unneeded || second.Keys != 2 || second.File != first.File {
		t.Errorf("second key: %+v", second)
	}
	judge(byCosign, "")
	judge(byGPG, "")

	key, _ := goldenKey(t, "cosign-default.pub")
	gone, err := e.RemoveKey(strings.ToUpper(key.Fingerprint[len("sha256:"):][:8]))
	if err != nil || len(gone) != 1 || gone[0].Keys != 1 || gone[0].KeyFile != first.KeyFile {
		t.Errorf("remove by the start of the fingerprint: %+v, %v", gone, err)
	}
	if _, err := os.Stat(first.KeyFile); !os.IsNotExist(err) {
		t.Errorf("key file after its removal: %v", err)
	}
	judge(byCosign, "no signature that openpgp keys make")
	judge(byGPG, "")

	key, _ = goldenKey(t, "openpgp-rsa.asc")
	if gone, err := e.RemoveKey(key.Fingerprint); err != nil || len(gone) != 1 || gone[0].Keys != 0 {
		t.Errorf("remove the last key: %+v, %v", gone, err)
	}
	judge(byGPG, "no keys left")
	if gone, err := e.RemoveRule(Below("127.0.0.1:5000/team")); err != nil || gone.File != first.File {
		t.Errorf("remove the rule: %+v, %v", gone, err)
	}
	judge(byGPG, "no rule")
	if left, _ := filepath.Glob(filepath.Join(config, "trust.d", "*", "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestNarrowFirst: files are named so that the narrower rule is asked first.
func TestNarrowFirst(t *testing.T) {
	config := t.TempDir()
	e := editor(t, config)
	for _, pattern := range []string{Everything, Below("reg.example"), Below("reg.example/team"), "reg.example/team", "reg.example/team/app", Below("oci-archive:/srv")} {
		add(t, e, pattern, "cosign-default.pub")
	}
	p := load(t, config)
	for repository, want := range map[string]string{
		"reg.example/team":      "50-trust-994-reg.example+team.json#1",
		"reg.example/team/app":  "50-trust-992-reg.example+team+app.json#1",
		"reg.example/team/else": "50-trust-995-reg.example+team.json#1",
		"reg.example/else":      "50-trust-997-reg.example.json#1",
		"other.example/else":    "50-trust-999-everything.json#1",
		"oci-archive:/srv/x":    "50-trust-995-oci-archive:+srv.json#1",
	} {
		if got := filepath.Base(p.Deciding(repository)); got != want {
			t.Errorf("%s: decided by %s, want %s", repository, got, want)
		}
	}
	long := "reg.example/" + strings.Repeat("a", 250)
	one, two := ruleFileName(long+"b"), ruleFileName(long+"c")
	if one == two || len(one) > 255 {
		t.Errorf("long names: %q and %q", one, two)
	}
}

func TestEditRefuses(t *testing.T) {
	config := t.TempDir()
	e := editor(t, config)
	key, data := goldenKey(t, "cosign-default.pub")
	expect := func(err error, reason string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want an error with %q", err, reason)
		}
	}
	_, err := e.Add("nginx", key, data)
	expect(err, `"docker.io/library/nginx"`)
	_, err = e.RemoveKey("12")
	expect(err, "at least its first 8 digits")
	_, err = e.RemoveKey("0123456789")
	expect(err, "no rule of the administrator has it")
	_, err = e.RemoveRule("reg.example/**")
	expect(err, "has made none")

	change := add(t, e, "reg.example/**", "cosign-default.pub")
	writeFile(t, change.File, `{"rktKind":"trust","rktVersion":"v1","rules":[{"match":["**"],"reject":true},{"match":["**"],"reject":true}]}`)
	_, err = e.Add("reg.example/**", key, data)
	expect(err, "has been edited")
	_, err = e.RemoveRule("reg.example/**")
	expect(err, "has been edited and has 2 rules")
	writeFile(t, change.File, `{`)
	_, err = e.Add("reg.example/**", key, data)
	expect(err, change.File)
	_, err = e.RemoveKey("0123456789")
	expect(err, change.File)

	both := filepath.Join(config, "trust.d", "keys", "both.asc")
	writeFile(t, both, string(read(t, "testdata", "golden", "openpgp-both.asc")))
	writeFile(t, change.File, `{"rktKind":"trust","rktVersion":"v1","rules":[{"match":["**"],"keys":[{"type":"openpgp","path":"keys/both.asc"}]}]}`)
	rsa, _ := goldenKey(t, "openpgp-rsa.asc")
	_, err = e.RemoveKey(rsa.Fingerprint)
	expect(err, "holds several keys")
}

// TestEditorsTakeTurns: changes made at once are all there in the end.
func TestEditorsTakeTurns(t *testing.T) {
	config := t.TempDir()
	names := []string{"cosign-default.pub", "cosign-pss.pub", "cosign-rsa2048.pub", "openpgp-rsa.asc", "openpgp-ed.asc", "openpgp-sub.asc"}
	keys, files := make([]Key, len(names)), make([][]byte, len(names))
	for i, name := range names {
		keys[i], files[i] = goldenKey(t, name)
	}
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() {
			e, err := Edit(config)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := e.Add("reg.example/**", keys[i], files[i]); err != nil {
				t.Error(err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	rules := load(t, config).Rules()
	if len(rules) != 1 || len(rules[0].Keys) != len(names) {
		t.Errorf("got %+v, want one rule with %d keys", rules, len(names))
	}
}
