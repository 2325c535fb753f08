// Package atomicfile replaces files so that every reader sees the old content
// or the new one and never a part, whatever moment the writer is killed at.
//
// A new file is written under a temporary name in the same directory and
// renamed. What a killed writer leaves behind is a temporary name, which
// IsTemp recognises and Sweep removes; it is never read.
package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt/rkt/internal/failpoint"
)

// prefix starts every temporary name.
const prefix = ".atomic-"

// Write makes path hold exactly data, with permissions perm whatever the
// umask. When it returns nil, the content survives a power cut.
func Write(path string, data []byte, perm os.FileMode) error {
	return WriteVia(filepath.Dir(path), path, data, perm)
}

// WriteVia is Write with the temporary name in another directory of the same
// file system, for directories in which nothing else may ever appear.
func WriteVia(dir, path string, data []byte, perm os.FileMode) error {
	if err := replace(dir, path, data, perm, true); err != nil {
		return err
	}
	failpoint.Hit("atomicfile.renamed")
	return SyncDir(filepath.Dir(path))
}

// WriteVolatile is Write without waiting for the disk: killing the writer is
// as harmless as with Write, but after a power cut the file may be the old
// one, the new one, or empty. For what a reboot ends anyway.
func WriteVolatile(path string, data []byte, perm os.FileMode) error {
	return replace(filepath.Dir(path), path, data, perm, false)
}

func replace(dir, path string, data []byte, perm os.FileMode, durable bool) error {
	f, err := os.CreateTemp(dir, prefix+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, cause(err))
	}
	err = fill(f, data, perm, durable)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // if this fails too, Sweep is for it
		return fmt.Errorf("write %q: %w", path, cause(err))
	}
	return nil
}

func fill(f *os.File, data []byte, perm os.FileMode, durable bool) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	failpoint.Hit("atomicfile.written")
	if !durable {
		return nil
	}
	if err := f.Sync(); err != nil {
		return err
	}
	failpoint.Hit("atomicfile.synced")
	return nil
}

// cause drops the temporary name from an error: it means nothing to the reader.
func cause(err error) error {
	var file *os.PathError
	if errors.As(err, &file) {
		return file.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}

// SyncDir makes the names in a directory survive a power cut: what was
// created, renamed or removed there before.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closed := d.Close(); err == nil {
		err = closed
	}
	return err
}

// IsTemp reports whether a file's base name is one that an unfinished write
// leaves behind.
func IsTemp(name string) bool { return strings.HasPrefix(name, prefix) }

// Sweep removes what unfinished writes left in dir. The caller makes sure that
// nobody is writing there.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !IsTemp(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
