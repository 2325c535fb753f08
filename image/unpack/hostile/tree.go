package hostile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Canary makes the directory that Cases aim at.
func Canary(dir string) error {
	for name, mode := range map[string]os.FileMode{"etc/passwd": 0o600, "bin/sh": 0o755} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte("must not change: "+name+"\n"), mode); err != nil {
			return err
		}
	}
	return os.Symlink("etc", filepath.Join(dir, "link"))
}

// Census describes everything below dir: names, types, modes, owners, links,
// times of change and contents. Two of them are equal when nothing changed.
// The paths in without are left out, with all that is below.
func Census(dir string, without ...string) (string, error) {
	var all strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		for _, w := range without {
			if path == w {
				if info.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		st := info.Sys().(*syscall.Stat_t)
		links := st.Nlink
		if info.IsDir() { // file systems differ
			links = 1
		}
		fmt.Fprintf(&all, "%q %v %d:%d links=%d dev=%d mtime=%d.%09d", strings.TrimPrefix(path, dir), info.Mode(),
			st.Uid, st.Gid, links, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec)
		switch {
		case info.Mode().IsRegular():
			sum, err := content(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, " size=%d %s", info.Size(), sum)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, " -> %q", target)
		}
		if err := xattrs(&all, path, info); err != nil {
			return err
		}
		all.WriteByte('\n')
		return nil
	})
	return all.String(), err
}

func content(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

func xattrs(w io.Writer, path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil
	}
	if n, err := syscall.Listxattr(path, nil); err == nil && n == 0 {
		return nil
	}
	names := make([]byte, 64<<10)
	n, err := syscall.Listxattr(path, names)
	if err != nil && err != syscall.ENOTSUP {
		return fmt.Errorf("list extended attributes of %q: %w", path, err)
	}
	for name := range strings.SplitSeq(string(names[:max(0, n)]), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := syscall.Getxattr(path, name, value)
		if err != nil {
			return fmt.Errorf("read extended attribute %q of %q: %w", name, path, err)
		}
		fmt.Fprintf(w, " %s=%x", name, value[:n])
	}
	return nil
}
