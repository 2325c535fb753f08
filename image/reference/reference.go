// Package reference reads the names under which images are asked for: names
// in registries, and images in local directories and archives.
//
// It never touches the network or the disk (a relative path is made absolute
// with the working directory, nothing is opened) and says nothing about
// whether an image exists. The grammar of registry names is that of
// https://github.com/distribution/reference; a first component is a host by
// docker's rule: it has a dot or a colon, or is "localhost".
package reference

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	defaultHost      = "docker.io"
	defaultNamespace = "library/"
	defaultTag       = "latest"

	maxPath  = 255 // as distribution: the length of host-less repository names
	maxTag   = 128
	maxHost  = 255
	maxInput = 4096 + 512 // a path of the file system and a name in it
)

// Reference is a name of an image. Either Local is set, or Host and Path.
// Values come from Parse and are canonical: equal names are equal values.
type Reference struct {
	Host   string        // "docker.io", "reg.example:5000", "[::1]:5000", in lower case
	Path   string        // "library/nginx"
	Tag    string        // never empty for a registry name without digest; for a local image the name inside it, or ""
	Digest digest.Digest // sha256 or sha512, or ""
	Local  string        // "oci:/dir", "oci-archive:/file", "docker-archive:/file", "file:/file" (kind unknown), absolute
}

// Parse reads
//
//	[docker://|docker:][HOST[:PORT]/]PATH[:TAG][@DIGEST]
//	oci:DIR[:NAME]  oci-archive:FILE[:NAME]  docker-archive:FILE[:NAME]
//	./FILE  ../FILE  /FILE  file:FILE  file://FILE
//
// Names without host are docker.io's, names there without a slash are in its
// "library", and a name with neither tag nor digest has the tag "latest".
func Parse(s string) (Reference, error) {
	r, err := parse(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image name %s: %w", quote(s), err)
	}
	return r, nil
}

func parse(s string) (Reference, error) {
	if s == "" {
		return Reference{}, fmt.Errorf("it is empty")
	}
	if len(s) > maxInput {
		return Reference{}, fmt.Errorf("it is longer than %d bytes", maxInput)
	}
	if r, ok, err := parseLocal(s); ok || err != nil {
		return r, err
	}
	rest, ok := strings.CutPrefix(s, "docker://")
	if !ok {
		rest, _ = strings.CutPrefix(s, "docker:")
	}
	if scheme, _, found := strings.Cut(rest, "://"); found {
		return Reference{}, fmt.Errorf("images do not come by %q, give a registry's name as host/path:tag, or oci:, oci-archive: or docker-archive: with a path", scheme+"://")
	}
	return parseRemote(rest)
}

func parseRemote(s string) (Reference, error) {
	var r Reference
	name, dgst, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if err := checkDigest(dgst); err != nil {
			return Reference{}, err
		}
		r.Digest = digest.Digest(dgst)
	}
	// A colon after the last slash starts the tag; one before it, a port.
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		r.Tag = name[i+1:]
		if err := checkTag(r.Tag); err != nil {
			return Reference{}, err
		}
		if looksLikeDigest(name[:i], r.Tag) {
			return Reference{}, fmt.Errorf("this is a digest without a repository, write HOST/PATH@%s", name)
		}
		name = name[:i]
	} else if !hasDigest {
		r.Tag = defaultTag
	}
	host, path := splitHost(name)
	host, err := canonicalHost(host)
	if err != nil {
		return Reference{}, err
	}
	if host == defaultHost && !strings.Contains(path, "/") {
		if isHex(path) && len(path) == 64 {
			return Reference{}, fmt.Errorf("a name of 64 hexadecimal digits would be taken for an image ID")
		}
		path = defaultNamespace + path
	}
	if err := checkPath(path); err != nil {
		return Reference{}, err
	}
	r.Host, r.Path = host, path
	return r, nil
}

// splitHost follows docker: what could be a path component is not a host.
func splitHost(name string) (host, path string) {
	first, rest, found := strings.Cut(name, "/")
	if !found {
		return defaultHost, name
	}
	if strings.ContainsAny(first, ".:") || first == "localhost" {
		return first, rest
	}
	return defaultHost, name
}

// IsLocal says that the image is in a directory or file, not in a registry.
func (r Reference) IsLocal() bool { return r.Local != "" }

// Repository is the name without tag and digest, "host/path", or Local.
// It is what the rules of the trust policy match.
func (r Reference) Repository() string {
	if r.IsLocal() {
		return r.Local
	}
	return r.Host + "/" + r.Path
}

// String is the canonical form. Parse gives it back as the same Reference.
func (r Reference) String() string {
	s := r.Repository()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// quote shows at most the start of what may be anything.
func quote(s string) string {
	const shown = 200
	if len(s) > shown {
		return fmt.Sprintf("%q…", s[:shown])
	}
	return fmt.Sprintf("%q", s)
}
