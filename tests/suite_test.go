package tests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/rkt/rkt/tests/census"
	"github.com/rkt/rkt/tests/images"
)

// suite is the directory of what is built once for all scripts:
//
//	bin/            the programs, as make build makes them
//	bin-failpoint/  the same with failpoints
//	tools/          the command rkt of the scripts, mkimage, inspect
//	images/         an OCI layout: busybox, inspect, nginx, redis
//	keys/           certificates and signing keys
//	cgroups         the suite's cgroup directories, one a line
type suite struct{ dir string }

func newSuite() (suite, error) {
	dir, err := os.MkdirTemp("", "rkt-tests-")
	if err != nil {
		return suite{}, err
	}
	s := suite{dir: dir}
	// Users of pods must be able to pass.
	if err := os.Chmod(dir, 0o755); err != nil {
		return s, err
	}
	// A mount point for the suite's own; a directory that was there stays.
	if err := os.Mkdir(runDir, 0o750); err == nil {
		err = os.WriteFile(filepath.Join(dir, "made-run"), nil, 0o600)
		if err != nil {
			return s, err
		}
	}
	return s, s.makeCgroups()
}

// makeCgroups makes a directory below each cgroup of this process. Scripts get
// their own below it, so that all processes of their pods are known.
func (s suite) makeCgroups() error {
	own, err := hierarchies()
	if err != nil {
		return err
	}
	var dirs []string
	for _, dir := range own {
		dir = filepath.Join(dir, filepath.Base(s.dir))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		dirs = append(dirs, dir)
	}
	return os.WriteFile(filepath.Join(s.dir, "cgroups"), []byte(strings.Join(dirs, "\n")), 0o600)
}

func (s suite) cgroups() ([]string, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, "cgroups"))
	return strings.Fields(string(data)), err
}

func (s suite) remove() error {
	dirs, err := s.cgroups()
	for _, dir := range dirs {
		err = errors.Join(err, removeCgroup(dir))
	}
	if exists(filepath.Join(s.dir, "made-run")) {
		err = errors.Join(err, os.Remove(runDir))
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// removeCgroup removes a directory of a cgroup file system and those below it.
func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(d))
	}
	return err
}

func (s suite) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// build makes everything; it runs where the module cache and the network are.
func (s suite) build() error {
	for _, args := range [][]string{
		{"make", "-s", "-C", "..", "build", "BIN=" + s.path("bin")},
		{"make", "-s", "-C", "..", "build", "BIN=" + s.path("bin-failpoint"), "TAGS=failpoint"},
		{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", s.path("tools", "inspect"), "./inspect"},
		{"go", "build", "-o", s.path("tools", "mkimage"), "./images/mkimage"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	if err := os.WriteFile(s.path("tools", "rkt"), []byte(rktCommand), 0o755); err != nil {
		return err
	}
	if err := s.buildImages(); err != nil {
		return err
	}
	return s.makeKeys()
}

// rktCommand is what scripts call rkt: the program in the script's cgroups,
// with the script's directories.
const rktCommand = `#!/bin/sh
for f in $RKT_CGROUPS; do echo 0 >"$f" || exit 125; done
exec "$RKT_BIN/rkt" --dir="$RKT_DIR" --system-config="$RKT_SYSTEM" --local-config="$RKT_LOCAL" --user-config="$RKT_USER" "$@"
`

func (s suite) buildImages() error {
	layout, err := images.CreateLayout(s.path("images"))
	if err != nil {
		return err
	}
	for tag, recipe := range map[string]func() (images.Image, error){
		"busybox": images.Busybox,
		"inspect": func() (images.Image, error) { return images.Inspect(s.path("tools", "inspect")) },
		"nginx":   images.Nginx,
		"redis":   images.Redis,
	} {
		image, err := recipe()
		if err != nil {
			return fmt.Errorf("make image %s: %w", tag, err)
		}
		if _, err := layout.Put(tag, image); err != nil {
			return err
		}
	}
	return nil
}

func (s suite) census() ([]string, error) {
	cgroups, err := s.cgroups()
	if err != nil {
		return nil, err
	}
	runtime.GC() // closes what only finalizers close
	return census.Take(census.Scope{
		Cgroups: cgroups,
		Trees:   []string{runDir, "/var/lib/rkt", "/etc/rkt", "/usr/lib/rkt"},
		Ignore:  []int{os.Getpid()},
	})
}

func (s suite) difference(before []string) ([]string, error) {
	after, err := s.census()
	return census.Difference(before, after), err
}
