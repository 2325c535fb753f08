package rmtree_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/rmtree"
)

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: still there (%v)", path, err)
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	for _, sub := range []string{"a/b/c", "many", "closed"} {
		if err := os.MkdirAll(filepath.Join(tree, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		if err := os.WriteFile(fmt.Sprintf("%s/many/%0100d", tree, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"a/up": dir, "a/b/file": outside, "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(tree, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rmtree.Remove(tree); err != nil {
		t.Fatal(err)
	}
	gone(t, tree)
	if data, err := os.ReadFile(outside); err != nil || string(data) != "canary" {
		t.Errorf("a file outside: %q, %v", data, err)
	}
}

func TestRemoveWhatIsNoDirectory(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.Mkdir(kept, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(kept, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, filepath.Join(dir, "missing")} {
		if err := rmtree.Remove(path); err != nil {
			t.Error(err)
		}
		gone(t, path)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if err := rmtree.Remove(filepath.Join(dir, "kept", "missing", "file")); err != nil {
		t.Error(err)
	}
}

// TestRemoveDeep makes a tree whose path no system call accepts as a whole and
// which has more levels than a process may have descriptors.
func TestRemoveDeep(t *testing.T) {
	const depth, fork = 5000, 100
	top := filepath.Join(t.TempDir(), "deep")
	if err := os.Mkdir(top, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 10)
	for i := range depth {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		if i%fork == 0 { // a decoy with the name that moved directories get
			if err := unix.Mkdirat(fd, ".rmtree-"+fmt.Sprint(i/fork), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	if err := rmtree.Remove(top); err != nil {
		t.Fatal(err)
	}
	gone(t, top)
}

func TestRemoveImmutable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: only root can make a file immutable")
	}
	top := filepath.Join(t.TempDir(), "tree")
	file := filepath.Join(top, "dir", "file")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chattr", "+i", file, filepath.Dir(file)).CombinedOutput(); err != nil {
		t.Skipf("needs a file system with the flag \"immutable\": %s", out)
	}
	if err := rmtree.Remove(top); err != nil {
		t.Fatal(err)
	}
	gone(t, top)
}

// TestRemoveStopsAtMounts runs itself in a mount namespace of its own.
func TestRemoveStopsAtMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	const inside = "RMTREE_TEST_INSIDE"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("unshare", "-m", "--propagation", "private", os.Args[0], "-test.run=^TestRemoveStopsAtMounts$")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	top := filepath.Join(t.TempDir(), "tree")
	mnt := filepath.Join(top, "a", "mnt")
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mnt, "canary"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := rmtree.Remove(top)
	if err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("Remove = %v, want an error that speaks of a mount", err)
	}
	if _, err := os.Stat(filepath.Join(mnt, "canary")); err != nil {
		t.Errorf("what is mounted inside was touched: %v", err)
	}
	if err := unix.Unmount(mnt, 0); err != nil {
		t.Fatal(err)
	}
	if err := rmtree.Remove(top); err != nil {
		t.Error(err)
	}
	gone(t, top)
}
