package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write makes a configuration directory of files named "auth.d/x.json".
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	basicFile = `{"rktKind":"auth","rktVersion":"v1","domains":["reg.example","Other.example:5000"],"type":"basic","credentials":{"user":"u","password":"vendor"}}`
	tokenFile = `{"rktKind":"auth","rktVersion":"v1","domains":["reg.example"],"type":"oauth","credentials":{"token":"tok"}}`
	hubFile   = `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["registry-1.docker.io"],"credentials":{"user":"h","password":"p"}}`
)

func TestLaterDirectoryOverrides(t *testing.T) {
	system := write(t, map[string]string{
		"auth.d/a.json":  basicFile,
		"paths.d/p.json": `{"rktKind":"paths","rktVersion":"v1","data":"/srv/rkt","stage1-images":"/srv/stage1"}`,
		"registry.d/r.json": `{"rktKind":"registry","rktVersion":"v1","registries":["reg.example"],
			"mirrors":["m.example:5000/cache"],"ca":"/etc/ca.pem","lookaside":"https://sigs.example/x/"}`,
		"auth.d/ignored.txt": "not JSON",
	})
	local := write(t, map[string]string{
		"auth.d/zzz.json":      tokenFile,
		"auth.d/hub.json":      hubFile,
		"paths.d/p.json":       `{"rktKind":"paths","rktVersion":"v1","data":"/data"}`,
		"registry.d/own.json":  `{"rktKind":"registry","rktVersion":"v1","registries":["reg.example"],"mirrors":[]}`,
		"registry.d/sub/x.jso": "",
	})
	c, err := Load(system, "", local, filepath.Join(local, "does-not-exist"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Paths{Data: "/data", Stage1Images: "/srv/stage1"}); c.Paths != want {
		t.Errorf("paths are %+v, want %+v", c.Paths, want)
	}
	for host, want := range map[string]Credential{
		"reg.example":          {Token: "tok", File: filepath.Join(local, "auth.d/zzz.json")},
		"other.example:5000":   {User: "u", Password: "vendor", File: filepath.Join(system, "auth.d/a.json")},
		"docker.io":            {User: "h", Password: "p", File: filepath.Join(local, "auth.d/hub.json")},
		"registry-1.docker.io": {User: "h", Password: "p", File: filepath.Join(local, "auth.d/hub.json")},
	} {
		got, ok := c.Credential(host)
		if !ok || got != want {
			t.Errorf("credential of %s is %+v, %v, want %+v", host, got, ok, want)
		}
	}
	if cred, ok := c.Credential("reg.example.org"); ok {
		t.Errorf("a host that nobody configured got the credential %+v", cred)
	}
	want := Registry{Mirrors: []string{}, CA: "/etc/ca.pem", Lookaside: "https://sigs.example/x"}
	if diff := cmp.Diff(want, c.Registry("reg.example")); diff != "" {
		t.Errorf("registry: %s", diff)
	}
}

func TestRefusedFilesNameFileAndField(t *testing.T) {
	const head = `"rktVersion":"v1"`
	for _, tc := range []struct {
		name, file, body string
		want             []string
	}{
		{"not JSON", "auth.d/x.json", "{\n\n]", []string{"line 3"}},
		{"truncated", "auth.d/x.json", `{"rktKind":"auth"`, []string{"ends before"}},
		{"empty", "auth.d/x.json", ``, []string{"ends before"}},
		{"an array", "auth.d/x.json", `[]`, []string{"array", "object"}},
		{"two documents", "auth.d/x.json", tokenFile + "{}", []string{"after the end"}},
		{"no kind", "auth.d/x.json", `{` + head + `}`, []string{`"rktKind"`, "missing"}},
		{"no version", "auth.d/x.json", `{"rktKind":"auth"}`, []string{`"rktVersion"`, "missing"}},
		{"future version", "auth.d/x.json", `{"rktKind":"auth","rktVersion":"v2"}`, []string{`"rktVersion"`, `"v2"`}},
		{"kind of another directory", "auth.d/x.json", `{"rktKind":"paths",` + head + `}`, []string{`"paths"`, "auth.d"}},
		{"unknown field", "auth.d/x.json", strings.Replace(tokenFile, `"type"`, `"domain":"x","type"`, 1), []string{`"domain"`, "unknown"}},
		{"unknown inner field", "auth.d/x.json", strings.Replace(basicFile, `"user":"u"`, `"user":"u","pass":"x"`, 1), []string{`"credentials"`, `"pass"`}},
		{"wrong type", "auth.d/x.json", strings.Replace(tokenFile, `["reg.example"]`, `"reg.example"`, 1), []string{`"domains"`, "string"}},
		{"no domains", "auth.d/x.json", strings.Replace(tokenFile, `["reg.example"]`, `[]`, 1), []string{`"domains"`}},
		{"domain with path", "auth.d/x.json", strings.Replace(tokenFile, `reg.example`, `reg.example/team`, 1), []string{`"domains"`, "reg.example/team"}},
		{"domain with scheme", "auth.d/x.json", strings.Replace(tokenFile, `reg.example`, `https://reg.example`, 1), []string{`"domains"`}},
		{"bad port", "auth.d/x.json", strings.Replace(tokenFile, `reg.example`, `reg.example:99999`, 1), []string{`"domains"`, "99999"}},
		{"type missing", "auth.d/x.json", strings.Replace(tokenFile, `"type":"oauth",`, ``, 1), []string{`"type"`, "missing"}},
		{"type unknown", "auth.d/x.json", strings.Replace(tokenFile, `oauth`, `digest`, 1), []string{`"type"`, `"digest"`}},
		{"type aws", "auth.d/x.json", strings.Replace(tokenFile, `oauth`, `aws`, 1), []string{`"type"`, "ecr-login"}},
		{"no user", "auth.d/x.json", strings.Replace(basicFile, `"user":"u",`, ``, 1), []string{`"credentials.user"`}},
		{"colon in user", "auth.d/x.json", strings.Replace(basicFile, `"user":"u"`, `"user":"u:v"`, 1), []string{`"credentials.user"`}},
		{"no password", "auth.d/x.json", strings.Replace(hubFile, `"password":"p"`, `"password":""`, 1), []string{`"credentials.password"`}},
		{"newline in token", "auth.d/x.json", strings.Replace(tokenFile, `"tok"`, `"t\nX: y"`, 1), []string{`"credentials.token"`}},
		{"relative path", "paths.d/x.json", `{"rktKind":"paths",` + head + `,"data":"rkt"}`, []string{`"data"`, `"rkt"`}},
		{"relative CA", "registry.d/x.json", `{"rktKind":"registry",` + head + `,"registries":["a.b"],"ca":"ca.pem"}`, []string{`"ca"`, "ca.pem"}},
		{"certificate without key", "registry.d/x.json", `{"rktKind":"registry",` + head + `,"registries":["a.b"],"clientCertificate":"/c"}`, []string{`"clientKey"`}},
		{"mirror with scheme", "registry.d/x.json", `{"rktKind":"registry",` + head + `,"registries":["a.b"],"mirrors":["http://m"]}`, []string{`"mirrors"`, "http://m"}},
		{"mirror with dots", "registry.d/x.json", `{"rktKind":"registry",` + head + `,"registries":["a.b"],"mirrors":["m.example/../x"]}`, []string{`"mirrors"`}},
		{"plain HTTP lookaside", "registry.d/x.json", `{"rktKind":"registry",` + head + `,"registries":["a.b"],"lookaside":"http://sigs"}`, []string{`"lookaside"`, "https://"}},
		{"lookaside with user", "registry.d/x.json", `{"rktKind":"registry",` + head + `,"registries":["a.b"],"lookaside":"https://u:p@sigs/"}`, []string{`"lookaside"`}},
		{"too large", "auth.d/x.json", strings.Repeat(" ", maxFile+1), []string{"larger"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, map[string]string{tc.file: tc.body})
			c, err := Load(dir)
			if err == nil {
				t.Fatalf("it was read as %+v", c)
			}
			for _, want := range append(tc.want, filepath.Join(dir, tc.file)) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q is more than one line", err)
			}
		})
	}
}

