package flock

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExclusion(t *testing.T) {
	type try func(*Lock) error
	shared, exclusive := (*Lock).TryShared, (*Lock).TryExclusive
	for _, c := range []struct {
		name          string
		first, second try
		locked        bool
	}{
		{"shared shared", shared, shared, false},
		{"shared exclusive", shared, exclusive, true},
		{"exclusive shared", exclusive, shared, true},
		{"exclusive exclusive", exclusive, exclusive, true},
	} {
		for kind, open := range targets(t) {
			t.Run(c.name+" "+kind, func(t *testing.T) {
				a, b := open(), open()
				if err := c.first(a); err != nil {
					t.Fatal(err)
				}
				if err := c.second(b); errors.Is(err, ErrLocked) != c.locked {
					t.Errorf("second lock: %v, want locked %v", err, c.locked)
				}
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
				if err := c.second(b); err != nil {
					t.Errorf("second lock after the first was closed: %v", err)
				}
				_ = b.Close()
			})
		}
	}
}

func targets(t *testing.T) map[string]func() *Lock {
	dir := t.TempDir()
	must := func(l *Lock, err error) *Lock {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	return map[string]func() *Lock{
		"directory": func() *Lock { return must(Open(dir)) },
		"file":      func() *Lock { return must(Create(filepath.Join(dir, "lock"), 0o600)) },
	}
}

func TestWaits(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	if err := a.Exclusive(); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- b.Shared() }()
	select {
	case err := <-got:
		t.Fatalf("took a share of an exclusive lock: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := a.Unlock(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still waits for a lock that was given up")
	}
}

// TestInherit checks that a process holds a lock for as long as the
// descriptor that was handed to it is open there.
func TestInherit(t *testing.T) {
	dir := t.TempDir()
	mine, other := open(t, dir), open(t, dir)
	if err := mine.TryExclusive(); err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{mine.File()}
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := mine.Close(); err != nil {
		t.Fatal(err)
	}
	if err := other.TryShared(); !errors.Is(err, ErrLocked) {
		t.Errorf("lock of the child's descriptor: %v, want ErrLocked", err)
	}
	_ = stdin.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := other.TryShared(); err != nil {
		t.Errorf("lock after the child's end: %v", err)
	}
}

func TestInheritClearsCloseOnExec(t *testing.T) {
	l := open(t, t.TempDir())
	fd, err := l.Inherit()
	if err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		t.Errorf("descriptor %d has flags %#x, %v, want no close-on-exec", fd, flags, err)
	}
}

func TestIs(t *testing.T) {
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	l, err := Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	check := func(when string, want bool) {
		t.Helper()
		if got, err := l.Is(path); err != nil || got != want {
			t.Errorf("%s: Is = %v, %v, want %v", when, got, err, want)
		}
	}
	check("as created", true)
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	check("after a rename", false)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check("with another file of that name", false)
}

func TestSymlinkIsRefused(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	if l, err := Create(link, 0o600); err == nil {
		_ = l.Close()
		t.Error("Create followed a symbolic link")
	}
}

func open(t *testing.T, path string) *Lock {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
