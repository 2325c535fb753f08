package credential

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rkt/rkt/image/rkt-fetch/registry"
	"github.com/rkt/rkt/internal/config"
)

// helpers puts credential helpers, shell scripts, first into $PATH.
func helpers(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range scripts {
		if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func docker(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	helpers(t, map[string]string{
		"ok":      `read key; echo "{\"ServerURL\":\"x\",\"Username\":\"u-$key\",\"Secret\":\"s-$1\"}"`,
		"token":   `echo '{"Username":"<token>","Secret":"idt"}'`,
		"none":    `echo "credentials not found in native keychain"; exit 1`,
		"broken":  `echo "the key ring is locked"; exit 3`,
		"garbage": `echo 'topsecret'`,
		"endless": `yes topsecret`,
	})
	const alice = `"auth":"YWxpY2U6c2VjOnJldA=="` // alice:sec:ret
	for _, tc := range []struct {
		name, docker, host string
		want               registry.Credential
		wantErr            string
	}{
		{name: "auths", docker: `{"auths":{"reg.example:5000":{` + alice + `}}}`, host: "reg.example:5000", want: registry.Credential{User: "alice", Password: "sec:ret"}},
		{name: "another port", docker: `{"auths":{"reg.example:5000":{` + alice + `}}}`, host: "reg.example"},
		{name: "another host", docker: `{"auths":{"reg.example":{` + alice + `}}}`, host: "reg.example.org"},
		{name: "with scheme and path", docker: `{"auths":{"https://reg.example/v1/":{` + alice + `}}}`, host: "reg.example", want: registry.Credential{User: "alice", Password: "sec:ret"}},
		{name: "of one repository", docker: `{"auths":{"reg.example/team":{` + alice + `}}}`, host: "reg.example"},
		{name: "docker.io", docker: `{"auths":{"https://index.docker.io/v1/":{` + alice + `}}}`, host: "docker.io", want: registry.Credential{User: "alice", Password: "sec:ret"}},
		{name: "identity token", docker: `{"auths":{"reg.example":{` + alice + `,"identitytoken":"t"}}}`, host: "reg.example", want: registry.Credential{User: "alice", Password: "sec:ret", IdentityToken: "t"}},
		{name: "registry token", docker: `{"auths":{"reg.example":{"registrytoken":"t"}}}`, host: "reg.example", want: registry.Credential{BearerToken: "t"}},
		{name: "plain fields", docker: `{"auths":{"reg.example":{"username":"u","password":"p"}}}`, host: "reg.example", want: registry.Credential{User: "u", Password: "p"}},
		{name: "helper", docker: `{"credHelpers":{"reg.example":"ok"},"auths":{"reg.example":{` + alice + `}}}`, host: "reg.example", want: registry.Credential{User: "u-reg.example", Password: "s-get", Source: "docker-credential-ok"}},
		{name: "helper of docker.io", docker: `{"credHelpers":{"https://index.docker.io/v1/":"ok"}}`, host: "docker.io", want: registry.Credential{User: "u-https://index.docker.io/v1/", Password: "s-get", Source: "docker-credential-ok"}},
		{name: "helper of another host", docker: `{"credHelpers":{"other.example":"broken"}}`, host: "reg.example"},
		{name: "store", docker: `{"credsStore":"ok","auths":{"reg.example":{}}}`, host: "reg.example", want: registry.Credential{User: "u-reg.example", Password: "s-get", Source: "docker-credential-ok"}},
		{name: "token of a store", docker: `{"credsStore":"token"}`, host: "reg.example", want: registry.Credential{IdentityToken: "idt", Source: "docker-credential-token"}},
		{name: "store without it", docker: `{"credsStore":"none"}`, host: "reg.example"},
		{name: "empty file", docker: `{}`, host: "reg.example"},
		{name: "broken helper", docker: `{"credsStore":"broken"}`, host: "reg.example", wantErr: "docker-credential-broken: exit status 3: the key ring is locked"},
		{name: "missing helper", docker: `{"credsStore":"missing"}`, host: "reg.example", wantErr: "docker-credential-missing"},
		{name: "garbage", docker: `{"credsStore":"garbage"}`, host: "reg.example", wantErr: "not JSON"},
		{name: "endless", docker: `{"credsStore":"endless"}`, host: "reg.example", wantErr: "docker-credential-endless"},
		{name: "path as helper", docker: `{"credsStore":"../../tmp/x"}`, host: "reg.example", wantErr: "plain name"},
		{name: "not JSON", docker: `{"auths":`, host: "reg.example", wantErr: "find credentials for registry reg.example in"},
		{name: "not base64", docker: `{"auths":{"reg.example":{"auth":"%%"}}}`, host: "reg.example", wantErr: "base64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := docker(t, tc.docker)
			got, err := Finder{Docker: path}.Find(t.Context(), tc.host)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) || strings.Contains(err.Error(), "topsecret\"") {
					t.Errorf("error is %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if tc.want != (registry.Credential{}) && tc.want.Source == "" {
				tc.want.Source = path
			}
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestOwnConfigurationFirst(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "auth.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "auth.d/a.json")
	body := `{"rktKind":"auth","rktVersion":"v1","domains":["reg.example"],"type":"basic","credentials":{"user":"own","password":"p"}}`
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := Finder{Config: conf, Docker: docker(t, `{"auths":{"reg.example":{"username":"docker","password":"p"},"other.example":{"username":"docker","password":"p"}}}`)}
	for host, want := range map[string]string{"reg.example": "own", "other.example": "docker", "third.example": ""} {
		if cred, err := f.Find(t.Context(), host); err != nil || cred.User != want {
			t.Errorf("user for %s is %q, %v, want %q", host, cred.User, err, want)
		}
	}
}

func TestDockerConfig(t *testing.T) {
	for _, tc := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": "/root"}, "/root/.docker/config.json"},
		{map[string]string{"HOME": "/root", "DOCKER_CONFIG": "/etc/d"}, "/etc/d/config.json"},
		{map[string]string{}, ""},
	} {
		if got := DockerConfig(func(key string) string { return tc.env[key] }); got != tc.want {
			t.Errorf("with %v it is %q, want %q", tc.env, got, tc.want)
		}
	}
	if cred, err := (Finder{Docker: filepath.Join(t.TempDir(), "missing.json")}).Find(t.Context(), "reg.example"); err != nil || cred != (registry.Credential{}) {
		t.Errorf("without a file: %+v, %v", cred, err)
	}
}

func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"reg.example":{"auth":"YWxpY2U6cA=="}}}`), "reg.example")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body []byte, host string) {
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", "/nonexistent")
		_, err := Finder{Docker: path}.Find(t.Context(), host)
		if err != nil && strings.ContainsRune(strings.ReplaceAll(err.Error(), host, ""), '\n') {
			t.Errorf("error %q is more than one line", err)
		}
	})
}