func TestDuplicatesInOneDirectoryAreRefused(t *testing.T) {
	paths := `{"rktKind":"paths","rktVersion":"v1","data":"/a"}`
	registry := `{"rktKind":"registry","rktVersion":"v1","registries":["a.b"]}`
	for name, files := range map[string]map[string]string{
		"auth":       {"auth.d/1.json": basicFile, "auth.d/2.json": tokenFile},
		"dockerAuth": {"auth.d/1.json": hubFile, "auth.d/2.json": strings.Replace(hubFile, "registry-1.docker.io", "docker.io", 1)},
		"paths":      {"paths.d/1.json": paths, "paths.d/2.json": paths},
		"registry":   {"registry.d/1.json": registry, "registry.d/2.json": registry},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, files))
			if err == nil || !strings.Contains(err.Error(), "1.json") || !strings.Contains(err.Error(), "2.json") {
				t.Errorf("error is %v, want one that names both files", err)
			}
		})
	}
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	t.Run("link to a file", func(t *testing.T) {
		dir := write(t, map[string]string{"real": tokenFile, "auth.d/other.json": hubFile})
		if err := os.Symlink("../real", filepath.Join(dir, "auth.d/link.json")); err != nil {
			t.Fatal(err)
		}
		c, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if cred, ok := c.Credential("reg.example"); !ok || cred.Token != "tok" {
			t.Errorf("credential behind a link is %+v, %v", cred, ok)
		}
	})
	t.Run("dangling link", func(t *testing.T) {
		dir := write(t, map[string]string{"auth.d/other.json": hubFile})
		if err := os.Symlink("nowhere", filepath.Join(dir, "auth.d/link.json")); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "link.json") {
			t.Errorf("error is %v, want one that names link.json", err)
		}
	})
	t.Run("fifo", func(t *testing.T) {
		dir := write(t, map[string]string{"auth.d/other.json": hubFile})
		if err := syscall.Mkfifo(filepath.Join(dir, "auth.d/fifo.json"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("error is %v, want one about a file that is not regular", err)
		}
	})
}

