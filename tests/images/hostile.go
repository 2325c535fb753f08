package images

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// hostile lists layers that try to reach outside the directory into which they
// are unpacked, or to exhaust the machine. canary is an absolute directory that
// they aim at; it holds a file "alive".
func hostile(canary string) map[string][][]File {
	up := "../../../../../../../../../../../.."
	return map[string][][]File{
		"dotdot":            {{{Name: up + canary + "/dotdot", Body: "broken out\n"}}},
		"dotdot-inside":     {{{Name: "a/"}, {Name: "a/.." + up + canary + "/inside", Body: "broken out\n"}}},
		"dotdot-dir":        {{{Name: "../", Mode: 0o777}, {Name: "..", Mode: 0o777, Type: tar.TypeDir}}},
		"absolute":          {{{Name: canary + "/absolute", Body: "broken out\n"}}},
		"symlink-absolute":  {{{Name: "door", Link: canary}, {Name: "door/symlink", Body: "broken out\n"}}},
		"symlink-relative":  {{{Name: "door", Link: up + canary}, {Name: "door/relative", Body: "broken out\n"}}},
		"symlink-dir":       {{{Name: "door", Link: canary}, {Name: "door/", Mode: 0o777}, {Name: "door/dir/"}}},
		"symlink-file":      {{{Name: "door", Link: canary + "/alive"}, {Name: "door", Body: "broken out\n"}}},
		"symlink-chain":     {{{Name: "a", Link: "."}, {Name: "a/b", Link: up}, {Name: "a/b" + canary + "/chain", Body: "broken out\n"}}},
		"symlink-layers":    {{{Name: "door", Link: canary}}, {{Name: "door/layers", Body: "broken out\n"}}},
		"hardlink-outside":  {{{Name: "taken", Type: tar.TypeLink, Link: canary + "/alive"}, {Name: "taken", Body: "broken out\n"}}},
		"hardlink-dotdot":   {{{Name: "taken", Type: tar.TypeLink, Link: up + canary + "/alive"}, {Name: "taken", Body: "broken out\n"}}},
		"hardlink-symlink":  {{{Name: "door", Link: canary}, {Name: "taken", Type: tar.TypeLink, Link: "door/alive"}, {Name: "taken", Body: "broken out\n"}}},
		"hardlink-chmod":    {{{Name: "door", Link: canary + "/alive"}, {Name: "taken", Type: tar.TypeLink, Link: "door"}, {Name: "taken", Mode: 0o777, Body: "broken out\n"}}},
		"whiteout-parent":   {{{Name: "..wh..", Body: ""}, {Name: ".wh...", Body: ""}, {Name: ".wh..", Body: ""}}},
		"whiteout-dotdot":   {{{Name: up + canary + "/.wh.alive"}}},
		"whiteout-symlink":  {{{Name: "door", Link: canary}}, {{Name: "door/.wh.alive"}}},
		"opaque-symlink":    {{{Name: "door", Link: canary}}, {{Name: "door/.wh..wh..opq"}}},
		"device-disk":       {{{Name: "disk", Type: tar.TypeBlock, Mode: 0o666, Major: 254, Minor: 0}}},
		"device-memory":     {{{Name: "memory", Type: tar.TypeChar, Mode: 0o666, Major: 1, Minor: 1}}},
		"device-whiteout":   {{{Name: "bin/"}, {Name: "bin/sh", Type: tar.TypeChar, Major: 0, Minor: 0}}},
		"fifo":              {{{Name: "pipe", Type: tar.TypeFifo, Mode: 0o666}, {Name: "pipe", Body: "after a pipe\n"}}},
		"fifo-passwd":       {{{Name: "etc/"}, {Name: "etc/passwd", Type: tar.TypeFifo, Mode: 0o666}, {Name: "etc/group", Type: tar.TypeFifo, Mode: 0o666}}},
		"device-passwd":     {{{Name: "etc/"}, {Name: "etc/passwd", Type: tar.TypeChar, Mode: 0o666, Major: 1, Minor: 5}}},
		"symlink-passwd":    {{{Name: "etc/"}, {Name: "etc/passwd", Link: canary + "/alive"}}},
		"xattr-overlay":     {{{Name: "trap/", PAX: map[string]string{"SCHILY.xattr.user.overlay.redirect": canary, "SCHILY.xattr.trusted.overlay.redirect": canary, "SCHILY.xattr.trusted.overlay.opaque": "y"}}}},
		"type-unknown":      {{{Name: "odd", Type: 'Z'}}},
		"file-below-file":   {{{Name: "plain", Body: "x"}, {Name: "plain/below", Body: "y"}}},
		"name-long":         {{{Name: string(bytes.Repeat([]byte("n"), 5000)), Body: "x"}}},
		"name-deep":         {{{Name: string(bytes.Repeat([]byte("d/"), 20000)) + "end", Body: "x"}}},
		"name-control":      {{{Name: "line\nbreak\x1b[31m", Body: "x"}}},
		"owner-huge":        {{{Name: "owned", UID: 1 << 32, GID: 1<<32 + 7, Body: "x"}}},
		"resolv-conf-door":  {{{Name: "etc/"}, {Name: "etc/resolv.conf", Link: canary + "/alive"}, {Name: "etc/hosts", Link: canary + "/alive"}, {Name: "etc/hostname", Link: canary + "/alive"}}},
		"mountpoint-doors":  {{{Name: "proc", Link: canary}, {Name: "sys", Link: canary}, {Name: "dev", Link: canary}, {Name: "tmp", Link: canary}}},
		"mountpoint-files":  {{{Name: "proc", Body: "x"}, {Name: "sys", Body: "x"}, {Name: "dev", Body: "x"}}},
		"entrypoint-itself": {{{Name: "inspect", Type: tar.TypeLink, Link: canary + "/alive"}}},
	}
}

