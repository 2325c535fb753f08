package trust

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/reference"
)

// golden is a directory of signatures that the real tools made
// (testdata/record.sh).
type golden struct {
	dir        string
	repository string
	manifest   digest.Digest
	index      []byte
	made       time.Time // a moment when every key was valid
}

func readGolden(t testing.TB, dir string) *golden {
	g := &golden{dir: dir, repository: string(read(t, dir, "repository")), index: read(t, dir, "index.json")}
	g.manifest = digest.FromBytes(read(t, dir, "manifest.json"))
	short, _, err := ReadKeyFile(filepath.Join(dir, "openpgp-short.asc"))
	if err != nil {
		t.Fatal(err)
	}
	g.made = short.Created.Add(24 * time.Hour)
	return g
}

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (g *golden) subject(t testing.TB, name string) Subject {
	t.Helper()
	ref, err := reference.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return Subject{Ref: ref, Manifest: g.manifest}
}

// evidence reads one recorded signature in the form in which it is fetched.
func (g *golden) evidence(t testing.TB, name string) Evidence {
	t.Helper()
	e := Evidence{Subject: g.manifest}
	switch {
	case strings.HasPrefix(name, "cosign2-"), name == "pss":
		e.Format, e.Payload, e.Signature = CosignSimple, read(t, g.dir, name+".payload"), read(t, g.dir, name+".sig")
	case strings.HasPrefix(name, "cosign3-"), name == "blob-manifest":
		e.Format, e.Signature = SigstoreBundle, read(t, g.dir, name+".bundle")
	case strings.HasPrefix(name, "simple-"):
		e.Format, e.Signature = OpenPGPSimple, read(t, g.dir, name+".sig")
	default:
		return g.archived(t, read(t, g.dir, name))
	}
	return e
}

