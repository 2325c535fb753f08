package unpack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/unpack/hostile"
)

// TestLimits holds that each limit is met by its own error and lets pass what
// lies just below it.
func TestLimits(t *testing.T) {
	files := func(n int) []byte {
		a := &hostile.Archive{}
		for i := range n {
			a.File(fmt.Sprint("f", i), "x")
		}
		return a.Bytes()
	}
	dirs := func(n int) []byte {
		a := &hostile.Archive{}
		for i := range n {
			a.Dir(fmt.Sprint("d", i))
		}
		return a.Bytes()
	}
	attribute := func(n int) []byte {
		return (&hostile.Archive{}).Records("SCHILY.xattr.user.x", strings.Repeat("x", n)).Raw("f", tar.TypeReg, "", 0, "").Bytes()
	}
	for _, c := range []struct {
		limit      string
		limits     Limits
		below, met []byte
	}{
		{"entries", Limits{Entries: 10}, files(10), files(11)},
		{"size", Limits{Size: 5 * 1024}, files(4), files(5)},
		{"size", Limits{Size: 5 * 1024}, (&hostile.Archive{}).Sparse("s", 5*1024, 0, "x").Bytes(), (&hostile.Archive{}).Sparse("s", 5*1024+1, 0, "x").Bytes()},
		{"pathLength", Limits{PathLength: 8}, (&hostile.Archive{}).Dir("1234567/").Bytes(), (&hostile.Archive{}).Dir("12345678/").Bytes()},
		{"pathLength", Limits{PathLength: 8}, (&hostile.Archive{}).Symlink("l", "12345678").Bytes(), (&hostile.Archive{}).Symlink("l", "123456789").Bytes()},
		{"depth", Limits{Depth: 3}, (&hostile.Archive{}).Dir("a/b/c").Bytes(), (&hostile.Archive{}).Dir("a/b/c/d").Bytes()},
		{"depth", Limits{Depth: 3}, (&hostile.Archive{}).File("a/b/c/f", "").Bytes(), (&hostile.Archive{}).File("a/b/c/d/f", "").Bytes()},
		{"xattrs", Limits{Xattrs: 100}, attribute(94), attribute(95)},
		{"directories", Limits{Directories: 1000}, dirs(6), dirs(7)},
		{"ratio", Limits{Ratio: 10, Floor: 20000}, gzipOf(t, append(files(3), make([]byte, 12000)...)), gzipOf(t, append(files(3), make([]byte, 20000)...))},
	} {
		t.Run(c.limit, func(t *testing.T) {
			f := newField(t)
			if _, err := f.layer(t, c.below, Options{Limits: c.limits}); err != nil {
				t.Errorf("below the limit: %v", err)
			}
			_, err := f.layer(t, c.met, Options{Limits: c.limits})
			var limit *LimitError
			if !errors.As(err, &limit) || limit.Limit != c.limit {
				t.Errorf("above the limit: got %v, want limit %q", err, c.limit)
			}
			checkRefusal(t, err, fmt.Sprintf("(limit %q)", c.limit))
		})
	}
}

// TestBombs holds that a small blob cannot make us write much, or need much
// memory. The limits are the default ones, but for the floor of the ratio.
func TestBombs(t *testing.T) {
	head := (&hostile.Archive{}).Raw("bomb", tar.TypeReg, "", 1<<36, "").Open()
	inflated := io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{func() {}}, 512*mib))
	var gz, zs bytes.Buffer
	gzw := gzip.NewWriter(&gz)
	zsw, err := zstd.NewWriter(&zs, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.MultiWriter(gzw, zsw), inflated); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gzw.Close(), zsw.Close()); err != nil {
		t.Fatal(err)
	}
	sparse := &hostile.Archive{}
	for i := range 100 {
		sparse.Sparse(fmt.Sprint("s", i), 10*mib, 0, "x")
	}
	for _, c := range []struct {
		name  string
		blob  []byte
		limit string
	}{
		{"gzip", gz.Bytes(), "ratio"},
		{"zstd", zs.Bytes(), "ratio"},
		{"sparse files", sparse.Bytes(), "ratio"},
		{"sparse files in gzip", gzipOf(t, sparse.Bytes()), "ratio"},
		{"zstd window", zstdWindow(1 << 30), "window"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newField(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := f.layer(t, c.blob, Options{Limits: Limits{Floor: 64 * mib}})
			runtime.ReadMemStats(&after)
			checkRefusal(t, err, fmt.Sprintf("(limit %q)", c.limit))
			if got := after.TotalAlloc - before.TotalAlloc; got > 64*mib {
				t.Errorf("%d bytes were allocated for a blob of %d", got, len(c.blob))
			}
			f.check(t)
		})
	}
}

// zstdWindow is the beginning of a zstd frame that asks for a large window.
func zstdWindow(size int) []byte {
	exponent := 0
	for 1<<(exponent+10) < size {
		exponent++
	}
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, byte(exponent << 3)}, make([]byte, 100)...)
}

// TestMillionEntries unpacks a million files of one byte.
func TestMillionEntries(t *testing.T) {
	const shm = "/dev/shm"
	if os.Getuid() != 0 {
		t.Skip("needs root: others may not have a million inodes")
	}
	if os.Getenv("RKT_TESTS") != "all" {
		t.Skip("takes half a minute: set RKT_TESTS=all")
	}
	if _, err := os.Stat(shm); err != nil {
		t.Skip("needs a tmpfs at /dev/shm: a disk would be what is measured")
	}
	dir, err := os.MkdirTemp(shm, "rkt-unpack-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(w, mib)
		tw := tar.NewWriter(buffered)
		for i := range 1000000 {
			h := tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i/1000, i), Mode: 0o644, Size: 1}
			err := tw.WriteHeader(&h)
			if err == nil {
				_, err = tw.Write([]byte("x"))
			}
			if err != nil {
				w.CloseWithError(err)
				return
			}
		}
		w.CloseWithError(errors.Join(tw.Close(), buffered.Flush()))
	}()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	start := cpuTime(t)
	stats, err := Unpack(t.Context(), r, root, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	took := cpuTime(t) - start
	if stats.Entries != 1000000 {
		t.Errorf("%d entries were read", stats.Entries)
	}
	t.Logf("a million files took %v of processor time", took)
	if took > 2*time.Minute {
		t.Errorf("a million files took %v of processor time", took)
	}
}

// cpuTime is what this process has used, on however busy a machine.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
