package reference

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// localKinds may be followed by ":NAME", a name inside the layout or archive.
var localKinds = [...]string{"oci:", "oci-archive:", "docker-archive:"}

// parseLocal says by its second result whether s names something local.
func parseLocal(s string) (Reference, bool, error) {
	for _, kind := range localKinds {
		rest, ok := strings.CutPrefix(s, kind)
		if !ok {
			continue
		}
		path, name, named := strings.Cut(rest, ":")
		abs, err := absolute(path)
		if err != nil {
			return Reference{}, true, err
		}
		if strings.Contains(abs, ":") {
			return Reference{}, true, fmt.Errorf("the path %s has a colon, which would start the name inside the image; move it to a path without one", quote(abs))
		}
		if named {
			if err := checkInnerName(name); err != nil {
				return Reference{}, true, err
			}
		}
		return Reference{Local: kind + abs, Tag: name}, true, nil
	}
	path, ok := filePath(s)
	if !ok {
		return Reference{}, false, nil
	}
	abs, err := absolute(path)
	if err != nil {
		return Reference{}, true, err
	}
	return Reference{Local: "file:" + abs}, true, nil
}

func filePath(s string) (string, bool) {
	if path, ok := strings.CutPrefix(s, "file://"); ok {
		return path, true
	}
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		return path, true
	}
	for _, start := range [...]string{"/", "./", "../"} {
		if strings.HasPrefix(s, start) {
			return s, true
		}
	}
	return "", false
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("its path is empty")
	}
	// The name is kept as JSON and shown on terminals.
	if !utf8.ValidString(path) {
		return "", fmt.Errorf("its path is not UTF-8")
	}
	for _, c := range path {
		if c < 0x20 || c >= 0x7f && c < 0xa0 {
			return "", fmt.Errorf("its path has the control character %q", c)
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("make its path absolute: %w", err)
	}
	if len(abs) >= 4096 {
		return "", fmt.Errorf("its path is longer than 4095 bytes")
	}
	return abs, nil
}

// checkInnerName follows the grammar that the OCI image specification gives
// the annotation org.opencontainers.image.ref.name.
func checkInnerName(name string) error {
	if name == "" {
		return fmt.Errorf("the name after its path is empty")
	}
	if len(name) > maxPath+maxTag {
		return fmt.Errorf("the name after its path is longer than %d bytes", maxPath+maxTag)
	}
	for i := range len(name) {
		c := name[i]
		word := isLower(c) || isUpper(c) || isDigit(c)
		if !word && (i == 0 || !strings.ContainsRune("-._:@/+", rune(c))) {
			return fmt.Errorf("the name %s after its path may only have letters, digits and, after the first, - . _ : @ / +", quote(name))
		}
	}
	return nil
}
