package unpack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

type compression string

const (
	plain    compression = "uncompressed"
	gzipped  compression = "gzip"
	zstded   compression = "zstd"
	bzipped  compression = "bzip2"
	xzed     compression = "xz"
	notKnown compression = ""
)

// sniff tells by the first bytes how a blob is compressed.
func sniff(head []byte) compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzipped
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstded
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}): // a skippable frame
		return zstded
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzipped
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xzed
	}
	return plain
}

// promised reads the compression from the media type of a layer, OCI or Docker.
func promised(mediaType string) (compression, error) {
	base, _, _ := strings.Cut(mediaType, ";")
	kind, ok := strings.CutPrefix(base, "application/vnd.oci.image.layer.v1.tar")
	if !ok {
		kind, ok = strings.CutPrefix(base, "application/vnd.oci.image.layer.nondistributable.v1.tar")
	}
	if !ok {
		kind, ok = strings.CutPrefix(base, "application/vnd.docker.image.rootfs.diff.tar")
	}
	if !ok {
		kind, ok = strings.CutPrefix(base, "application/vnd.docker.image.rootfs.foreign.diff.tar")
	}
	switch {
	case base == "":
		return notKnown, nil
	case ok && kind == "":
		return plain, nil
	case ok && (kind == "+gzip" || kind == ".gzip"):
		return gzipped, nil
	case ok && (kind == "+zstd" || kind == ".zstd"):
		return zstded, nil
	}
	return notKnown, fmt.Errorf("the media type %s is not one of a layer that rkt can unpack", quote(mediaType))
}

// decompress chooses by the first bytes. They must agree with the media type:
// a blob that means one thing by its type and another by its bytes would look
// different to the one who examined it.
func decompress(blob io.Reader, mediaType string, l *Limits) (io.ReadCloser, error) {
	want, err := promised(mediaType)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(blob, 64*kib)
	head, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the layer: %w", err)
	}
	is := sniff(head)
	if want != notKnown && is != want {
		return nil, fmt.Errorf("the layer's media type says that it is %s, but its bytes are %s", want, is)
	}
	switch is {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return z, nil
	case zstded:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(l.Window)))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return zstdReader{z, l}, nil
	case bzipped, xzed:
		return nil, fmt.Errorf("the layer is compressed with %s, image layers may only be gzip, zstd or uncompressed", is)
	}
	return io.NopCloser(r), nil
}

// zstdReader names the limit when the decoder meets it.
type zstdReader struct {
	*zstd.Decoder
	limits *Limits
}

func (z zstdReader) Read(p []byte) (int, error) {
	n, err := z.Decoder.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = &LimitError{Limit: "window", Max: z.limits.Window}
	}
	return n, err
}

func (z zstdReader) Close() error {
	z.Decoder.Close()
	return nil
}
