// Package config reads rkt's configuration files: credentials of registries,
// how registries are reached, and where things are kept.
//
// Files are *.json in one directory per kind (auth.d, paths.d, registry.d)
// below up to three configuration directories, of which a later one overrides
// an earlier one field by field: the vendor's, the administrator's, the
// user's. Names of files mean nothing. What is not understood is an error that
// names file and field, never ignored: a misspelt field may be the one that
// protects something. Files may be symbolic links, but must then lead to a
// regular file.
//
// The package only reads; trust policies and networks are not its business.
// Every kind and field is described in Documentation/configuration.md.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt/rkt/internal/smallfile"
)

// maxFile bounds one configuration file.
const maxFile = 1 << 20

// DefaultDir is where images and pods are kept when nothing else is said.
const DefaultDir = "/var/lib/rkt"

// Config is the merged configuration. The zero value is an empty one.
type Config struct {
	Paths Paths

	auth       map[string]Credential
	dockerAuth map[string]Credential
	registries map[string]Registry
}

// Paths says where things are kept; "" is not configured.
type Paths struct {
	Data         string // images and pods
	Stage1Images string
}

// Credential is how one registry is told who asks: either User and Password,
// or Token, which is sent as a bearer token. File is where it was found.
type Credential struct {
	User     string
	Password string
	Token    string
	File     string
}

// Registry is how one registry is reached. Empty fields are not configured.
type Registry struct {
	Mirrors           []string // "host[:port][/prefix]", asked first, in this order
	CA                string   // file of PEM certificates trusted for this host besides the system's
	ClientCertificate string   // file of a PEM certificate to show this host
	ClientKey         string   // file of its PEM key
	Lookaside         string   // base URL of OpenPGP simple signatures
}

// Load reads and merges configuration directories, a later one overriding an
// earlier one. An empty name is skipped, a directory that does not exist is
// an empty one.
func Load(dirs ...string) (*Config, error) {
	merged := &Config{}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		level, err := loadLevel(dir)
		if err != nil {
			return nil, err
		}
		merged.override(level)
	}
	return merged, nil
}

// Credential returns what is configured for a registry ("host[:port]", as in
// image names). Credentials of kind dockerAuth, made for registries only, go
// before those of kind auth.
func (c *Config) Credential(host string) (Credential, bool) {
	host = sameHub(host)
	if cred, ok := c.dockerAuth[host]; ok {
		return cred, true
	}
	cred, ok := c.auth[host]
	return cred, ok
}

// Registry returns what is configured for a registry ("host[:port]").
func (c *Config) Registry(host string) Registry { return c.registries[sameHub(host)] }

// DataDir is the directory of images and pods: the flag --dir if it was given,
// else the configured one, else DefaultDir; absolute and without links, also
// when it or its last parts do not exist yet.
func (c *Config) DataDir(flag string) (string, error) {
	dir := flag
	if dir == "" {
		dir = c.Paths.Data
	}
	if dir == "" {
		dir = DefaultDir
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("make directory %q absolute: %w", dir, err)
	}
	var missing []string
	for at := abs; ; at = filepath.Dir(at) {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			return filepath.Join(append([]string{real}, missing...)...), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return "", fmt.Errorf("resolve directory %q: %w", dir, err)
		}
		missing = append([]string{filepath.Base(at)}, missing...)
	}
}

func (c *Config) override(level *level) {
	c.auth = overlay(c.auth, level.auth)
	c.dockerAuth = overlay(c.dockerAuth, level.dockerAuth)
	if level.paths.Data.value != "" {
		c.Paths.Data = level.paths.Data.value
	}
	if level.paths.Stage1Images.value != "" {
		c.Paths.Stage1Images = level.paths.Stage1Images.value
	}
	for host, over := range level.registries {
		if c.registries == nil {
			c.registries = map[string]Registry{}
		}
		c.registries[host] = c.registries[host].overridden(over.value)
	}
}

func overlay(base map[string]Credential, over map[string]found[Credential]) map[string]Credential {
	for host, cred := range over {
		if base == nil {
			base = map[string]Credential{}
		}
		base[host] = cred.value
	}
	return base
}

func (r Registry) overridden(by Registry) Registry {
	if by.Mirrors != nil {
		r.Mirrors = by.Mirrors
	}
	if by.CA != "" {
		r.CA = by.CA
	}
	if by.ClientCertificate != "" {
		r.ClientCertificate, r.ClientKey = by.ClientCertificate, by.ClientKey
	}
	if by.Lookaside != "" {
		r.Lookaside = by.Lookaside
	}
	return r
}

// found is a value with the file that it came from.
type found[T any] struct {
	value T
	file  string
}

// level is what one configuration directory says.
type level struct {
	auth       map[string]found[Credential]
	dockerAuth map[string]found[Credential]
	registries map[string]found[Registry]
	paths      struct{ Data, Stage1Images found[string] }
}

func loadLevel(dir string) (*level, error) {
	l := &level{
		auth:       map[string]found[Credential]{},
		dockerAuth: map[string]found[Credential]{},
		registries: map[string]found[Registry]{},
	}
	for _, kindDir := range []struct {
		name  string
		kinds map[string]func(doc *document) error
	}{
		{"auth.d", map[string]func(*document) error{"auth": l.addAuth, "dockerAuth": l.addDockerAuth}},
		{"paths.d", map[string]func(*document) error{"paths": l.addPaths}},
		{"registry.d", map[string]func(*document) error{"registry": l.addRegistry}},
	} {
		files, err := listFiles(filepath.Join(dir, kindDir.name))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if err := loadFile(file, kindDir.name, kindDir.kinds); err != nil {
				return nil, fmt.Errorf("configuration file %q: %w", file, err)
			}
		}
	}
	return l, nil
}

// listFiles returns the *.json files of a directory, sorted by name.
func listFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration directory %q: %w", dir, err)
	}
	var files []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".json") && !entry.IsDir() {
			files = append(files, filepath.Join(dir, entry.Name()))
		}
	}
	return files, nil
}

func loadFile(path, dir string, kinds map[string]func(doc *document) error) error {
	data, err := smallfile.Read(path, maxFile)
	if err != nil {
		return err
	}
	doc, err := parseDocument(path, data)
	if err != nil {
		return err
	}
	add, ok := kinds[doc.kind]
	if !ok {
		return fmt.Errorf("field \"rktKind\" is %q, which does not belong in %s", doc.kind, dir)
	}
	return add(doc)
}
