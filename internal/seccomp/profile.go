package seccomp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// revision changes whenever Compile makes another filter of the same profile.
const revision = "1"

// Default returns the profile that container runtimes have in common, for an
// app that has these capabilities at most ("CAP_SYS_ADMIN", …), for this
// machine's architecture and kernel.
func Default(caps []string) (*specs.LinuxSeccomp, error) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
	p, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("make default seccomp profile: %w", err)
	}
	return p, nil
}

// DefaultFilter returns the default profile and its filter, to be loaded with
// the profile's Flags.
func DefaultFilter(caps []string) ([]byte, *specs.LinuxSeccomp, error) {
	p, err := Default(caps)
	if err != nil {
		return nil, nil, err
	}
	filter, err := Compile(p, runtime.GOARCH)
	if err != nil {
		return nil, nil, err
	}
	return filter, p, nil
}

// Key names the result of DefaultFilter: equal keys mean equal filters. It is
// a short word of letters and digits, good as a file name.
func Key(caps []string) string {
	var uts unix.Utsname
	release := ""
	if unix.Uname(&uts) == nil { // else DefaultFilter fails too
		release = unix.ByteSliceToString(uts.Release[:])
	}
	return key(caps, runtime.GOARCH, release)
}

func key(caps []string, arch, release string) string {
	caps = slices.Compact(slices.Sorted(slices.Values(caps)))
	h := sha256.New()
	for _, fact := range append([]string{revision, tableVersion, profileVersion, arch, release}, caps...) {
		fmt.Fprintf(h, "%q\n", fact)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
