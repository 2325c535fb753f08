package archive

import (
	"archive/tar"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/trust"
)

const (
	maxMembers = 100_000
	// maxCopy is how large a compressed archive may become.
	maxCopy = 256 << 30
	// maxWindow is how much memory a zstd stream may ask for.
	maxWindow = 128 << 20
)

// dir is a layout in a directory. os.Root keeps links inside.
type dir struct{ root *os.Root }

func openDir(name string) (files, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return dir{root}, nil
}

func (d dir) open(name string) (member, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return member{}, plain(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return member{}, plain(err)
	}
	return member{f, info.Size(), f.Close}, nil
}

func (d dir) has(name string) bool {
	info, err := d.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func (d dir) Close() error { return d.root.Close() }

func plain(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return file.Err
	}
	return err
}

// tarball is a layout in a tar archive.
type tarball struct {
	file    *os.File
	members map[string]span
}

// span is where a member's content is, or which other member it is a link to.
type span struct {
	offset, size int64
	link         string
}

// openTar reads the headers of an archive. With a hasher all of the archive
// goes through it.
func openTar(ctx context.Context, name string, hasher *trust.ArchiveHasher, temp string) (files, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, plain(err)
	}
	file, err := private(ctx, f, hasher, temp)
	if err != nil || file != f {
		_ = f.Close()
	}
	if err != nil {
		return nil, err
	}
	t := &tarball{file: file, members: map[string]span{}}
	if err := t.scan(ctx); err != nil {
		_ = file.Close()
		return nil, err
	}
	return t, nil
}

// private returns the archive uncompressed: the file itself, or a copy of it
// that nobody else can change.
func private(ctx context.Context, f *os.File, hasher *trust.ArchiveHasher, temp string) (*os.File, error) {
	magic := make([]byte, 6)
	n, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, plain(err)
	}
	compression := sniff(magic[:n])
	if compression == "xz" {
		return nil, errors.New("it is compressed with xz, which is not supported; decompress it first")
	}
	if compression == "" && hasher == nil {
		return f, nil
	}
	var raw io.Reader = contextReader{ctx, f}
	if hasher != nil {
		raw = io.TeeReader(raw, hasher)
	}
	content, err := decompress(compression, raw)
	if err != nil {
		return nil, fmt.Errorf("it is compressed with %s and damaged: %w", compression, err)
	}
	into, err := nameless(temp)
	if err != nil {
		return nil, fmt.Errorf("copy it into %q: %w", temp, err)
	}
	if err := copyAll(into, content, raw); err != nil {
		_ = into.Close()
		return nil, err
	}
	return into, nil
}

func copyAll(into *os.File, content, raw io.Reader) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{into}, io.LimitReader(content, maxCopy+1), make([]byte, copyBuffer))
	if err == nil && n > maxCopy {
		err = fmt.Errorf("it is larger than %d bytes", int64(maxCopy))
	}
	if err == nil {
		// The hash is of all bytes, also of those that a decompressor leaves.
		_, err = io.Copy(io.Discard, raw)
	}
	if err != nil {
		return fmt.Errorf("copy it: %w", plain(err))
	}
	return nil
}

func sniff(magic []byte) string {
	for _, known := range []struct{ start, name string }{
		{"\x1f\x8b", "gzip"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"\xfd7zXZ\x00", "xz"}, {"BZh", "bzip2"},
	} {
		if strings.HasPrefix(string(magic), known.start) {
			return known.name
		}
	}
	return ""
}

func decompress(compression string, raw io.Reader) (io.Reader, error) {
	switch compression {
	case "gzip":
		return gzip.NewReader(raw)
	case "zstd":
		d, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "bzip2":
		return bzip2.NewReader(raw), nil
	}
	return raw, nil
}

// nameless makes a file that vanishes with its descriptor.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir+"/(archive)"), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "archive-*")
	if err != nil {
		return nil, plain(err)
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = f.Close()
		return nil, plain(err)
	}
	return f, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// scan notes where members are. A later one of the same name wins, as in tar.
func (t *tarball) scan(ctx context.Context) error {
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return plain(err)
	}
	// The reader must see the file itself: it seeks over contents, and after
	// Next the file's position is where the content starts.
	r := tar.NewReader(t.file)
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("it is not a tar archive, or damaged: %w", err)
		}
		if n == maxMembers {
			return fmt.Errorf("it has more than %d members", maxMembers)
		}
		name := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if isSparse(h) {
				return fmt.Errorf("member %.100q is stored as a sparse file, which no tool does for images", h.Name)
			}
			at, err := t.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return plain(err)
			}
			t.members[name] = span{offset: at, size: h.Size}
		case tar.TypeSymlink:
			t.members[name] = span{link: clean(path.Join(path.Dir(name), h.Linkname))}
		case tar.TypeLink:
			t.members[name] = span{link: clean(h.Linkname)}
		}
	}
	if len(t.members) == 0 {
		return errors.New("it is not a tar archive, or an empty one")
	}
	return t.checkEnds()
}

// checkEnds finds members that the archive was cut off in.
func (t *tarball) checkEnds() error {
	info, err := t.file.Stat()
	if err != nil {
		return plain(err)
	}
	for name, s := range t.members {
		if s.link == "" && s.size > info.Size()-s.offset {
			return fmt.Errorf("it is cut off: member %.100q should end at byte %d, the archive at %d", name, s.offset+s.size, info.Size())
		}
	}
	return nil
}

func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// clean is a member's name without "./" and leading "/". Members are only ever
// looked up by it, so ".." can name nothing.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (t *tarball) open(name string) (member, error) {
	s, ok := t.members[clean(name)]
	for hops := 0; ok && s.link != ""; hops++ {
		if hops == 8 {
			return member{}, errors.New("it is a link to a link to a link")
		}
		s, ok = t.members[s.link]
	}
	if !ok {
		return member{}, fs.ErrNotExist
	}
	return member{io.NewSectionReader(t.file, s.offset, s.size), s.size, func() error { return nil }}, nil
}

func (t *tarball) has(name string) bool {
	_, err := t.open(name)
	return err == nil
}

func (t *tarball) Close() error { return t.file.Close() }
