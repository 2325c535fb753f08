package unpack

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/unpack/hostile"
)

// field is a root directory to unpack into, and a canary outside of it.
type field struct {
	base, canary, root string
	before             string
}

func newField(t testing.TB) *field {
	t.Helper()
	base := t.TempDir()
	f := &field{base: base, canary: filepath.Join(base, "canary"), root: filepath.Join(base, "a/b/root")}
	if err := hostile.Canary(f.canary); err != nil {
		t.Fatal(err)
	}
	f.fresh(t)
	return f
}

// fresh makes the root empty.
func (f *field) fresh(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(f.root); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(f.root, 0o755); err != nil {
		t.Fatal(err)
	}
	f.before = f.census(t)
}

// census covers everything but the root and what is in it.
func (f *field) census(t testing.TB) string {
	t.Helper()
	c, err := hostile.Census(f.base, f.root)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *field) check(t testing.TB) {
	t.Helper()
	if d := cmp.Diff(f.before, f.census(t)); d != "" {
		t.Errorf("something outside of the root changed:\n%s", d)
	}
}

func (f *field) layer(t testing.TB, blob []byte, o Options) (Stats, error) {
	t.Helper()
	root, err := os.Open(f.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return Layer(t.Context(), bytes.NewReader(blob), root, o)
}

func typeOf(t testing.TB, path string) string {
	t.Helper()
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return "none"
	case err != nil:
		t.Fatal(err)
	case isWhiteout(&st):
		return "hidden"
	}
	return map[uint32]string{unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "link", unix.S_IFIFO: "fifo",
		unix.S_IFCHR: "char", unix.S_IFBLK: "block"}[st.Mode&unix.S_IFMT]
}

func TestHostileLayers(t *testing.T) {
	f := newField(t)
	for _, c := range hostile.Cases(f.canary) {
		t.Run(c.Name, func(t *testing.T) {
			f.fresh(t)
			done := make(chan error, 1)
			go func() {
				_, err := f.layer(t, c.Layer, Options{})
				done <- err
			}()
			select {
			case err := <-done:
				checkRefusal(t, err, c.Refused)
			case <-time.After(20 * time.Second):
				t.Fatal("unpacking does not end")
			}
			f.check(t)
			for _, want := range c.Inside {
				i := strings.LastIndexByte(want, ' ')
				if got := typeOf(t, filepath.Join(f.root, want[:i])); got != want[i+1:] {
					t.Errorf("%q is %s, want %s", want[:i], got, want[i+1:])
				}
			}
		})
	}
}

func checkRefusal(t testing.TB, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("not refused, want an error with %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("refused with %q, want %q in it", err, want)
	}
	checkSentence(t, err)
}

func checkSentence(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if len(text) > 700 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("the error is not one clear sentence: %q", text)
	}
}
