package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// hub is docker.io's one name in image names; the others are its servers.
const hub = "docker.io"

func sameHub(host string) string {
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return hub
	}
	return host
}

// parseHost reads "host[:port]" and returns it as image names spell it, in
// lower case, so that a credential cannot miss its registry by spelling.
func parseHost(s string) (string, error) {
	if strings.Contains(s, "/") {
		return "", fmt.Errorf("%q is more than HOST[:PORT]", s)
	}
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		name, port = s[:i], s[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", fmt.Errorf("%q has the port %q, which is not a number from 1 to 65535", s, port)
		}
		port = ":" + strconv.FormatUint(n, 10)
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(inner, "]") {
			return "", fmt.Errorf("%q is not an IPv6 address in brackets", s)
		}
		return "[" + addr.String() + "]" + port, nil
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("%q is not HOST[:PORT]", s)
		}
	}
	return sameHub(strings.ToLower(name) + port), nil
}

func isLabel(label string) bool {
	if label == "" || label[0] == '-' || label[len(label)-1] == '-' || len(label) > 63 {
		return false
	}
	for _, c := range label {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// parseMirror reads "host[:port][/prefix]".
func parseMirror(s string) (string, error) {
	if strings.Contains(s, "://") {
		return "", fmt.Errorf("%q has a scheme, write HOST[:PORT][/PATH]", s)
	}
	name, prefix, slash := strings.Cut(s, "/")
	host, err := parseHost(name)
	if err != nil {
		return "", err
	}
	if !slash {
		return host, nil
	}
	prefix = strings.TrimSuffix(prefix, "/")
	for part := range strings.SplitSeq(prefix, "/") {
		if !isPathPart(part) {
			return "", fmt.Errorf("%q has the path %q, which no repository can have", s, prefix)
		}
	}
	return host + "/" + prefix, nil
}

func isPathPart(part string) bool {
	if strings.Trim(part, "._-") != part || part == "" {
		return false
	}
	return strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}
