package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An abi is one set of system call numbers.
type abi int

const (
	abiAMD64 abi = iota
	abi386
	abiX32
	abiARM64
	abiARM
)

const (
	// x32Bit marks a number as one of x32: the kernel reports amd64 as the
	// architecture of both.
	x32Bit = 0x40000000

	// x32Block is where the numbers start that x32 has for itself,
	// x32BlockEnd the first one behind them.
	x32Block    = 512
	x32BlockEnd = 548

	// armPrivate is the first of the numbers that arm has outside the table.
	armPrivate = 0x0f0000

	// noCall is the number that a tracer sets to have a call skipped.
	noCall = 0xffffffff
)

// wide says that arguments are compared as 64-bit values. The other ABIs pass
// 32 bits, and what the upper half of a register held before is not the
// program's word: through int 0x80 a 64-bit program chooses it freely.
func (a abi) wide() bool { return a == abiAMD64 || a == abiARM64 }

// base is added to the numbers of the table.
func (a abi) base() uint32 {
	if a == abiX32 {
		return x32Bit
	}
	return 0
}

// ordinary says that nr is one of those that are given out in the order in
// which the kernel gains calls.
func ordinary(nr uint32) bool { return nr < x32Block }

// An audience is an architecture as the kernel reports it to the filter, with
// the ABIs behind it that the profile lets in.
type audience struct {
	audit uint32
	abis  []abi
}

// family lists the ABIs that one kernel can run, by the GOARCH of the program
// that loads the filter, that one's own first; amd64 is before x32.
func family(arch string) ([]abi, error) {
	switch arch {
	case "amd64":
		return []abi{abiAMD64, abi386, abiX32}, nil
	case "386":
		return []abi{abi386, abiAMD64, abiX32}, nil
	case "arm64":
		return []abi{abiARM64, abiARM}, nil
	case "arm":
		return []abi{abiARM, abiARM64}, nil
	}
	return nil, fmt.Errorf("architecture %q has no system call table, choose from amd64, 386, arm64, arm", arch)
}

func (a abi) oci() specs.Arch {
	return [...]specs.Arch{
		abiAMD64: specs.ArchX86_64,
		abi386:   specs.ArchX86,
		abiX32:   specs.ArchX32,
		abiARM64: specs.ArchAARCH64,
		abiARM:   specs.ArchARM,
	}[a]
}

func (a abi) audit() uint32 {
	return [...]uint32{
		abiAMD64: unix.AUDIT_ARCH_X86_64,
		abi386:   unix.AUDIT_ARCH_I386,
		abiX32:   unix.AUDIT_ARCH_X86_64,
		abiARM64: unix.AUDIT_ARCH_AARCH64,
		abiARM:   unix.AUDIT_ARCH_ARM,
	}[a]
}

// audiences chooses the ABIs that the profile lets in: the program's own
// always, as every runtime does, and those of the same family that it lists.
// One of another family cannot occur and is passed over, so that a profile can
// list the architectures of all its machines.
func audiences(listed []specs.Arch, arch string) ([]audience, error) {
	kin, err := family(arch)
	if err != nil {
		return nil, err
	}
	for _, name := range listed {
		if !slices.Contains(architectures(), name) {
			return nil, fmt.Errorf("architecture %q is unknown", name)
		}
	}
	var all []audience
	for i, a := range kin {
		if i > 0 && !slices.Contains(listed, a.oci()) {
			continue
		}
		at := slices.IndexFunc(all, func(x audience) bool { return x.audit == a.audit() })
		if at < 0 {
			at = len(all)
			all = append(all, audience{audit: a.audit()})
		}
		all[at].abis = append(all[at].abis, a)
	}
	return all, nil
}

// architectures are the names that the runtime specification knows.
func architectures() []specs.Arch {
	return []specs.Arch{
		specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64,
		specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64,
		specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390,
		specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64,
		specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
	}
}
