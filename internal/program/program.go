// Package program finds the programs that belong to rkt.
//
// They are looked for where rkt itself was installed and in the package's
// folder, never in $PATH: what the caller's environment says must not decide
// which program is executed with rkt's rights.
package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// packaged is where a distribution's package keeps programs that nobody
// starts by hand.
const packaged = "/usr/lib/rkt"

// Find returns the absolute path of one of rkt's programs ("rkt-fetch",
// "stage1", …): beside the running program, in ../lib/rkt seen from there, or
// in /usr/lib/rkt, the first that exists.
func Find(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find program %q: %w", name, err)
	}
	dir := filepath.Dir(self)
	return findIn(name, []string{dir, filepath.Join(filepath.Dir(dir), "lib", "rkt"), packaged})
}

func findIn(name string, dirs []string) (string, error) {
	if name == "" || filepath.Base(name) != name || name == "." || name == ".." {
		return "", fmt.Errorf("find program %q: it is not a plain file name", name)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("find program %q: %w", name, err)
		}
		if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			return "", fmt.Errorf("find program %q: %q is not an executable file", name, path)
		}
		return path, nil
	}
	return "", fmt.Errorf("find program %q: it is in none of %s; install rkt's programs together", name, strings.Join(dirs, ", "))
}