func (g *golden) archived(t testing.TB, signature []byte) Evidence {
	t.Helper()
	hasher, err := NewArchiveHasher(signature)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = hasher.Write(read(t, g.dir, "archive.tar"))
	e, err := hasher.Evidence(g.manifest)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// rules are rules in JSON; "GOLDEN/" in them is the directory.
func (g *golden) rules(rules string) string {
	abs, err := filepath.Abs(g.dir)
	if err != nil {
		panic(err) // no working directory: no test can run
	}
	return strings.ReplaceAll(rules, "GOLDEN", abs)
}

func (g *golden) policy(t *testing.T, rules string) *Policy {
	t.Helper()
	local := t.TempDir()
	writeRules(t, local, "test.json", g.rules(rules))
	p, err := LoadPolicy("", local)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// writeRules makes a policy file below a configuration directory.
func writeRules(t testing.TB, config, name, rules string) {
	t.Helper()
	text := fmt.Sprintf(`{"rktKind": "trust", "rktVersion": "v1", "rules": [%s]}`, rules)
	writeFile(t, filepath.Join(config, "trust.d", name), text)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keyRule is a rule for one pattern and one key file of the golden directory.
func keyRule(pattern, file string) string {
	kind := Cosign
	if strings.HasPrefix(file, "openpgp") {
		kind = OpenPGP
	}
	return fmt.Sprintf(`{"match": [%q], "keys": [{"type": %q, "path": "GOLDEN/%s"}]}`, pattern, kind, file)
}

const (
	teamImage = "127.0.0.1:5000/team/app:1"
	exactly   = "127.0.0.1:5000/team/app"
	teamRule  = "127.0.0.1:5000/team/**"
	localName = "oci-archive:/srv/archive.tar"
	localRule = "oci-archive:/srv/**"
)

type goldenCase struct {
	evidence string // file name, as golden.evidence reads it; "" for none
	key      string // key file
	match    string
	asked    string
	days     int    // evaluated that much later
	reason   string // in the refusal; "" when trusted
}

// goldenCases are what the real tools' signatures must and must not prove.
func goldenCases() []goldenCase {
	var cases []goldenCase
	ok := func(evidence, key, match, asked string) {
		cases = append(cases, goldenCase{evidence, key, match, asked, 0, ""})
	}
	refused := func(evidence, key, match, asked, reason string) {
		cases = append(cases, goldenCase{evidence, key, match, asked, 0, reason})
	}
	for _, key := range []string{"default", "secp384r1", "secp521r1", "rsa2048", "ed25519"} {
		file := "cosign-" + key + ".pub"
		ok("cosign2-"+key, file, teamRule, teamImage)
		ok("cosign3-"+key, file, exactly, teamImage)
		refused("cosign3-"+key, file, teamRule, teamImage, "names no repository and this rule is for more than one")
		refused("cosign2-"+key, "cosign-pss.pub", teamRule, teamImage, "was not made by a key of the rule")
		refused("cosign3-"+key, "cosign-pss.pub", exactly, teamImage, "was not made by a key of the rule")
		if key == "ed25519" {
			refused("blob-"+key+".bundle", file, localRule, localName, "can only be verified with the whole file")
			continue
		}
		ok("blob-"+key+".bundle", file, localRule, localName)
		refused("blob-"+key+".bundle", "cosign-pss.pub", localRule, localName, "was not made by a key of the rule")
	}
	ok("pss", "cosign-pss.pub", teamRule, teamImage)
	refused("", "cosign-default.pub", teamRule, teamImage, "it has no signature")
	refused("simple-rsa", "cosign-default.pub", teamRule, teamImage, "it has no signature that cosign keys make, only openpgp-simple")
	refused("cosign2-default", "cosign-missing.pub", teamRule, teamImage, "no such file or directory")

	// names
	refused("cosign2-default", "cosign-default.pub", "**", "127.0.0.1:5000/team/other:1", `is for repository "127.0.0.1:5000/team/app", not for "127.0.0.1:5000/team/other"`)
	refused("cosign2-elsewhere", "cosign-default.pub", "**", teamImage, `is for repository "127.0.0.1:5000/team/other"`)
	ok("cosign2-elsewhere", "cosign-default.pub", "**", "127.0.0.1:5000/team/other:1")
	refused("cosign2-default", "cosign-default.pub", localRule, localName, "is for repository")
	ok("cosign2-tagged", "cosign-default.pub", teamRule, teamImage)
	refused("cosign2-tagged", "cosign-default.pub", teamRule, "127.0.0.1:5000/team/app:2", `is for tag "1", not for "2"`)
	ok("cosign2-pushed", "cosign-default.pub", teamRule, teamImage)
	ok("cosign3-pushed", "cosign-default.pub", teamRule, teamImage)
	ok("cosign3-named", "cosign-default.pub", teamRule, teamImage)
	ok("cosign3-named", "cosign-default.pub", teamRule, "127.0.0.1:5000/team/app:anything")
	ok("cosign3-tagged", "cosign-default.pub", teamRule, teamImage)
	refused("cosign3-tagged", "cosign-default.pub", teamRule, "127.0.0.1:5000/team/app:2", `is for tag "1", not for "2"`)
	refused("cosign3-elsewhere", "cosign-default.pub", teamRule, teamImage, `is for repository "127.0.0.1:5000/team/other"`)
	refused("cosign3-elsewhere", "cosign-default.pub", exactly, teamImage, `is for repository "127.0.0.1:5000/team/other"`)
	refused("cosign3-attestation", "cosign-default.pub", exactly, teamImage, "is an attestation of type")
	ok("blob-manifest", "cosign-default.pub", exactly, teamImage)
	refused("blob-manifest", "cosign-default.pub", teamRule, teamImage, "names no repository")

	for _, who := range []string{"rsa", "ed", "sub", "curve", "short", "shortsub"} {
		file := "openpgp-" + who + ".asc"
		ok("simple-"+who, file, teamRule, teamImage)
		ok("archive-"+who+".asc", file, localRule, localName)
	}
	refused("simple-ed", "openpgp-rsa.asc", teamRule, teamImage, "which is not a key of the rule")
	refused("archive-ed.asc", "openpgp-rsa.asc", localRule, localName, "which is not a key of the rule")
	for _, who := range []string{"revoked", "revokedsub"} {
		refused("simple-"+who, "openpgp-"+who+".asc", teamRule, teamImage, "is revoked")
		refused("archive-"+who+".asc", "openpgp-"+who+".asc", localRule, localName, "is revoked")
	}
	for _, who := range []string{"short", "shortsub"} {
		for _, evidence := range []string{"simple-" + who, "archive-" + who + ".asc"} {
			c := goldenCase{evidence, "openpgp-" + who + ".asc", teamRule, teamImage, 31, "expired on "}
			if strings.HasPrefix(evidence, "archive") {
				c.match, c.asked = localRule, localName
			}
			cases = append(cases, c)
		}
	}
	cases = append(cases, goldenCase{"simple-ed", "openpgp-ed.asc", teamRule, teamImage, -20000, "check the clock"})
	refused("simple-weak", "openpgp-weak.asc", teamRule, teamImage, "self-signature with the hash SHA-1")
	refused("simple-small", "openpgp-small.asc", teamRule, teamImage, "RSA key of 1024 bits")
	ok("simple-copy", "openpgp-rsa.gpg", teamRule, "127.0.0.1:5000/team/app:2")
	refused("simple-copy", "openpgp-rsa.asc", teamRule, teamImage, `is for tag "2", not for "1"`)
	refused("simple-elsewhere", "openpgp-rsa.asc", teamRule, teamImage, `is for repository "127.0.0.1:5000/team/other"`)
	refused("simple-otherdigest", "openpgp-rsa.asc", teamRule, teamImage, "is of another image")
	ok("simple-ed", "openpgp-both.asc", teamRule, teamImage)

	ok("archive-binary.sig", "openpgp-rsa.asc", localRule, localName)
	ok("archive-two.asc", "openpgp-rsa.asc", localRule, localName)
	ok("archive-two.asc", "openpgp-ed.asc", localRule, localName)
	ok("archive-sha512.asc", "openpgp-rsa.asc", localRule, localName)
	refused("archive-sha1.asc", "openpgp-rsa.asc", localRule, localName, "uses the hash SHA-1")
	refused("archive-text.asc", "openpgp-rsa.asc", localRule, localName, "only signatures over bytes")
	// An archive kept under a registry's name.
	ok("archive-rsa.asc", "openpgp-rsa.asc", exactly, teamImage)
	refused("archive-rsa.asc", "openpgp-rsa.asc", teamRule, teamImage, "names no repository")
	return cases
}

// checkGolden holds the recorded signatures against goldenCases.
func checkGolden(t *testing.T, g *golden) {
	for _, c := range goldenCases() {
		t.Run(fmt.Sprintf("%s by %s for %s as %s after %d days", c.evidence, c.key, c.match, c.asked, c.days), func(t *testing.T) {
			items := []Evidence{}
			if c.evidence != "" {
				items = append(items, g.evidence(t, c.evidence))
			}
			data, err := Marshal(items)
			if err != nil {
				t.Fatal(err)
			}
			if items, err = Unmarshal(data); err != nil {
				t.Fatal(err)
			}
			d := g.policy(t, keyRule(c.match, c.key)).Evaluate(g.subject(t, c.asked), items, g.made.AddDate(0, 0, c.days))
			checkDecision(t, d, c.reason)
		})
	}
}

// checkDecision: trusted when reason is "", else refused for that reason in
// one sentence.
func checkDecision(t *testing.T, d Decision, reason string) {
	t.Helper()
	if len(d.Steps) == 0 {
		t.Error("the decision explains nothing")
	}
	if reason == "" {
		if !d.Trusted || d.Err != nil || len(d.Keys) == 0 && !d.Unsigned {
			t.Errorf("got %+v, want trusted", d)
		}
		return
	}
	if d.Trusted || d.Err == nil || len(d.Keys) > 0 {
		t.Fatalf("got %+v, want refused: %s", d, reason)
	}
	message := d.Err.Error()
	if !strings.Contains(message, reason) {
		t.Errorf("refused because %q, want %q", message, reason)
	}
	if !strings.HasPrefix(message, "image \"") || strings.ContainsAny(message, "\n\x00") || len(message) > 1500 {
		t.Errorf("refusal is not one sentence about the image: %q", message)
	}
}

func TestGolden(t *testing.T) {
	checkGolden(t, readGolden(t, filepath.Join("testdata", "golden")))
}

// TestLive runs the real tools now instead of trusting what they once wrote.
func TestLive(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, tool := range []string{"docker-registry", "umoci", "skopeo", "gpg", "openssl", "jq", "curl", "ip", "unshare", "cosign2", "cosign3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s in PATH", tool)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command("testdata/record.sh", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	checkGolden(t, readGolden(t, dir))
}

func TestIndexSignatures(t *testing.T) {
	g := readGolden(t, filepath.Join("testdata", "golden"))
	for _, name := range []string{"cosign2-index", "cosign3-index"} {
		p := g.policy(t, keyRule(exactly, "cosign-default.pub"))
		s := g.subject(t, teamImage)
		items := []Evidence{g.evidence(t, name)}
		index := digest.FromBytes(g.index)
		t.Run(name, func(t *testing.T) {
			checkDecision(t, p.Evaluate(s, items, g.made), "is of another image")
			s.Index = index
			checkDecision(t, p.Evaluate(s, items, g.made), "the index at hand has another digest")
			s.IndexBody = append([]byte(" "), g.index...)
			checkDecision(t, p.Evaluate(s, items, g.made), "the index at hand has another digest")
			s.IndexBody = g.index
			checkDecision(t, p.Evaluate(s, items, g.made), "")
			s.Manifest = digest.FromString("another manifest")
			checkDecision(t, p.Evaluate(s, items, g.made), "does not list the manifest")
		})
	}
}
