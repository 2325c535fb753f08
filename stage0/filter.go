package stage0

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/flock"
	"github.com/rkt/rkt/internal/seccomp"
	"github.com/rkt/rkt/pod"
)

// filter is a seccomp profile in the two forms that a pod gets: linux.seccomp
// of the configuration, and the program for the kernel. The zero value is none.
type filter struct {
	profile json.RawMessage
	program []byte
	file    string // has the program, "" if none does
}

const (
	programSuffix = ".bpf"

	instruction = 8                  // bytes of a struct sock_filter
	maxProgram  = 4096 * instruction // BPF_MAXINSNS
	maxProfile  = 1 << 20
)

// defaultFilter gives the filter for apps with the default capabilities. It
// costs milliseconds to make, so it is kept in <dir>/cache/seccomp, from where
// it may be deleted at any time.
func defaultFilter(dir string) (filter, error) {
	caps := defaultCaps()
	base := filepath.Join(cacheDir(dir), seccomp.Key(caps))
	if f, err := readFilter(base); err == nil {
		f.file = base + programSuffix
		return f, nil
	}
	f, err := makeFilter(caps)
	if err != nil {
		return filter{}, err
	}
	// A cache that cannot be written makes the next start slower, no more.
	if writeFilter(base, f) == nil {
		f.file = base + programSuffix
	}
	return f, nil
}

// put gives a pod its filter: a link to the cached file, where that is
// possible. The file is never written again, only replaced.
func (f filter) put(p *pod.Pod, name string) error {
	if f.program == nil {
		return nil
	}
	if f.file != "" && p.Link(f.file, name) == nil {
		return nil
	}
	return p.Create(name, f.program)
}

func makeFilter(caps []string) (filter, error) {
	program, profile, err := seccomp.DefaultFilter(caps)
	if err != nil {
		return filter{}, err
	}
	text, err := json.Marshal(profile)
	if err != nil {
		return filter{}, fmt.Errorf("write seccomp profile: %w", err)
	}
	return filter{profile: text, program: program}, nil
}

func readFilter(base string) (filter, error) {
	program, err := readLimited(base+programSuffix, maxProgram)
	if err != nil {
		return filter{}, err
	}
	if len(program) == 0 || len(program)%instruction != 0 {
		return filter{}, errors.New("not a filter")
	}
	profile, err := readLimited(base+".json", maxProfile)
	if err != nil {
		return filter{}, err
	}
	if len(profile) < 2 || profile[0] != '{' || profile[len(profile)-1] != '}' {
		return filter{}, errors.New("not a profile")
	}
	return filter{profile: profile, program: program}, nil
}

// writeFilter waits for the disk: after a power cut, the files are whole or
// not there. It leaves the writing to another process that is at it.
func writeFilter(base string, f filter) error {
	dir := filepath.Dir(base)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	unlock, err := sweepCache(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := atomicfile.Write(base+".json", f.profile, 0o640); err != nil {
		return err
	}
	return atomicfile.Write(base+programSuffix, f.program, 0o640)
}

// sweepCache locks a directory of the cache against other writers, and removes
// what killed ones have left.
func sweepCache(dir string) (unlock func(), err error) {
	l, err := flock.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := l.TryExclusive(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := atomicfile.Sweep(dir); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return func() { _ = l.Close() }, nil
}

// cacheDir is where filters are kept.
func cacheDir(dir string) string { return filepath.Join(dir, "cache", "seccomp") }

// collectCache removes what killed writers have left in the cache.
func collectCache(dir string) error {
	unlock, err := sweepCache(cacheDir(dir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrLocked) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep cache: %w", err)
	}
	unlock()
	return nil
}
