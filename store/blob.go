package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
)

// MaxDocument limits what ReadBlob and PutBlob take: manifests, indexes,
// configurations, evidence.
const MaxDocument = 4 << 20

// CorruptError says that a blob of the store no longer is what its name says.
// Store.RemoveBlob makes room for fetching it again.
type CorruptError struct {
	Digest digest.Digest
	Path   string // the file
	Reason string // "has 3 bytes instead of 5"
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("blob %s is corrupt: file %q %s", e.Digest, e.Path, e.Reason)
}

// HasBlob reports whether a blob of that size is there, without reading it. A
// size of 0 is not compared. Nothing keeps the answer true; see Lease.HasBlob.
func (s *Store) HasBlob(d digest.Digest, size int64) bool {
	path, err := s.blobPath(d)
	if err != nil {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && (size == 0 || info.Size() == size)
}

// OpenBlob opens a blob for one reading from start to end. Size and digest are
// verified on the way: where a sound blob ends with io.EOF, Read returns a
// *CorruptError instead. So bytes may be used as they come, if what was made
// of them is thrown away on error. A size of 0 is not compared.
func (s *Store) OpenBlob(desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, size, err := s.openBlob(desc)
	if err != nil {
		return nil, err
	}
	return &blobReader{file: f, size: size, digest: desc.Digest, hash: desc.Digest.Algorithm().Hash()}, nil
}

// openBlob opens the file of a blob, whose size it compares.
func (s *Store) openBlob(desc ocispec.Descriptor) (*os.File, int64, error) {
	path, err := s.blobPath(desc.Digest)
	if err != nil {
		return nil, 0, err
	}
	// Not blocking, so that a FIFO put there cannot hang us.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("blob %s %w", desc.Digest, ErrNotFound)
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, 0, &CorruptError{desc.Digest, path, "is a symbolic link"}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("open blob: %w", err)
	case !info.Mode().IsRegular():
		err = &CorruptError{desc.Digest, path, "is not a regular file"}
	case desc.Size != 0 && info.Size() != desc.Size:
		err = &CorruptError{desc.Digest, path, fmt.Sprintf("has %d bytes instead of %d", info.Size(), desc.Size)}
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

type blobReader struct {
	file   *os.File
	size   int64 // promised
	read   int64
	digest digest.Digest
	hash   hash.Hash
}

func (r *blobReader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	r.hash.Write(p[:n])
	r.read += int64(n)
	switch {
	case r.read > r.size, errors.Is(err, io.EOF) && r.read != r.size:
		return n, &CorruptError{r.digest, r.file.Name(), fmt.Sprintf("changed its size from %d while being read", r.size)}
	case errors.Is(err, io.EOF):
		if got := digest.NewDigest(r.digest.Algorithm(), r.hash); got != r.digest {
			return n, &CorruptError{r.digest, r.file.Name(), "has the digest " + got.String()}
		}
		return n, io.EOF
	case err != nil:
		return n, fmt.Errorf("read blob: %w", err)
	}
	return n, nil
}

func (r *blobReader) Close() error { return r.file.Close() }

// ReadBlob reads a document of at most MaxDocument bytes and verifies it. A
// size of 0 is not compared.
func (s *Store) ReadBlob(desc ocispec.Descriptor) ([]byte, error) {
	f, size, err := s.openBlob(desc)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if size > MaxDocument {
		return nil, fmt.Errorf("blob %s has %d bytes, more than the limit of %d for a document", desc.Digest, size, MaxDocument)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read blob: file %q: %w", f.Name(), err)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, &CorruptError{desc.Digest, f.Name(), "has the digest " + got.String()}
	}
	return data, nil
}

// PutBlob stores a document of at most MaxDocument bytes and returns its
// descriptor. A blob that is there but corrupt is replaced. Every Lease of
// this Store that is open protects the blob; without one, and without Share,
// it is garbage until a name refers to it.
func (s *Store) PutBlob(mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if len(data) > MaxDocument {
		return desc, fmt.Errorf("store blob %s: %d bytes are more than the limit of %d for a document", desc.Digest, len(data), MaxDocument)
	}
	release, err := s.Share()
	if err != nil {
		return desc, err
	}
	defer release()
	for _, l := range s.openLeases() {
		// A lease that somebody else has closed by now is not the caller's.
		if err := l.protect(blobLine(desc.Digest)); err != nil && !errors.Is(err, os.ErrClosed) {
			return desc, err
		}
	}
	if there, err := s.ReadBlob(desc); err == nil && bytes.Equal(there, data) {
		return desc, nil
	}
	path, err := s.blobPath(desc.Digest)
	if err != nil {
		return desc, err
	}
	if err := atomicfile.WriteVia(s.path("partial"), path, data, filePerm); err != nil {
		return desc, fmt.Errorf("store blob: %w", err)
	}
	return desc, nil
}

// RemoveBlob removes a blob that is corrupt, so that it can be fetched again.
// A blob that is not there is no error.
func (s *Store) RemoveBlob(d digest.Digest) error {
	path, err := s.blobPath(d)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}
