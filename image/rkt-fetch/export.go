package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
)

// refName is what the OCI image specification allows as a name in index.json.
// Names of images that came from files are often not of this form.
var refName = regexp.MustCompile(`^[A-Za-z0-9]+(([-._:@+]|--)[A-Za-z0-9]+)*(/[A-Za-z0-9]+(([-._:@+]|--)[A-Za-z0-9]+)*)*$`)

// runExport writes an image as an OCI archive: a tar of an image layout with
// this one image. The same image always gives the same bytes.
//
// Signatures are not in it. The layout has no place for OpenPGP's, and tools
// refuse to choose from a layout that holds cosign's beside the image.
func runExport(args []string) error {
	o, err := parseOut("export", args)
	if err != nil {
		return err
	}
	task := fmt.Sprintf("export image %q to %q", o.image, o.path)
	return untilInterrupted(task, func(ctx context.Context) error { return export(ctx, o) })
}

func export(ctx context.Context, o outOptions) (err error) {
	info, err := os.Lstat(o.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("the target is not a regular file")
	case !o.overwrite:
		return errors.New("the target exists, --overwrite replaces it")
	}
	h, err := hold(o.dir, o.image)
	if err != nil {
		return err
	}
	defer h.close()
	out, err := os.CreateTemp(filepath.Dir(o.path), ".rkt-export-*")
	if err != nil {
		return inParent(o.path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	err = h.writeArchive(ctx, out)
	if err == nil {
		err = out.Chmod(0o644)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return nameFile(out.Name(), o.path, o.overwrite)
}

// nameFile renames a finished file, and replaces none that somebody else has
// made meanwhile unless it may.
func nameFile(from, to string, overwrite bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if overwrite {
		flags = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	if errors.Is(err, unix.EINVAL) { // a network file system
		err = os.Rename(from, to)
	}
	if errors.Is(err, unix.EEXIST) {
		return errors.New("the target exists, --overwrite replaces it")
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(to))
}

func (h *held) writeArchive(ctx context.Context, out io.Writer) error {
	desc := h.image.Manifest
	desc.Annotations = nil
	if refName.MatchString(h.image.Name) {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: h.image.Name}
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc},
	})
	if err != nil {
		return err
	}
	w := &archiveWriter{ctx: ctx, tar: tar.NewWriter(out), dirs: map[string]bool{}}
	if err := w.file(ocispec.ImageLayoutFile, int64(len(layout)), bytes.NewReader(layout)); err != nil {
		return err
	}
	if err := w.file(ocispec.ImageIndexFile, int64(len(index)), bytes.NewReader(index)); err != nil {
		return err
	}
	blobs := append([]ocispec.Descriptor{h.image.Manifest, h.manifest.Config}, h.manifest.Layers...)
	slices.SortFunc(blobs, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	for _, blob := range slices.CompactFunc(blobs, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }) {
		if err := h.writeBlob(w, blob); err != nil {
			return err
		}
	}
	return w.tar.Close()
}

func (h *held) writeBlob(w *archiveWriter, desc ocispec.Descriptor) error {
	blob, err := h.store.OpenBlob(desc)
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }()
	return w.file(path.Join(ocispec.ImageBlobsDir, desc.Digest.Algorithm().String(), desc.Digest.Encoded()), desc.Size, blob)
}

// archiveWriter writes files and their directories with nothing in the headers
// that differs from one time to the next.
type archiveWriter struct {
	ctx  context.Context
	tar  *tar.Writer
	dirs map[string]bool
}

func (w *archiveWriter) file(name string, size int64, content io.Reader) error {
	if err := w.dir(path.Dir(name)); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w.tar, untilDone{w.ctx, content})
	return err
}

func (w *archiveWriter) dir(name string) error {
	if name == "." || w.dirs[name] {
		return nil
	}
	if err := w.dir(path.Dir(name)); err != nil {
		return err
	}
	w.dirs[name] = true
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
}

// untilDone ends a copy with its context.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}
