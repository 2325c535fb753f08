package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestSkopeo lets another tool read and write our image layout.
func TestSkopeo(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("needs skopeo, to see that others can read the store")
	}
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(skopeo, append([]string{"--insecure-policy"}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("skopeo %v: %v\n%s", args, err, &stderr)
		}
		return out
	}
	s := newStore(t)
	const name = "reg.example:5000/team/app:1"
	img := fetchImage(t, s, name, "one", "two")
	fetchImage(t, s, "other", "three")
	ours := "oci:" + s.path("images") + ":"

	var seen struct {
		Digest digest.Digest
		Layers []digest.Digest
	}
	if err := json.Unmarshal(run("inspect", ours+name), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Digest != img.Manifest.Digest || len(seen.Layers) != 2 || seen.Layers[0] != digest.FromString("one") {
		t.Errorf("skopeo sees %+v", seen)
	}
	// Every blob, out and back in under another name.
	elsewhere := "oci:" + filepath.Join(t.TempDir(), "copy") + ":x"
	run("copy", "--preserve-digests", ours+name, elsewhere)
	if err := s.Remove(name); err != nil {
		t.Fatal(err)
	}
	collect(t, s, GCOptions{})
	run("copy", "--preserve-digests", elsewhere, ours+"theirs")
	got, err := s.Get("theirs")
	if err != nil || got.Manifest.Digest != img.Manifest.Digest || got.Size == 0 || got.Imported.IsZero() {
		t.Errorf("Get of an image that skopeo wrote = %+v, %v", got, err)
	}
	collect(t, s, GCOptions{Grace: 1})
	m, err := s.Manifest(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range append(m.Layers, m.Config) {
		if r, err := s.OpenBlob(desc); err != nil {
			t.Error(err)
		} else if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
	}
	if err := checkImage(s, "other", "three"); !errors.Is(err, ErrNotFound) {
		t.Errorf("our image after its grace: %v", err)
	}
}

// TestDiskFull runs fillDisk where a small tmpfs is the disk.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a small file system")
	}
	cmd := helper(os.Args[0], "diskfull", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // Go makes the mounts private
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, s *Store) error {
	if err := unix.Mount("tmpfs", s.dir, "tmpfs", 0, "size=512k"); err != nil {
		return err
	}
	s, err := Open(s.dir)
	if err != nil {
		return err
	}
	img := fetchImage(t, s, "app", "one")
	l := openLease(t, s)
	big := bytes.Repeat([]byte("x"), 1<<20)
	w, err := l.Writer(descOf(big))
	if err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(big))
	checkFull(t, "Write", err)
	if _, err := s.PutBlob(testMediaType, big); err == nil {
		t.Error("PutBlob of more than the disk holds")
	} else {
		checkFull(t, "PutBlob", err)
	}
	// Now the disk is full. What is there works; changes fail and break nothing.
	if err := checkImage(s, "app", "one"); err != nil {
		t.Error(err)
	}
	other := img
	other.Name = strings.Repeat("other", 100)
	checkFull(t, "Put", s.Put(other))
	if err := checkImage(s, "app", "one"); err != nil {
		t.Error(err)
	}
	// A fetch that gives up makes room, and so does GC.
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	checkPartials(t, s, 0)
	if err := s.Put(other); err != nil {
		t.Error(err)
	}
	stored := 0
	for err = nil; !errors.Is(err, unix.ENOSPC); stored++ {
		_, err = s.PutBlob(testMediaType, bytes.Repeat([]byte{'a'}, 20000+stored))
	}
	stored-- // the last one was not
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	report, err := s.GC(nothingInUse, GCOptions{})
	if err != nil || report.Blobs != stored {
		t.Errorf("GC on a full disk: %+v, %v, want %d blobs gone", report, err, stored)
	}
	return checkEmptied(s)
}

func checkFull(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, unix.ENOSPC) || strings.Contains(fmt.Sprint(err), "\n") {
		t.Errorf("%s on a full disk: %v", what, err)
	}
}
