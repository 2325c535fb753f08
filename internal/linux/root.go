package linux

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A Root is a directory tree that somebody else filled, such as an image's.
// Every path is resolved inside it (openat2(2), RESOLVE_IN_ROOT): neither
// "..", nor symbolic links, nor magic links lead out.
type Root struct{ fd int }

// OpenRoot opens the tree at a trusted path.
func OpenRoot(name string) (*Root, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %q: %w", name, err)
	}
	return &Root{fd}, nil
}

// RootAt uses a directory descriptor, which the Root closes.
func RootAt(fd int) *Root { return &Root{fd} }

// FD is the directory itself. It belongs to the Root.
func (r *Root) FD() int { return r.fd }

// Close closes the directory.
func (r *Root) Close() { unix.Close(r.fd) }

// Open opens a path inside the root. Symbolic links are followed inside it,
// unless flags have O_NOFOLLOW for the last one.
func (r *Root) Open(name string, flags int, perm uint32) (int, error) {
	return r.open(name, flags, perm, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// OpenPlain opens a path on which no part is a symbolic link.
func (r *Root) OpenPlain(name string, flags int) (int, error) {
	return r.open(name, flags, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
}

func (r *Root) open(name string, flags int, perm uint32, resolve uint64) (int, error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(perm), Resolve: resolve}
	if name == "" || name == "/" {
		name = "."
	}
	for {
		fd, err := unix.Openat2(r.fd, name, how)
		// EAGAIN: the kernel could not rule out that a rename raced with "..".
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		return fd, err
	}
}

// MkdirAll opens a directory inside the root and makes those parts of the path
// that are missing, with mode 0755. Symbolic links on the way are followed
// inside the root. The descriptor (O_PATH) is the caller's.
func (r *Root) MkdirAll(name string) (int, error) {
	fd, err := r.Open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parts := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	for i := range parts {
		if fd, err = r.mkdir(path.Join(parts[:i]...), path.Join(parts[:i+1]...), parts[i]); err != nil {
			return -1, err
		}
		if i < len(parts)-1 {
			unix.Close(fd)
		}
	}
	return fd, nil
}

func (r *Root) mkdir(parent, whole, base string) (int, error) {
	fd, err := r.Open(whole, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	up, err := r.Open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	if err := unix.Mkdirat(up, base, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return r.Open(whole, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// CreateFile opens a path as a mount target for a file (O_PATH), and makes an
// empty file and its parents where nothing is there.
func (r *Root) CreateFile(name string) (int, error) {
	fd, err := r.Open(name, unix.O_PATH, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	up, err := r.MkdirAll(path.Dir(path.Clean("/" + name)))
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	file, err := unix.Openat(up, path.Base(name), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return -1, err
	}
	unix.Close(file)
	return r.Open(name, unix.O_PATH, 0)
}

// ErrTooBig is a file larger than the reader's bound.
var ErrTooBig = errors.New("file is too large")

// ReadFile reads a regular file of at most limit bytes. Anything else at that
// path (a FIFO, a device, a directory) is an error, and opening it has no
// effect on it (CVE-2024-9341, CVE-2025-4437, CVE-2026-47262).
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	fd, err := r.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %q: not a regular file", name)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("read %q: %w (%d bytes, at most %d)", name, ErrTooBig, st.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %q: %w (at most %d bytes)", name, ErrTooBig, limit)
	}
	return data, nil
}
