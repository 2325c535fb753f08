// Package seccomp turns the system call rules of an OCI runtime-spec into a
// filter for the kernel, without libseccomp and without C.
//
// It makes filters and never loads one. Loading is prctl(2) or seccomp(2) with
// what Compile returns and with the flags that Flags returns.
//
// The rules are those of the runtime specification, config-linux.md, section
// "Seccomp"; where that leaves a choice, the package does what runc does with
// libseccomp, since profiles are written for that. A filter is classic BPF as
// in Documentation/userspace-api/seccomp_filter.rst of the kernel.
//
// Two things a filter adds to its profile. A call of an architecture that the
// profile does not list kills the process. And where the default action is an
// errno, a call that is newer than all that the profile names fails with
// ENOSYS instead, as if the kernel were as old as the profile.
package seccomp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Compile returns the filter of a profile as an array of struct sock_filter,
// in the byte order of this machine. arch is the GOARCH of the program that
// loads it; the other architectures of the profile are let in when the same
// kernel can run them.
//
// Names that an architecture does not have are passed over there (see
// Unknown). What the filter could not honour is an error: an action, operator,
// flag or architecture that the specification does not know, SCMP_ACT_NOTIFY,
// an errno out of range, a profile that needs more instructions than the
// kernel takes.
func Compile(p *specs.LinuxSeccomp, arch string) ([]byte, error) {
	filter, err := compile(p, arch)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	return filter, nil
}

func compile(p *specs.LinuxSeccomp, arch string) ([]byte, error) {
	if p == nil {
		return nil, errors.New("there is none")
	}
	if _, err := Flags(p); err != nil {
		return nil, err
	}
	heard, err := audiences(p.Architectures, arch)
	if err != nil {
		return nil, err
	}
	rules, err := newRuleset(p)
	if err != nil {
		return nil, err
	}
	b := newBuilder(rules)
	root := b.killNode
	for _, h := range slices.Backward(heard) {
		numbers, err := b.audience(h)
		if err != nil {
			return nil, err
		}
		root = b.test(wordArch, 0, unix.BPF_JEQ, h.audit, numbers, root)
	}
	return b.assemble(root)
}