// exhausting are layers whose blob is made by hand: small to send, endless to unpack.
func exhausting() map[string]func() (Layer, error) {
	return map[string]func() (Layer, error){
		"bomb":         func() (Layer, error) { return zeros(8<<30, 2048) },
		"sparse":       sparse,
		"size-lies":    func() (Layer, error) { return zeros(1<<50, 1) },
		"million":      func() (Layer, error) { return entries(1 << 20) },
		"truncated":    truncated,
		"not-a-tar":    func() (Layer, error) { return compress(Gzip, bytes.Repeat([]byte("this is no archive. "), 4096)) },
		"not-gzip":     notGzip,
		"wrong-diffid": wrongDiffID,
	}
}

// HostileNames lists the layers that Hostile makes.
func HostileNames() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(exhausting())), slices.Collect(maps.Keys(hostile("/"))))))
}

// Hostile puts one hostile layer (or two) on top of an image that runs.
func Hostile(image Image, name, canary string) (Image, error) {
	if blob, ok := exhausting()[name]; ok {
		layer, err := blob()
		image.Layers = append(slices.Clip(image.Layers), layer)
		return image, err
	}
	layers, ok := hostile(canary)[name]
	if !ok {
		return Image{}, fmt.Errorf("hostile layer %q is unknown, choose from %v", name, HostileNames())
	}
	for _, files := range layers {
		layer, err := NewLayer(Gzip, files)
		if err != nil {
			return Image{}, err
		}
		image.Layers = append(slices.Clip(image.Layers), layer)
	}
	return image, nil
}

// zeros is a file that claims a size and then sends so many blocks of 4 MiB of
// zeros, in gzip members that are all the same.
func zeros(claimed int64, blocks int) (Layer, error) {
	header, empty, end := rawHeader("zeros", tar.TypeReg, claimed), make([]byte, 4<<20), make([]byte, 1024)
	layer := Layer{MediaType: ocispec.MediaTypeImageLayerGzip}
	plain := digest.Canonical.Digester()
	var block []byte
	for i, part := range slices.Concat([][]byte{header}, slices.Repeat([][]byte{empty}, blocks), [][]byte{end}) {
		if _, err := plain.Hash().Write(part); err != nil {
			return Layer{}, err
		}
		if i == 0 || i == 1 || i > blocks {
			packed, err := compress(Gzip, part)
			if err != nil {
				return Layer{}, err
			}
			block = packed.Blob
		}
		layer.Blob = append(layer.Blob, block...)
	}
	layer.DiffID = plain.Digest()
	return layer, nil
}

// sparse is a GNU sparse file (PAX format 1.0) of 4 EiB that is one hole.
func sparse() (Layer, error) {
	const huge = 1 << 62
	var records []byte
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=hole", fmt.Sprintf("GNU.sparse.realsize=%d", huge)} {
		records = fmt.Appendf(records, "%d %s\n", len(r)+4, r) // two digits, a space and the end of the line
	}
	spans := fmt.Appendf(nil, "1\n%d\n0\n", huge)
	return compress(Gzip, slices.Concat(
		rawHeader("PaxHeaders/hole", tar.TypeXHeader, int64(len(records))), pad(records),
		rawHeader("GNUSparseFile/hole", tar.TypeReg, 512), pad(spans), make([]byte, 1024)))
}

// rawHeader is a header as it stands in the archive: package archive/tar does
// not write those that lie.
func rawHeader(name string, kind byte, size int64) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	h[124] = 0x80 // a binary number, as sizes over 8 GiB need
	binary.BigEndian.PutUint64(h[128:], uint64(size))
	copy(h[136:], "00000000000\x00        ")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func pad(data []byte) []byte {
	return append(data, make([]byte, (512-len(data)%512)%512)...)
}

// entries is a layer of so many empty files.
func entries(n int) (Layer, error) {
	files := make([]File, n)
	for i := range files {
		files[i] = File{Name: fmt.Sprintf("many/%d/%d", i/1000, i)}
	}
	return NewLayer(Gzip, files)
}

// truncated ends in the middle of a file, within a gzip stream that is whole.
func truncated() (Layer, error) {
	layer, err := NewLayer(Uncompressed, []File{{Name: "whole", Body: string(make([]byte, 64<<10))}})
	if err != nil {
		return Layer{}, err
	}
	return compress(Gzip, layer.Blob[:32<<10])
}

func notGzip() (Layer, error) {
	layer, err := compress(Uncompressed, []byte("no gzip at all"))
	layer.MediaType = ocispec.MediaTypeImageLayerGzip
	return layer, err
}

func wrongDiffID() (Layer, error) {
	layer, err := NewLayer(Gzip, []File{{Name: "other", Body: "x"}})
	layer.DiffID = digest.FromString("something else")
	return layer, err
}
