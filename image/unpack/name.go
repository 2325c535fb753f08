package unpack

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxComponent is NAME_MAX of every file system that layers are unpacked to.
const maxComponent = 255

// clean makes a name of the archive relative to the layer's root: "" is the
// root itself. It refuses what no archive of a directory contains.
func (l *Limits) clean(name string) (string, error) {
	if len(name) > l.PathLength {
		return "", &LimitError{Limit: "pathLength", Max: int64(l.PathLength)}
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("the name contains a NUL byte")
	}
	parts := make([]string, 0, 16)
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return "", errors.New(`the name leads upwards by ".."`)
		case len(part) > maxComponent:
			return "", fmt.Errorf("a part of the name is longer than %d bytes", maxComponent)
		}
		parts = append(parts, part)
	}
	if len(parts)-1 > l.Depth {
		return "", &LimitError{Limit: "depth", Max: int64(l.Depth)}
	}
	for _, part := range parts[:max(0, len(parts)-1)] {
		if strings.HasPrefix(part, whiteoutPrefix) && !strings.HasPrefix(part, metaPrefix) {
			return "", fmt.Errorf("the name lies below %s, which is a whiteout", quote(part))
		}
	}
	return strings.Join(parts, "/"), nil
}

// split cuts a clean name into its parent and its last part.
func split(name string) (parent, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// quote makes any name fit for an error: one line, printable, of bounded length.
func quote(name string) string {
	const most = 160
	if len(name) <= most {
		return strconv.Quote(name)
	}
	return strconv.Quote(name[:most/2]) + "…" + strconv.Quote(name[len(name)-most/2:])
}