func TestEntriesMaskSecretsAndReadBack(t *testing.T) {
	dir := write(t, map[string]string{
		"auth.d/a.json": tokenFile, "auth.d/hub.json": hubFile,
		"auth.d/b.json":     strings.Replace(basicFile, `"reg.example",`, "", 1),
		"paths.d/p.json":    `{"rktKind":"paths","rktVersion":"v1","data":"/data"}`,
		"registry.d/r.json": `{"rktKind":"registry","rktVersion":"v1","registries":["reg.example"],"mirrors":["m.example/p"],"lookaside":"file:///sigs"}`,
	})
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(c.Entries(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{`"tok"`, `"vendor"`, `"p"`} {
		if strings.Contains(string(shown), secret) {
			t.Errorf("masked entries show the secret %s: %s", secret, shown)
		}
	}
	files := map[string]string{}
	for i, entry := range c.Entries(true) {
		body, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		var head header
		if err := json.Unmarshal(body, &head); err != nil {
			t.Fatal(err)
		}
		sub := strings.Replace(head.Kind, "dockerAuth", "auth", 1) + ".d"
		files[filepath.Join(sub, string(rune('a'+i))+".json")] = string(body)
	}
	again, err := Load(write(t, files))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(c.Entries(true))
	after, err := json.Marshal(again.Entries(true))
	if err != nil || string(before) != string(after) {
		t.Errorf("printed entries read back as %s, %v, want %s", after, err, before)
	}
}

func TestDataDir(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	if err := os.Mkdir(real, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	configured := Config{Paths: Paths{Data: filepath.Join(dir, "link")}}
	for _, tc := range []struct{ name, flag, want string }{
		{"configured", "", real},
		{"flag wins", filepath.Join(dir, "new", "deep"), filepath.Join(dir, "new", "deep")},
		{"missing below a link", filepath.Join(dir, "link", "new"), filepath.Join(real, "new")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := configured.DataDir(tc.flag)
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
	if got, err := configured.DataDir(filepath.Join(dir, "file", "x")); err == nil {
		t.Errorf("a directory below a file was resolved to %q", got)
	}
}

func FuzzLoadFile(f *testing.F) {
	for _, seed := range []string{basicFile, tokenFile, hubFile, `{"rktKind":"registry","rktVersion":"v1","registries":["[::1]:5000"],"mirrors":["m/x"]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseDocument("fuzz.json", data)
		if err != nil {
			return
		}
		l := &level{auth: map[string]found[Credential]{}, dockerAuth: map[string]found[Credential]{}, registries: map[string]found[Registry]{}}
		switch doc.kind {
		case "auth":
			err = l.addAuth(doc)
		case "dockerAuth":
			err = l.addDockerAuth(doc)
		case "registry":
			err = l.addRegistry(doc)
		case "paths":
			err = l.addPaths(doc)
		}
		if err != nil && strings.Contains(err.Error(), "%!") {
			t.Errorf("error %q is badly formatted", err)
		}
		for host := range l.auth {
			if again, err := parseHost(host); err != nil || again != host {
				t.Errorf("host %q reads back as %q, %v", host, again, err)
			}
		}
	})
}
