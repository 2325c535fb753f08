// Package credential finds what a registry is shown when it asks who we are:
// in rkt's configuration, in docker's, or by asking a credential helper.
//
// It is asked before anything is read from the network and before rkt-fetch
// gives up its rights: a helper is somebody else's program, which may need a
// key ring, an agent or a network of its own. It stores nothing. The formats
// are those of ~/.docker/config.json and
// https://github.com/docker/docker-credential-helpers .
package credential

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt/rkt/image/rkt-fetch/registry"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
	"github.com/rkt/rkt/internal/config"
)

const (
	maxDockerConfig = 1 << 20
	maxHelperOutput = 256 << 10
	helperTimeout   = 30 * time.Second

	hub       = "docker.io"
	hubKey    = "https://index.docker.io/v1/" // docker's name for docker.io
	tokenUser = "<token>"                     // a helper's way to say that the secret is an identity token
)

// Finder finds credentials. The zero value finds none.
type Finder struct {
	Config *config.Config // rkt's own, asked first; or nil
	Docker string         // docker's config.json, "" for none; need not exist
}

// DockerConfig is where docker's configuration is for the caller: in
// $DOCKER_CONFIG or $HOME/.docker, or "" when neither is known.
func DockerConfig(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".docker", "config.json")
	}
	return ""
}

// Find returns the credential for a registry ("host[:port]", as in image
// names). Nobody having one is the zero value, an anonymous user, and no error.
func (f Finder) Find(ctx context.Context, host string) (registry.Credential, error) {
	if f.Config != nil {
		if cred, ok := f.Config.Credential(host); ok {
			return registry.Credential{User: cred.User, Password: cred.Password, BearerToken: cred.Token, Source: cred.File}, nil
		}
	}
	if f.Docker == "" {
		return registry.Credential{}, nil
	}
	cred, err := f.fromDocker(ctx, host)
	if err != nil {
		return registry.Credential{}, fmt.Errorf("find credentials for registry %s in %q: %w", host, f.Docker, err)
	}
	return cred, nil
}

type dockerConfig struct {
	Auths   map[string]dockerAuth `json:"auths"`
	Store   string                `json:"credsStore"`
	Helpers map[string]string     `json:"credHelpers"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	User          string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func (f Finder) fromDocker(ctx context.Context, host string) (registry.Credential, error) {
	data, err := read(f.Docker)
	if errors.Is(err, fs.ErrNotExist) {
		return registry.Credential{}, nil
	}
	if err != nil {
		return registry.Credential{}, err
	}
	var conf dockerConfig
	if err := json.Unmarshal(data, &conf); err != nil {
		return registry.Credential{}, errors.New(transport.OneLine(err.Error()))
	}
	for _, key := range keys(host) {
		if helper := conf.Helpers[key]; helper != "" {
			return ask(ctx, helper, key)
		}
	}
	for key, auth := range conf.Auths {
		if !sameHost(key, host) || auth == (dockerAuth{}) {
			continue
		}
		cred, err := auth.credential()
		if err != nil {
			return cred, fmt.Errorf("entry %q: %w", key, err)
		}
		cred.Source = f.Docker
		return cred, nil
	}
	if conf.Store != "" {
		return ask(ctx, conf.Store, keys(host)[0])
	}
	return registry.Credential{}, nil
}

// keys are the names under which docker keeps a registry, its own first.
func keys(host string) []string {
	if host == hub {
		return []string{hubKey, hub, "index.docker.io", "registry-1.docker.io"}
	}
	return []string{host, "https://" + host, "https://" + host + "/"}
}

// sameHost reports whether a key of "auths" is for a registry. Old ones carry
// a scheme and the path of an API; others name a repository, and are not used
// for other repositories of that registry.
func sameHost(key, host string) bool {
	name := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	name, path, _ := strings.Cut(name, "/")
	if path = strings.Trim(path, "/"); path != "" && path != "v1" && path != "v2" {
		return false
	}
	if name == "index.docker.io" || name == "registry-1.docker.io" {
		name = hub
	}
	return strings.EqualFold(name, host)
}

func (a dockerAuth) credential() (registry.Credential, error) {
	cred := registry.Credential{User: a.User, Password: a.Password, IdentityToken: a.IdentityToken, BearerToken: a.RegistryToken}
	if a.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(strings.TrimRight(a.Auth, "\x00"))
		user, password, found := strings.Cut(string(plain), ":")
		if err != nil || !found {
			return registry.Credential{}, errors.New("its field \"auth\" is not USER:PASSWORD in base64")
		}
		cred.User, cred.Password = user, strings.Trim(password, "\x00")
	}
	return cred, nil
}

// ask runs "docker-credential-NAME get". Its standard error is the user's: it
// may ask for a passphrase there.
func ask(ctx context.Context, name, key string) (registry.Credential, error) {
	program := "docker-credential-" + name
	if strings.ContainsRune(name, '/') {
		return registry.Credential{}, fmt.Errorf("credential helper %q must be a plain name", name)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	var out limited
	command := exec.CommandContext(ctx, program, "get")
	command.Stdin = strings.NewReader(key)
	command.Stdout = &out
	command.Stderr = os.Stderr
	command.WaitDelay = time.Second
	err := command.Run()
	if cause := ctx.Err(); errors.Is(cause, context.DeadlineExceeded) {
		return registry.Credential{}, fmt.Errorf("credential helper %s does not answer for %s", program, helperTimeout)
	}
	if err != nil && strings.Contains(out.said.String(), "credentials not found") {
		return registry.Credential{}, nil
	}
	if err != nil {
		if said := transport.OneLine(out.said.String()); said != "" {
			return registry.Credential{}, fmt.Errorf("credential helper %s: %w: %s", program, err, said)
		}
		return registry.Credential{}, fmt.Errorf("credential helper %s: %w", program, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.said.Bytes(), &answer); err != nil {
		// Not the parser's words: they may quote the secret.
		return registry.Credential{}, fmt.Errorf("credential helper %s answers with something that is not JSON", program)
	}
	cred := registry.Credential{User: answer.Username, Password: answer.Secret, Source: program}
	if answer.Username == tokenUser {
		cred = registry.Credential{IdentityToken: answer.Secret, Source: program}
	}
	return cred, nil
}

// limited keeps what a helper says, up to a limit. The buffer is not embedded:
// its ReadFrom would go around the limit.
type limited struct{ said bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.said.Len()+len(p) > maxHelperOutput {
		return 0, errors.New("it answers without end")
	}
	return l.said.Write(p)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxDockerConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxDockerConfig {
		return nil, fmt.Errorf("it is larger than %d bytes", maxDockerConfig)
	}
	return data, nil
}
