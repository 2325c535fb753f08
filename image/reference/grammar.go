package reference

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

// checkPath allows components of lower case letters and digits, separated
// inside by one dot, one or two underscores, or any number of dashes.
func checkPath(path string) error {
	if path == "" {
		return fmt.Errorf("it has no repository path")
	}
	if len(path) > maxPath {
		return fmt.Errorf("its path is longer than %d bytes", maxPath)
	}
	for part := range strings.SplitSeq(path, "/") {
		if err := checkComponent(part); err != nil {
			return err
		}
	}
	return nil
}

func checkComponent(part string) error {
	if part == "" {
		return fmt.Errorf("its path has an empty component")
	}
	for i, c := range part {
		switch {
		case c < 0x80 && (isLower(byte(c)) || isDigit(byte(c))), c == '.', c == '_', c == '-':
		case c < 0x80 && isUpper(byte(c)):
			return fmt.Errorf("its path has the upper case letter %q, only lower case is allowed", c)
		default:
			return fmt.Errorf("its path has the character %q at %s, allowed are a-z, 0-9 and the separators . _ -", c, quote(part[i:]))
		}
	}
	isSeparator := func(c rune) bool { return c == '.' || c == '_' || c == '-' }
	for len(part) > 0 {
		word := strings.IndexFunc(part, isSeparator)
		if word < 0 {
			return nil
		}
		separator := part[word:]
		rest := strings.TrimLeftFunc(separator, isSeparator)
		separator = separator[:len(separator)-len(rest)]
		if word == 0 || rest == "" {
			return fmt.Errorf("the path component %q starts or ends with a separator", part)
		}
		if separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "" {
			return fmt.Errorf("its path has %q, separators inside a component are one dot, one or two underscores, or dashes", separator)
		}
		part = rest
	}
	return nil
}

func checkTag(tag string) error {
	if tag == "" {
		return fmt.Errorf("its tag is empty")
	}
	if len(tag) > maxTag {
		return fmt.Errorf("its tag is longer than %d bytes", maxTag)
	}
	for i, c := range tag {
		word := c < 0x80 && (isLower(byte(c)) || isUpper(byte(c)) || isDigit(byte(c))) || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("its tag %q has the character %q, allowed are letters, digits, _ and, after the first, . and -", tag, c)
		}
	}
	return nil
}

// checkDigest is stricter than go-digest: only algorithms that verify content
// here, and no regular expression.
func checkDigest(d string) error {
	algorithm, hex, found := strings.Cut(d, ":")
	if !found {
		return fmt.Errorf("its digest %s has no algorithm, write @sha256:…", quote(d))
	}
	size := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
	if size == 0 {
		return fmt.Errorf("its digest algorithm %s is not supported, use sha256 or sha512", quote(algorithm))
	}
	if len(hex) != size || !isHex(hex) {
		return fmt.Errorf("its %s digest is not %d lower case hexadecimal digits", algorithm, size)
	}
	return nil
}

// looksLikeDigest tells "sha256:4e38…" from a repository with a tag.
func looksLikeDigest(name, tag string) bool {
	return (name == "sha256" || name == "sha512") && isHex(tag) && len(tag) >= 2
}

// canonicalHost gives one spelling to all names of one host, so that no rule
// of a policy can be walked around by spelling.
func canonicalHost(host string) (string, error) {
	if len(host) > maxHost {
		return "", fmt.Errorf("its host is longer than %d bytes", maxHost)
	}
	name, port, err := splitPort(host)
	if err != nil {
		return "", err
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(inner, "]") {
			return "", fmt.Errorf("its host %q is not an IPv6 address in brackets", name)
		}
		return "[" + addr.String() + "]" + port, nil
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(name, label); err != nil {
			return "", err
		}
	}
	name = strings.ToLower(name)
	if port == "" && (name == "index.docker.io" || name == "registry-1.docker.io") {
		return defaultHost, nil
	}
	return name + port, nil
}

func splitPort(host string) (name, port string, err error) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.HasSuffix(host, "]") {
		return host, "", nil
	}
	name, port = host[:i], host[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
		return "", "", fmt.Errorf("its port %q is not a number from 1 to 65535", port)
	}
	return name, ":" + port, nil
}

func checkLabel(host, label string) error {
	if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("its host %q is not a host name", host)
	}
	for i := range len(label) {
		if c := label[i]; !isLower(c) && !isUpper(c) && !isDigit(c) && c != '-' {
			return fmt.Errorf("its host %q is not a host name", host)
		}
	}
	return nil
}
