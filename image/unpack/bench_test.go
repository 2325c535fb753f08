package unpack

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rkt/rkt/image/unpack/hostile"
)

// BenchmarkSmallFiles is what 40 000 files cost on a tmpfs.
func BenchmarkSmallFiles(b *testing.B) {
	a := &hostile.Archive{}
	body := strings.Repeat("x", 600)
	for i := range 40000 {
		if i%100 == 0 {
			a.Dir(fmt.Sprintf("usr/share/d%d", i/100))
		}
		a.File(fmt.Sprintf("usr/share/d%d/file%d", i/100, i), body)
	}
	blob := a.Bytes()
	for b.Loop() {
		dir, err := os.MkdirTemp("/dev/shm", "rkt-unpack-bench-")
		if err != nil {
			b.Fatal(err)
		}
		root, err := os.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		_, err = Layer(b.Context(), bytes.NewReader(blob), root, Options{})
		b.StopTimer()
		root.Close()
		os.RemoveAll(dir)
		b.StartTimer()
		if err != nil {
			b.Fatal(err)
		}
	}
}
