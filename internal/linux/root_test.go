package linux

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// hostileRoot is a tree beside a secret, with every way that a symbolic link
// can try to reach it.
func hostileRoot(t *testing.T) (root *Root, outside string) {
	t.Helper()
	top := t.TempDir()
	outside = filepath.Join(top, "outside")
	inside := filepath.Join(top, "root")
	for _, dir := range []string{outside, inside, filepath.Join(inside, "real")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"abs": outside, "up": "../outside", "far": "../../../../../../../.." + outside,
		"magic": "/proc/self/root" + outside, "loop": "loop", "dot": ".", "dotdot": "..", "in": "real",
	} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	return root, outside
}

func TestRootStaysInside(t *testing.T) {
	root, outside := hostileRoot(t)
	for _, name := range []string{
		"abs/secret", "up/secret", "far/secret", "magic/secret", "loop/secret", "dotdot/outside/secret",
		"../outside/secret", "/../outside/secret", outside + "/secret",
	} {
		// What CreateFile makes is inside, where a later name may find it.
		if data, err := root.ReadFile(name, 10); err == nil && string(data) == "s" {
			t.Errorf("%q led to the secret", name)
		}
		if fd, err := root.CreateFile(name); err == nil {
			unix.Close(fd)
		}
	}
	entries, err := os.ReadDir(outside)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("something was made outside: %v", entries)
	}
}

func TestRootMkdirAll(t *testing.T) {
	root, _ := hostileRoot(t)
	for _, name := range []string{"/a/b/c", "in/x/y", "dot/z", "/"} {
		fd, err := root.MkdirAll(name)
		if err != nil {
			t.Errorf("MkdirAll(%q): %v", name, err)
			continue
		}
		unix.Close(fd)
	}
	if fd, err := root.Open("real/x/y", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		t.Errorf("the link inside was not followed: %v", err)
	} else {
		unix.Close(fd)
	}
	if _, err := root.MkdirAll("loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("MkdirAll on a loop: %v", err)
	}
}

func TestRootOpenPlain(t *testing.T) {
	root, _ := hostileRoot(t)
	if _, err := root.OpenPlain("in", unix.O_PATH); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a symbolic link was opened: %v", err)
	}
	fd, err := root.OpenPlain("/real", unix.O_PATH)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	want := make([]byte, 100_000)
	for i := range want {
		want[i] = byte(i)
	}
	if err := WriteFile(fd, "f", want, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(fd, "f", len(want))
	if err != nil || string(got) != string(want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if _, err := ReadFile(fd, "f", len(want)-1); !errors.Is(err, ErrTooBig) {
		t.Errorf("limit: got %v", err)
	}
	if _, err := ReadFile(fd, "none", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
	if err := WriteFile(fd, "no/f", nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: got %v", err)
	}
}
