// Package unpack turns the layers of an OCI image into directory trees. It is
// the one place of rkt that interprets hostile bytes.
//
// Every path of a layer is resolved by the kernel inside the tree's root
// (openat2 with RESOLVE_IN_ROOT) and every node is made relative to the
// descriptor of its parent directory, exclusively, so that nothing that a
// layer contains can name, follow or change anything outside. It never follows
// a symbolic link as the last part of a name, never creates a device node,
// never writes through an existing file, and gives up with a *LimitError
// before a layer costs more than Limits allow. What fails leaves a partial
// tree behind, which the caller throws away.
//
// The decisions that the format leaves open:
//
//   - Names are relative to the root: a leading "/" is dropped, a part ".." is
//     refused. A parent that is missing is made with mode 0755, the caller's
//     owner (root) and time 0, and marked as implied. A parent that is a symbolic link is followed
//     inside the root, because archives put together from several packages
//     rely on it.
//   - A later entry replaces an earlier one of the same name, whatever the two
//     are; only a directory that meets a directory is kept and changed.
//   - A hard link may only name something that the same layer has unpacked.
//   - A device node becomes a whiteout: pods get their devices from stage1 and
//     mount images nodev, so a node would only be a danger to the host, and
//     nothing of a lower layer may show through in its place.
//   - Extended attributes are kept when they are user.*, security.capability
//     or POSIX ACLs, on files and directories; all others are dropped, above
//     all those with which overlayfs marks its own directories.
//
// Specifications: image-spec layer.md (whiteouts), POSIX pax, GNU tar,
// Documentation/filesystems/overlayfs.rst (userxattr).
package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// ErrDamaged is wrapped by errors about a stream that is not what it claims
// to be: cut off, not a tar archive, wrongly compressed.
var ErrDamaged = errors.New("the layer is damaged")

// ErrDiffID is wrapped by the error about a layer that was read to its end but
// whose content is not the one that the image's configuration promises.
var ErrDiffID = errors.New("the layer is not the promised one")

// Options say what a layer should be and what it may cost.
type Options struct {
	MediaType string        // of the blob, "" when nothing was promised
	Size      int64         // of the blob, 0 when unknown
	DiffID    digest.Digest // of the uncompressed stream, "" when unknown
	Limits    Limits
}

// Stats tell what a layer contained.
type Stats struct {
	Entries   int64 `json:"entries"`   // headers of the archive
	Bytes     int64 `json:"bytes"`     // uncompressed stream
	Whiteouts int64 `json:"whiteouts"` // names hidden and directories made opaque
	Devices   int64 `json:"devices"`   // device nodes not created
	Xattrs    int64 `json:"xattrs"`    // extended attributes dropped
}

// Layer unpacks a blob, compressed or not, into the directory root, and
// verifies on the way that its content has the promised diffID.
func Layer(ctx context.Context, blob io.Reader, root *os.File, o Options) (Stats, error) {
	if o.DiffID != "" {
		if err := o.DiffID.Validate(); err != nil {
			return Stats{}, fmt.Errorf("read diffID %q: %w", o.DiffID, err)
		}
	}
	s, err := openStream(ctx, blob, o)
	if err != nil {
		return Stats{}, err
	}
	defer s.Close()
	stats, err := unpack(ctx, s, root, o.Limits.orDefault(), s.input)
	if err != nil {
		return stats, err
	}
	if got := s.Digest(); o.DiffID != "" && got != o.DiffID {
		return stats, fmt.Errorf("%w: its content is %s, the image promises %s", ErrDiffID, got, o.DiffID)
	}
	return stats, nil
}

// Unpack unpacks an uncompressed tar archive into the directory root as one
// layer for overlayfs with "userxattr": a whiteout is a character device 0/0,
// an opaque directory has the extended attribute user.overlay.opaque=y. The
// stream is read to its end, beyond the end of the archive. The directory
// itself gets mode 0755 and the caller's owner unless the archive says otherwise.
func Unpack(ctx context.Context, archive io.Reader, root *os.File, l Limits) (Stats, error) {
	return unpack(ctx, archive, root, l.orDefault(), nil)
}

// unpacker is the state of one layer while it is read.
type unpacker struct {
	tree    *tree
	limits  Limits
	archive *tar.Reader
	in      *counter     // the archive
	input   func() int64 // bytes that were paid for what has been expanded
	stats   Stats
	written int64 // file contents, holes included
	buf     []byte
	dirs    *laterDirs
}

func unpack(ctx context.Context, archive io.Reader, root *os.File, l Limits, input func() int64) (Stats, error) {
	in := &counter{r: archive}
	if input == nil {
		input = in.count
	}
	t, err := openTree(root, l.Depth)
	if err != nil {
		return Stats{}, err
	}
	defer t.close()
	u := &unpacker{
		tree: t, limits: l, in: in, input: input, archive: tar.NewReader(in),
		buf: make([]byte, chunkSize), dirs: newLaterDirs(l.Directories),
	}
	err = u.run(ctx)
	u.stats.Bytes = in.n
	return u.stats, err
}

func (u *unpacker) run(ctx context.Context) error {
	if err := u.imply(u.tree.top, ""); err != nil {
		return fmt.Errorf("set mode and owner of the layer's root: %w", err)
	}
	last := "at its beginning"
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := u.archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return damaged(err, last)
		}
		if u.stats.Entries++; u.stats.Entries > u.limits.Entries {
			return &LimitError{Limit: "entries", Max: u.limits.Entries}
		}
		if err := u.limits.expand(u.in.n, u.input()); err != nil {
			return err
		}
		if err := u.entry(h); err != nil {
			return fmt.Errorf("entry %s: %w", quote(h.Name), err)
		}
		last = "after entry " + quote(h.Name)
	}
	if err := u.in.drain(u.buf, u.limits.Size); err != nil {
		return damaged(err, last)
	}
	return u.dirs.apply(u.tree)
}

// entry applies one header of the archive and the content that follows it.
func (u *unpacker) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := u.limits.clean(h.Name)
	if err != nil {
		return err
	}
	u.tree.refresh()
	if done, err := u.whiteout(name); done || err != nil {
		return err
	}
	m, err := u.meta(h)
	if err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("the root of a layer must be a directory, not %s", kind(h.Typeflag))
		}
		if err := express(u.tree.top); err != nil {
			return err
		}
		return u.setDir(u.tree.top, "", m)
	}
	up, base := split(name)
	parent, err := u.parent(up)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(parent, base, h, m)
	case tar.TypeDir:
		return u.dir(parent, base, name, m)
	case tar.TypeSymlink:
		return u.symlink(parent, base, h.Linkname, m)
	case tar.TypeLink:
		return u.link(parent, base, h.Linkname)
	case tar.TypeFifo:
		return u.fifo(parent, base, m)
	case tar.TypeChar, tar.TypeBlock:
		u.stats.Devices++
		return u.replace(parent, base, func() error {
			return unix.Mknodat(parent.fd, base, unix.S_IFCHR, 0)
		})
	}
	return fmt.Errorf("the type of the entry, %q, is unknown", h.Typeflag)
}

// damaged explains an error of the stream. Limits and a cancelled context
// speak for themselves.
func damaged(err error, where string) error {
	var limit *LimitError
	if errors.As(err, &limit) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w %s: %w", ErrDamaged, where, err)
}

// kind names a type of entry in an error.
func kind(flag byte) string {
	switch flag {
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeLink:
		return "a hard link"
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeFifo:
		return "a FIFO"
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return "a file"
	}
	return fmt.Sprintf("an entry of type %q", flag)
}
