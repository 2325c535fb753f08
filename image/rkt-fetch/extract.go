package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/rkt-fetch/sandbox"
	"github.com/rkt/rkt/store"
)

// outOptions are the flags of "rkt-fetch extract" and "rkt-fetch export", whose
// arguments are the name of an image in the store and a path.
type outOptions struct {
	dir                   string
	overwrite, rootfsOnly bool
	image, path           string
}

func parseOut(verb string, args []string) (outOptions, error) {
	var o outOptions
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.dir, "dir", "", "")
	flags.BoolVar(&o.overwrite, "overwrite", false, "")
	if verb == "extract" {
		flags.BoolVar(&o.rootfsOnly, "rootfs-only", false, "")
	}
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("rkt-fetch %s: %w", verb, err)
	}
	if flags.NArg() != 2 || flags.Arg(1) == "" {
		return o, fmt.Errorf("rkt-fetch %s: it takes an image and a path", verb)
	}
	o.image = flags.Arg(0)
	var err error
	o.path, err = filepath.Abs(flags.Arg(1))
	return o, err
}

// held is an image whose blobs are there, and stay.
type held struct {
	store    *store.Store
	lease    *store.Lease
	image    store.Image
	manifest ocispec.Manifest
	config   ocispec.Image
}

func hold(dir, name string) (_ *held, err error) {
	h := &held{}
	if h.store, err = store.Open(dir); err != nil {
		return nil, err
	}
	if h.lease, err = h.store.Lease(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if h.image, err = h.store.Get(name); err != nil {
		return nil, err
	}
	if err := h.has(h.image.Manifest); err != nil {
		return nil, err
	}
	if h.manifest, err = h.store.Manifest(h.image); err != nil {
		return nil, err
	}
	for _, desc := range append([]ocispec.Descriptor{h.manifest.Config}, h.manifest.Layers...) {
		if err := h.has(desc); err != nil {
			return nil, err
		}
	}
	h.config, err = h.store.Config(h.manifest)
	return h, err
}

func (h *held) has(desc ocispec.Descriptor) error {
	ok, err := h.lease.HasBlob(desc)
	if err == nil && !ok {
		err = fmt.Errorf("blob %s %w; fetch the image again", desc.Digest, store.ErrNotFound)
	}
	return err
}

func (h *held) close() { _ = h.lease.Close() }

// runExtract writes the merged root file system of an image into a new
// directory.
func runExtract(args []string) error {
	o, err := parseOut("extract", args)
	if err != nil {
		return err
	}
	task := fmt.Sprintf("extract image %q to %q", o.image, o.path)
	return untilInterrupted(task, func(ctx context.Context) error { return extract(ctx, o) })
}

// untilInterrupted does a task whose context ends when this process is told to
// end, and names it in its error.
func untilInterrupted(task string, do func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	err := do(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: interrupted", task)
	}
	return fmt.Errorf("%s: %w", task, err)
}

func extract(ctx context.Context, o outOptions) error {
	if err := checkTarget(o); err != nil {
		return err
	}
	h, err := hold(o.dir, o.image)
	if err != nil {
		return err
	}
	defer h.close()
	// Only root may look into the directory until the caller opens it to
	// others: there are set-user-ID programs of a stranger in it.
	temp, err := os.MkdirTemp(filepath.Dir(o.path), ".rkt-extract-")
	if err != nil {
		return inParent(o.path, err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := h.unpackTo(ctx, temp); err != nil {
		return err
	}
	made := filepath.Join(temp, sandbox.Rootfs)
	if !o.rootfsOnly {
		text, err := h.store.ReadBlob(h.image.Manifest)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(temp, "manifest"), text, 0o644); err != nil {
			return err
		}
		made = temp
	}
	return moveTo(made, o.path, o.overwrite)
}

// inParent names the directory, which the caller knows, instead of the
// temporary name in it.
func inParent(path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("write to directory %q: %w", filepath.Dir(path), err)
}

// unpackTo merges the layers into the directory Rootfs in work.
func (h *held) unpackTo(ctx context.Context, work string) error {
	// What a root directory is of which no layer says anything.
	root := filepath.Join(work, sandbox.Rootfs)
	err := os.Mkdir(root, 0o755)
	if err == nil {
		err = os.Chmod(root, 0o755) // whatever the umask
	}
	if err == nil {
		err = os.Chtimes(root, time.Unix(0, 0), time.Unix(0, 0))
	}
	if err != nil {
		return err
	}
	for i, desc := range h.manifest.Layers {
		blob, err := h.store.OpenBlob(desc)
		if err != nil {
			return err
		}
		_, err = sandbox.Run(ctx, blob, work, sandbox.Request{
			MediaType: desc.MediaType, Size: desc.Size, DiffID: h.config.RootFS.DiffIDs[i], Merge: true,
		})
		_ = blob.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTarget refuses what a slip of the hand would make of a system.
func checkTarget(o outOptions) error {
	info, err := os.Lstat(o.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	root, err := os.Stat("/")
	if err != nil {
		return err
	}
	if os.SameFile(info, root) {
		return errors.New("the root directory of this system cannot be the target")
	}
	if !o.overwrite {
		return errors.New("the target exists, --overwrite replaces it")
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	if dir == o.path || strings.HasPrefix(dir, o.path+"/") {
		return fmt.Errorf("--overwrite would remove rkt's own directory %q", dir)
	}
	return nil
}

// moveTo gives a tree its name, at once where the file system can do that, and
// removes what had the name.
func moveTo(from, to string, overwrite bool) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST) && !overwrite:
		return errors.New("the target exists, --overwrite replaces it")
	case errors.Is(err, unix.EEXIST):
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
		if err == nil {
			return os.RemoveAll(from)
		}
	}
	if errors.Is(err, unix.EINVAL) { // a network file system
		if overwrite {
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
		return os.Rename(from, to)
	}
	if errors.Is(err, unix.EBUSY) {
		return errors.New("the target is a mount point, which cannot be replaced")
	}
	return err
}
