package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/unpack/hostile"
)

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, data []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

// unpackTo unpacks blobs one after the other into fresh directories.
func unpackTo(t testing.TB, dir string, blob []byte, o Options) Stats {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	stats, err := Layer(t.Context(), bytes.NewReader(blob), root, o)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func census(t testing.TB, dir string) string {
	t.Helper()
	c, err := hostile.Census(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompressionAndDiffID(t *testing.T) {
	plainTar := append((&hostile.Archive{}).File("etc/motd", "hello\n").Bytes(), "trailing bytes count too"...)
	diffID := digest.FromBytes(plainTar)
	two := append(gzipOf(t, plainTar[:700]), gzipOf(t, plainTar[700:])...)
	frames := append(zstdOf(t, plainTar[:700]), zstdOf(t, plainTar[700:])...)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z'}, zstdOf(t, plainTar)...)
	const oci, docker = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
	for _, c := range []struct {
		name, mediaType string
		blob            []byte
		diffID          digest.Digest
		want            string
	}{
		{"plain", oci, plainTar, diffID, ""},
		{"gzip", oci + "+gzip", gzipOf(t, plainTar), diffID, ""},
		{"zstd", oci + "+zstd", zstdOf(t, plainTar), diffID, ""},
		{"docker gzip", docker + ".gzip", gzipOf(t, plainTar), diffID, ""},
		{"docker plain", docker, plainTar, diffID, ""},
		{"foreign", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", gzipOf(t, plainTar), diffID, ""},
		{"several gzip members", oci + "+gzip", two, diffID, ""},
		{"several zstd frames", oci + "+zstd", frames, diffID, ""},
		{"zstd after a skippable frame", oci + "+zstd", skippable, diffID, ""},
		{"no media type", "", gzipOf(t, plainTar), diffID, ""},
		{"sha512", oci, plainTar, digest.SHA512.FromBytes(plainTar), ""},
		{"another diffID", oci, plainTar, digest.FromString("x"), "not the promised one"},
		{"diffID without the trailing bytes", oci, plainTar, digest.FromBytes(plainTar[:len(plainTar)-24]), "not the promised one"},
		{"malformed diffID", oci, plainTar, "sha256:../../x", "read diffID"},
		{"gzip called plain", oci, gzipOf(t, plainTar), diffID, "says that it is uncompressed, but its bytes are gzip"},
		{"plain called gzip", oci + "+gzip", plainTar, diffID, "says that it is gzip, but its bytes are uncompressed"},
		{"zstd called gzip", oci + "+gzip", zstdOf(t, plainTar), diffID, "says that it is gzip, but its bytes are zstd"},
		{"no layer", "application/json", plainTar, diffID, "not one of a layer"},
		{"encrypted layer", oci + "+gzip+encrypted", plainTar, diffID, "not one of a layer"},
		{"xz", "", []byte("\xfd7zXZ\x00..."), diffID, "compressed with xz"},
		{"bzip2", "", []byte("BZh91AY"), diffID, "compressed with bzip2"},
		{"gzip that ends early", "", gzipOf(t, plainTar)[:80], diffID, "damaged"},
		{"gzip header alone", "", []byte{0x1f, 0x8b}, diffID, "damaged"},
		{"gzip with a wrong sum", "", flip(gzipOf(t, plainTar), -6), diffID, "damaged"},
		{"gzip with garbage behind", "", append(gzipOf(t, plainTar), "garbage"...), diffID, "damaged"},
		{"zstd that ends early", "", zstdOf(t, plainTar)[:60], diffID, "damaged"},
		{"zstd with a wrong sum", "", flip(zstdOf(t, plainTar), -2), diffID, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newField(t)
			stats, err := f.layer(t, c.blob, Options{MediaType: c.mediaType, DiffID: c.diffID})
			checkRefusal(t, err, c.want)
			if err == nil && stats.Bytes != int64(len(plainTar)) {
				t.Errorf("counted %d bytes, want %d", stats.Bytes, len(plainTar))
			}
			f.check(t)
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[len(b)+at] ^= 1
	return b
}

func TestErrorsAreTyped(t *testing.T) {
	whole := (&hostile.Archive{}).File("f", "x").Bytes()
	f := newField(t)
	if _, err := f.layer(t, whole, Options{DiffID: digest.FromString("x")}); !errors.Is(err, ErrDiffID) {
		t.Errorf("wrong diffID: %v is not ErrDiffID", err)
	}
	if _, err := f.layer(t, whole[:300], Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut off: %v is not ErrDamaged", err)
	}
	var limit *LimitError
	if _, err := f.layer(t, append(whole[:1024:1024], whole...), Options{Limits: Limits{Entries: 1}}); !errors.As(err, &limit) || limit.Limit != "entries" {
		t.Errorf("two entries of one: %v is no *LimitError of entries", err)
	}
}

func TestMetadata(t *testing.T) {
	mtime := time.Unix(1234567890, 987654321)
	me, group := os.Getuid(), os.Getgid()
	a := (&hostile.Archive{}).
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711, ModTime: mtime, Format: tar.FormatPAX}, "").
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o3751, ModTime: mtime, Format: tar.FormatPAX}, "").
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "d/su", Mode: 0o6755, ModTime: mtime, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.user.note": "kept", "SCHILY.xattr.trusted.overlay.opaque": "y"}}, "content").
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "d/none", Mode: 0, ModTime: mtime}, "").
		Add(tar.Header{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "su", ModTime: mtime, Format: tar.FormatPAX}, "").
		Add(tar.Header{Typeflag: tar.TypeFifo, Name: "d/p", Mode: 0o1622, ModTime: mtime, Format: tar.FormatPAX}, "").
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "far/away/f", Mode: 0o600, ModTime: mtime.Truncate(time.Second)}, "")
	dir := t.TempDir() + "/root"
	stats := unpackTo(t, dir, a.Bytes(), Options{})
	if stats.Entries != 7 || stats.Xattrs != 1 {
		t.Errorf("stats are %+v, want 7 entries and 1 dropped attribute", stats)
	}
	for _, c := range []struct {
		name string
		mode uint32
		sec  int64
		nsec int64
	}{
		{"", unix.S_IFDIR | 0o711, 1234567890, 987654321},
		{"d", unix.S_IFDIR | 0o3751, 1234567890, 987654321},
		{"d/su", unix.S_IFREG | 0o6755, 1234567890, 987654321},
		{"d/none", unix.S_IFREG, 1234567891, 0}, // ustar rounds
		{"d/l", unix.S_IFLNK | 0o777, 1234567890, 987654321},
		{"d/p", unix.S_IFIFO | 0o1622, 1234567890, 987654321},
		{"far", unix.S_IFDIR | 0o755, 0, 0},
		{"far/away", unix.S_IFDIR | 0o755, 0, 0},
		{"far/away/f", unix.S_IFREG | 0o600, 1234567890, 0},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, c.name), &st); err != nil {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		if st.Mode != c.mode || st.Mtim.Sec != c.sec || st.Mtim.Nsec != c.nsec || int(st.Uid) != me || int(st.Gid) != group {
			t.Errorf("%q has mode %o, time %d.%09d, owner %d:%d; want %o, %d.%09d, %d:%d", c.name,
				st.Mode, st.Mtim.Sec, st.Mtim.Nsec, st.Uid, st.Gid, c.mode, c.sec, c.nsec, me, group)
		}
	}
	value := make([]byte, 100)
	if n, err := unix.Lgetxattr(dir+"/d/su", "user.note", value); err != nil || string(value[:n]) != "kept" {
		t.Errorf("user.note is %q, %v", value[:max(0, n)], err)
	}
}

