package stage0

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/seccomp"
)

// filter is a seccomp profile in the two forms that a pod gets: linux.seccomp
// of the configuration, and the program for the kernel. The zero value is none.
type filter struct {
	profile json.RawMessage
	program []byte
}

const (
	instruction = 8                  // bytes of a struct sock_filter
	maxProgram  = 4096 * instruction // BPF_MAXINSNS
	maxProfile  = 1 << 20
)

// defaultFilter gives the filter for apps with the default capabilities. It
// costs milliseconds to make, so it is kept in <dir>/cache/seccomp, from where
// it may be deleted at any time.
func defaultFilter(dir string) (filter, error) {
	caps := defaultCaps()
	base := filepath.Join(dir, "cache", "seccomp", seccomp.Key(caps))
	if f, err := readFilter(base); err == nil {
		return f, nil
	}
	f, err := makeFilter(caps)
	if err != nil {
		return filter{}, err
	}
	// A cache that cannot be written makes the next start slower, no more.
	_ = writeFilter(base, f)
	return f, nil
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
	program, err := readLimited(base+".bpf", maxProgram)
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
// not there.
func writeFilter(base string, f filter) error {
	if err := os.MkdirAll(filepath.Dir(base), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := atomicfile.Write(base+".json", f.profile, 0o640); err != nil {
		return err
	}
	return atomicfile.Write(base+".bpf", f.program, 0o640)
}
