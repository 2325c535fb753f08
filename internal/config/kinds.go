package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

type basicJSON struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

func (b basicJSON) credential(file string) (Credential, error) {
	switch {
	case b.User == "":
		return Credential{}, errors.New("field \"credentials.user\" is missing")
	case strings.ContainsRune(b.User, ':'):
		return Credential{}, errors.New("field \"credentials.user\" has a colon, which no HTTP user name can have")
	case b.Password == "":
		return Credential{}, errors.New("field \"credentials.password\" is missing")
	}
	return Credential{User: b.User, Password: b.Password, File: file}, nil
}

type authJSON struct {
	header
	Domains     []string        `json:"domains"`
	Type        string          `json:"type"`
	Credentials json.RawMessage `json:"credentials"`
}

func (l *level) addAuth(doc *document) error {
	var auth authJSON
	if err := doc.read(&auth); err != nil {
		return err
	}
	cred, err := auth.credential(doc.path)
	if err != nil {
		return err
	}
	return addCredential(l.auth, "domains", auth.Domains, cred)
}

func (a authJSON) credential(file string) (Credential, error) {
	switch a.Type {
	case "":
		return Credential{}, errors.New("field \"type\" is missing")
	case "basic", "oauth":
	case "aws":
		return Credential{}, errors.New("field \"type\" is \"aws\", which no registry understands; use the credential helper docker-credential-ecr-login in the docker configuration instead")
	default:
		return Credential{}, fmt.Errorf("field \"type\" is %q, known are \"basic\" and \"oauth\"", a.Type)
	}
	if a.Credentials == nil {
		return Credential{}, errors.New("field \"credentials\" is missing")
	}
	if a.Type == "basic" {
		var basic basicJSON
		if err := decode(a.Credentials, &basic, true); err != nil {
			return Credential{}, fmt.Errorf("field \"credentials\": %w", err)
		}
		return basic.credential(file)
	}
	var oauth struct {
		Token string `json:"token"`
	}
	if err := decode(a.Credentials, &oauth, true); err != nil {
		return Credential{}, fmt.Errorf("field \"credentials\": %w", err)
	}
	if oauth.Token == "" {
		return Credential{}, errors.New("field \"credentials.token\" is missing")
	}
	for _, c := range []byte(oauth.Token) {
		if c <= ' ' || c >= 0x7f {
			return Credential{}, errors.New("field \"credentials.token\" has a character that no HTTP header can carry")
		}
	}
	return Credential{Token: oauth.Token, File: file}, nil
}

type dockerAuthJSON struct {
	header
	Registries  []string   `json:"registries"`
	Credentials *basicJSON `json:"credentials"`
}

func (l *level) addDockerAuth(doc *document) error {
	var auth dockerAuthJSON
	if err := doc.read(&auth); err != nil {
		return err
	}
	if auth.Credentials == nil {
		return errors.New("field \"credentials\" is missing")
	}
	cred, err := auth.Credentials.credential(doc.path)
	if err != nil {
		return err
	}
	return addCredential(l.dockerAuth, "registries", auth.Registries, cred)
}

func addCredential(to map[string]found[Credential], field string, hosts []string, cred Credential) error {
	return eachHost(field, hosts, func(host string) error {
		return add(to, field, host, cred, cred.File)
	})
}

// add refuses a second file of the same directory for one host: which of two
// wins must not hang on their names.
func add[T any](to map[string]found[T], field, host string, value T, file string) error {
	if before, ok := to[host]; ok {
		return fmt.Errorf("field %q names %q, which is already configured by %q", field, host, before.file)
	}
	to[host] = found[T]{value, file}
	return nil
}

func eachHost(field string, hosts []string, do func(host string) error) error {
	if len(hosts) == 0 {
		return fmt.Errorf("field %q is missing or empty", field)
	}
	for _, name := range hosts {
		host, err := parseHost(name)
		if err != nil {
			return fmt.Errorf("field %q: %w", field, err)
		}
		if err := do(host); err != nil {
			return err
		}
	}
	return nil
}

type pathsJSON struct {
	header
	Data         string `json:"data"`
	Stage1Images string `json:"stage1-images"`
}

func (l *level) addPaths(doc *document) error {
	var paths pathsJSON
	if err := doc.read(&paths); err != nil {
		return err
	}
	if err := setPath(&l.paths.Data, "data", paths.Data, doc.path); err != nil {
		return err
	}
	return setPath(&l.paths.Stage1Images, "stage1-images", paths.Stage1Images, doc.path)
}

func setPath(to *found[string], field, path, file string) error {
	if path == "" {
		return nil
	}
	if to.value != "" {
		return fmt.Errorf("field %q is already configured by %q", field, to.file)
	}
	if err := checkAbsolute(field, path); err != nil {
		return err
	}
	*to = found[string]{path, file}
	return nil
}

func checkAbsolute(field, path string) error {
	if path != "" && !filepath.IsAbs(path) {
		return fmt.Errorf("field %q is %q, which is not an absolute path", field, path)
	}
	return nil
}

type registryJSON struct {
	header
	Registries        []string `json:"registries"`
	Mirrors           []string `json:"mirrors"`
	CA                string   `json:"ca"`
	ClientCertificate string   `json:"clientCertificate"`
	ClientKey         string   `json:"clientKey"`
	Lookaside         string   `json:"lookaside"`
}

func (l *level) addRegistry(doc *document) error {
	var file registryJSON
	if err := doc.read(&file); err != nil {
		return err
	}
	registry, err := file.registry()
	if err != nil {
		return err
	}
	return eachHost("registries", file.Registries, func(host string) error {
		return add(l.registries, "registries", host, registry, doc.path)
	})
}

func (r registryJSON) registry() (Registry, error) {
	reg := Registry{CA: r.CA, ClientCertificate: r.ClientCertificate, ClientKey: r.ClientKey}
	if r.Mirrors != nil {
		reg.Mirrors = []string{}
	}
	for _, name := range r.Mirrors {
		mirror, err := parseMirror(name)
		if err != nil {
			return Registry{}, fmt.Errorf("field \"mirrors\": %w", err)
		}
		reg.Mirrors = append(reg.Mirrors, mirror)
	}
	for _, path := range []struct{ field, value string }{
		{"ca", r.CA}, {"clientCertificate", r.ClientCertificate}, {"clientKey", r.ClientKey},
	} {
		if err := checkAbsolute(path.field, path.value); err != nil {
			return Registry{}, err
		}
	}
	if (r.ClientCertificate == "") != (r.ClientKey == "") {
		return Registry{}, errors.New("of the fields \"clientCertificate\" and \"clientKey\" only one is given, a certificate is of no use without its key")
	}
	if r.Lookaside != "" {
		if err := checkLookaside(r.Lookaside); err != nil {
			return Registry{}, fmt.Errorf("field \"lookaside\": %w", err)
		}
		reg.Lookaside = strings.TrimRight(r.Lookaside, "/")
	}
	return reg, nil
}

func checkLookaside(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("%q is not a URL: %w", raw, errors.Unwrap(err))
	}
	switch {
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path):
	case u.Scheme == "https" && u.Host != "":
	default:
		return fmt.Errorf("%q is neither https://HOST/… nor file:///…", raw)
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q has a query, a fragment or a user, which a lookaside cannot have", raw)
	}
	return nil
}