func TestOwners(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: files of other users are made")
	}
	const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service=ep
	a := (&hostile.Archive{}).
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o2775, Uid: 1000, Gid: 1001}, "").
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "d/root", Mode: 0o644}, "in a set-group-ID directory").
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "d/su", Mode: 0o4711, Uid: 1<<32 - 2, Gid: 7}, "x").
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "d/cap", Mode: 0o755, Uid: 5, Gid: 6,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}, "x").
		Add(tar.Header{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "/etc/shadow", Uid: 8, Gid: 9}, "").
		Add(tar.Header{Typeflag: tar.TypeFifo, Name: "d/p", Mode: 0o600, Uid: 10, Gid: 11}, "").
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o2775, Uid: 1000, Gid: 0}, "").
		Add(tar.Header{Typeflag: tar.TypeReg, Name: "d/again", Mode: 0o644}, "")
	dir := t.TempDir() + "/root"
	unpackTo(t, dir, a.Bytes(), Options{})
	for _, c := range []struct {
		name     string
		mode     uint32
		uid, gid uint32
	}{
		{"d", unix.S_IFDIR | 0o2775, 1000, 0},
		{"d/root", unix.S_IFREG | 0o644, 0, 0},
		{"d/su", unix.S_IFREG | 0o4711, 1<<32 - 2, 7},
		{"d/cap", unix.S_IFREG | 0o755, 5, 6},
		{"d/l", unix.S_IFLNK | 0o777, 8, 9},
		{"d/p", unix.S_IFIFO | 0o600, 10, 11},
		{"d/again", unix.S_IFREG | 0o644, 0, 0},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, c.name), &st); err != nil {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		if st.Mode != c.mode || st.Uid != c.uid || st.Gid != c.gid {
			t.Errorf("%q has mode %o, owner %d:%d; want %o, %d:%d", c.name, st.Mode, st.Uid, st.Gid, c.mode, c.uid, c.gid)
		}
	}
	value := make([]byte, 100)
	if n, err := unix.Lgetxattr(dir+"/d/cap", "security.capability", value); err != nil || string(value[:n]) != capability {
		t.Errorf("security.capability is %x, %v", value[:max(0, n)], err)
	}
}

