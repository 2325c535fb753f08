package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is one entry of a layer. Names are written as they are, so that hostile
// ones can be made. A File without Type is a directory when Name ends in "/",
// a symbolic link when Link is set and a regular file otherwise.
type File struct {
	Name   string
	Mode   int64 // 0: 0755 for directories and what Source may execute, else 0644
	Type   byte
	Body   string
	Source string // take the content from this file of the machine
	Link   string
	UID    int
	GID    int
	Major  int64
	Minor  int64
	Size   int64             // claimed size, for entries that lie; 0: the true one
	PAX    map[string]string // extended header records, xattrs as SCHILY.xattr.NAME
}

// Compression of a layer's blob.
type Compression string

// What registries hold.
const (
	Gzip         Compression = "gzip"
	Zstd         Compression = "zstd"
	Uncompressed Compression = "none"
)

// Layer is a compressed tar and what an image says about it.
type Layer struct {
	Blob      []byte
	DiffID    digest.Digest
	MediaType string
}

// NewLayer packs files in their order. The same files make the same bytes: no
// times and no names of the machine go in.
func NewLayer(compression Compression, files []File) (Layer, error) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, f := range files {
		if err := f.write(w); err != nil {
			return Layer{}, fmt.Errorf("pack %q: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return Layer{}, err
	}
	return compress(compression, plain.Bytes())
}

func compress(compression Compression, plain []byte) (Layer, error) {
	layer := Layer{DiffID: digest.FromBytes(plain)}
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case Gzip, "":
		layer.MediaType = ocispec.MediaTypeImageLayerGzip
		w, err = gzip.NewWriterLevel(&out, gzip.BestSpeed)
	case Zstd:
		layer.MediaType = ocispec.MediaTypeImageLayerZstd
		w, err = zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	case Uncompressed:
		layer.MediaType, layer.Blob = ocispec.MediaTypeImageLayer, plain
		return layer, nil
	default:
		err = fmt.Errorf("compression %q is unknown", compression)
	}
	if err != nil {
		return Layer{}, err
	}
	if _, err := w.Write(plain); err != nil {
		return Layer{}, err
	}
	if err := w.Close(); err != nil {
		return Layer{}, err
	}
	layer.Blob = out.Bytes()
	return layer, nil
}

func (f File) write(w *tar.Writer) error {
	h := &tar.Header{
		Name: f.Name, Mode: f.Mode, Typeflag: f.Type, Linkname: f.Link, Uid: f.UID, Gid: f.GID,
		Devmajor: f.Major, Devminor: f.Minor, ModTime: time.Unix(0, 0), Format: tar.FormatPAX, PAXRecords: f.PAX,
	}
	body := []byte(f.Body)
	if f.Source != "" {
		info, err := os.Stat(f.Source)
		if err != nil {
			return err
		}
		if body, err = os.ReadFile(f.Source); err != nil {
			return err
		}
		if h.Mode == 0 {
			h.Mode = int64(info.Mode().Perm())
		}
	}
	h.Typeflag, h.Mode = f.kind(h.Mode)
	if h.Typeflag == tar.TypeReg {
		h.Size = int64(len(body))
	}
	if f.Size != 0 {
		h.Size = f.Size
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		_, err := w.Write(body)
		return err
	}
	return nil
}

func (f File) kind(mode int64) (kind byte, perm int64) {
	kind, perm = f.Type, 0o644
	if kind == 0 {
		switch {
		case strings.HasSuffix(f.Name, "/"):
			kind = tar.TypeDir
		case f.Link != "":
			kind = tar.TypeSymlink
		default:
			kind = tar.TypeReg
		}
	}
	if kind == tar.TypeDir {
		perm = 0o755
	}
	if mode != 0 {
		perm = mode
	}
	return kind, perm
}

// Tree lists a directory of the machine as files below a prefix, owned by root.
func Tree(dir, prefix string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		f := File{Name: filepath.Join(prefix, rel)}
		switch {
		case entry.IsDir():
			f.Name += "/"
		case entry.Type()&os.ModeSymlink != 0:
			f.Link, err = os.Readlink(path)
		case entry.Type().IsRegular():
			f.Source = path
		default:
			return nil
		}
		files = append(files, f)
		return err
	})
	return files, err
}
