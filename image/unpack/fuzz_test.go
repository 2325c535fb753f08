package unpack

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/rkt/rkt/image/unpack/hostile"
)

// FuzzUnpack holds that no blob changes anything outside of its root, makes a
// device node, costs more than the limits allow, or ends in an unclear error.
func FuzzUnpack(f *testing.F) {
	limits := Limits{Entries: 200, Size: 4 * mib, Ratio: 100, Floor: mib, Window: 8 * mib, Depth: 20, Directories: 64 * kib}
	field := newField(f)
	for _, c := range hostile.Cases(field.canary) {
		if len(c.Layer) < 64*kib {
			f.Add(c.Layer)
		}
	}
	small := (&hostile.Archive{}).Dir("d").File("d/f", "x").Symlink("l", "d").Link("h", "d/f").File("d/.wh.x", "").Bytes()
	f.Add(gzipOf(f, small))
	f.Add(zstdOf(f, small))
	f.Fuzz(func(t *testing.T, blob []byte) {
		field.fresh(t)
		root, err := os.Open(field.root)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		stats, err := Layer(t.Context(), bytes.NewReader(blob), root, Options{Limits: limits})
		checkSentence(t, err)
		if stats.Entries > limits.Entries+1 || stats.Bytes > limits.Size+chunkSize*(chunks+1) {
			t.Errorf("limits are exceeded: %+v", stats)
		}
		field.check(t)
		all := census(t, field.root)
		for line := range strings.Lines(all) {
			if strings.Contains(line, " dev=") && !strings.Contains(line, " dev=0 ") {
				t.Errorf("a device node was made: %s", line)
			}
		}
	})
}

// FuzzClean holds that a name that is accepted is a plain relative path, and
// the same when it is cleaned again.
func FuzzClean(f *testing.F) {
	for _, name := range []string{"", "/", "a/b", "./a//b/", "a/../b", "..", "a\nb", "a\x00b", ".wh.a", ".wh.a/b", "...", "a/./b"} {
		f.Add(name)
	}
	limits := DefaultLimits()
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := limits.clean(name)
		if err != nil {
			return
		}
		again, err := limits.clean(clean)
		if err != nil || again != clean {
			t.Errorf("%q becomes %q, and that %q, %v", name, clean, again, err)
		}
		for part := range strings.SplitSeq(clean, "/") {
			if clean != "" && (part == "" || part == "." || part == "..") || strings.Contains(part, "\x00") {
				t.Errorf("%q becomes %q", name, clean)
			}
		}
	})
}