func TestOpaque(t *testing.T) {
	opaque := func(name string) []string { return []string{name} }
	for _, c := range []struct {
		name  string
		layer *hostile.Archive
		want  []string
	}{
		{"marker", (&hostile.Archive{}).Dir("d").File("d/.wh..wh..opq", ""), opaque("d")},
		{"marker before the directory", (&hostile.Archive{}).File("d/.wh..wh..opq", "").Dir("d"), opaque("d")},
		{"marker of the root", (&hostile.Archive{}).File(".wh..wh..opq", ""), opaque("")},
		{"whiteout, then directory", (&hostile.Archive{}).File(".wh.d", "").Dir("d"), opaque("d")},
		{"directory, then whiteout", (&hostile.Archive{}).Dir("d").File(".wh.d", ""), opaque("d")},
		{"whiteout, then a file below", (&hostile.Archive{}).File(".wh.d", "").File("d/f", ""), opaque("d")},
		{"file, then directory", (&hostile.Archive{}).File("d", "").Dir("d"), opaque("d")},
		{"directory twice", (&hostile.Archive{}).Dir("d").Dir("d"), nil},
		{"parent alone", (&hostile.Archive{}).File("d/f", ""), nil},
		{"forged attribute", (&hostile.Archive{}).Add(tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755,
			PAXRecords: map[string]string{"SCHILY.xattr.user.overlay.opaque": "y"}}, ""), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			unpackTo(t, dir, c.layer.Bytes(), Options{})
			var got []string
			for _, name := range []string{"", "d"} {
				var value [8]byte
				if n, err := unix.Lgetxattr(filepath.Join(dir, name), opaqueXattr, value[:]); err == nil && string(value[:n]) == "y" {
					got = append(got, name)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("opaque directories:\n%s", d)
			}
		})
	}
}

func TestSparse(t *testing.T) {
	const size = 64 * mib
	dir := t.TempDir()
	blob := (&hostile.Archive{}).Sparse("s", size, 20*mib+123, strings.Repeat("data", 5000)).Bytes()
	unpackTo(t, dir, blob, Options{})
	got, err := os.ReadFile(dir + "/s")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	copy(want[20*mib+123:], strings.Repeat("data", 5000))
	if !bytes.Equal(got, want) {
		t.Error("the content of the sparse file is wrong")
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/s", &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > mib {
		t.Errorf("the holes of a sparse file take %d bytes", st.Blocks*512)
	}
}

// TestCancel holds that a layer that never ends is given up with its context.
func TestCancel(t *testing.T) {
	f := newField(t)
	root, err := os.Open(f.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(t.Context())
	endless := io.MultiReader(bytes.NewReader((&hostile.Archive{}).Raw("f", tar.TypeReg, "", 1<<35, "").Open()), zeros{cancel})
	_, err = Layer(ctx, endless, root, Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context was cancelled", err)
	}
}

// zeros never ends, and calls a function whenever it is read.
type zeros struct{ read func() }

func (z zeros) Read(p []byte) (int, error) {
	z.read()
	clear(p)
	return len(p), nil
}
