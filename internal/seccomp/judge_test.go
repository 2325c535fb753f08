package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A judge says what a profile means for a call by going through the profile
// from its start for each call, with none of the compiler's code or order.
type judge struct {
	profile *specs.LinuxSeccomp
	arch    string
	names   map[abi]map[uint32][]string
}

func newJudge(p *specs.LinuxSeccomp, arch string) *judge {
	j := &judge{profile: p, arch: arch, names: map[abi]map[uint32][]string{}}
	for a, rows := range byNumber {
		j.names[abi(a)] = map[uint32][]string{}
		for _, row := range rows {
			j.names[abi(a)][row.nr] = append(j.names[abi(a)][row.nr], row.call.String())
		}
	}
	return j
}

func (j *judge) letsIn(a specs.Arch) bool {
	native := map[string]specs.Arch{
		"amd64": specs.ArchX86_64, "386": specs.ArchX86, "arm64": specs.ArchAARCH64, "arm": specs.ArchARM,
	}[j.arch]
	return a == native || slices.Contains(j.profile.Architectures, a)
}

func value(name specs.LinuxSeccompAction, errno *uint) action {
	number := action(1)
	if errno != nil {
		number = action(*errno)
	}
	switch name {
	case specs.ActKill, specs.ActKillThread:
		return 0
	case specs.ActTrap:
		return 0x00030000
	case specs.ActErrno:
		return 0x00050000 | number
	case specs.ActTrace:
		return 0x7ff00000 | number
	case specs.ActLog:
		return 0x7ffc0000
	case specs.ActAllow:
		return 0x7fff0000
	}
	return 0x80000000
}

func (j *judge) decide(d data) action {
	const kill = action(0x80000000)
	x86 := j.arch == "amd64" || j.arch == "386"
	switch {
	case d.arch == unix.AUDIT_ARCH_I386 && x86 && j.letsIn(specs.ArchX86):
		return j.call(abi386, d.nr, d.args)
	case d.arch == unix.AUDIT_ARCH_ARM && !x86 && j.letsIn(specs.ArchARM):
		return j.call(abiARM, d.nr, d.args)
	case d.arch == unix.AUDIT_ARCH_AARCH64 && !x86 && j.letsIn(specs.ArchAARCH64):
		return j.call(abiARM64, d.nr, d.args)
	case d.arch != unix.AUDIT_ARCH_X86_64 || !x86:
		return kill
	}
	isX32 := d.nr >= 1<<30 && d.nr != 1<<32-1
	if isX32 && j.letsIn(specs.ArchX32) {
		return j.call(abiX32, d.nr-1<<30, d.args)
	}
	if !isX32 && j.letsIn(specs.ArchX86_64) {
		return j.call(abiAMD64, d.nr, d.args)
	}
	return kill
}

func (j *judge) fallback() action {
	return value(j.profile.DefaultAction, j.profile.DefaultErrnoRet)
}

// call judges a number of an ABI.
func (j *judge) call(a abi, nr uint32, args [6]uint64) action {
	fallback := j.fallback()
	isErrno := fallback>>16 == 5
	permissive := fallback == 0x7fff0000 || fallback == 0x7ffc0000
	names := j.names[a][nr]
	if len(names) == 0 {
		ghost := a == abiAMD64 && nr >= 512 && nr <= 547 ||
			a == abiX32 && nr < 512 && nr < slices.MaxFunc(byNumber[abiAMD64], func(a, b numbered) int { return int(a.nr) - int(b.nr) }).nr
		if isErrno || permissive && ghost {
			return 0x00050000 | action(unix.ENOSYS)
		}
		return fallback
	}
	if a != abiAMD64 && a != abiARM64 {
		for i := range args {
			args[i] &= 1<<32 - 1
		}
	}
	if isErrno && nr < 512 && nr > 402 {
		tooNew := true
		for known, names := range j.names[a] {
			if known < 512 && known >= nr && slices.ContainsFunc(names, j.mentions) {
				tooNew = false
			}
		}
		if tooNew {
			return 0x00050000 | action(unix.ENOSYS)
		}
	}
	if got, ok := j.named(a, names, args); ok {
		return got
	}
	if a == abi386 {
		if got, ok := j.inner(names[0], args); ok {
			return got
		}
	}
	return fallback
}

func (j *judge) mentions(name string) bool {
	return slices.ContainsFunc(j.profile.Syscalls, func(s specs.LinuxSyscall) bool { return slices.Contains(s.Names, name) })
}

// named finds the rule for one of the names: one without conditions, or the
// first whose conditions hold.
func (j *judge) named(a abi, names []string, args [6]uint64) (action, bool) {
	for _, conditional := range []bool{false, true} {
		for _, s := range j.profile.Syscalls {
			act := value(s.Action, s.ErrnoRet)
			if act == j.fallback() || conditional != (len(s.Args) > 0) ||
				!slices.ContainsFunc(names, func(n string) bool { return slices.Contains(s.Names, n) }) {
				continue
			}
			wide := a == abiAMD64 || a == abiARM64
			if !conditional || entryHolds(s.Args, args, wide) {
				return act, true
			}
		}
	}
	return 0, false
}

func entryHolds(conds []specs.LinuxSeccompArg, args [6]uint64, wide bool) bool {
	perArg := [6]int{}
	any, all := false, true
	repeated := false
	for _, c := range conds {
		perArg[c.Index]++
		repeated = repeated || perArg[c.Index] > 1
		is := condHolds(c, args[c.Index], wide)
		any = any || is
		all = all && is
	}
	if repeated {
		return any
	}
	return all
}

func condHolds(c specs.LinuxSeccompArg, arg uint64, wide bool) bool {
	same := func(v uint64) uint64 {
		if low := int32(uint32(v)); !wide && low < 0 && v == uint64(int64(low)) {
			return v & (1<<32 - 1)
		}
		return v
	}
	v := same(c.Value)
	switch c.Op {
	case specs.OpEqualTo:
		return arg == v
	case specs.OpNotEqual:
		return arg != v
	case specs.OpLessThan:
		return arg < v
	case specs.OpLessEqual:
		return arg <= v
	case specs.OpGreaterThan:
		return arg > v
	case specs.OpGreaterEqual:
		return arg >= v
	}
	return arg&c.Value == same(c.ValueTwo&c.Value)
}

// inner judges what socketcall or ipc is asked to do.
func (j *judge) inner(name string, args [6]uint64) (action, bool) {
	calls := map[string]map[uint64]string{
		"socketcall": {
			1: "socket", 2: "bind", 3: "connect", 4: "listen", 5: "accept", 6: "getsockname", 7: "getpeername",
			8: "socketpair", 9: "send", 10: "recv", 11: "sendto", 12: "recvfrom", 13: "shutdown",
			14: "setsockopt", 15: "getsockopt", 16: "sendmsg", 17: "recvmsg", 18: "accept4",
			19: "recvmmsg", 20: "sendmmsg",
		},
		"ipc": {
			1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop", 11: "msgsnd", 12: "msgrcv",
			13: "msgget", 14: "msgctl", 21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl",
		},
	}[name]
	which := args[0]
	if name == "ipc" {
		which &= 0xffff
	}
	call, ok := calls[which]
	if !ok {
		return 0, false
	}
	strictness := []action{0x80000000, 0, 0x00030000, 0x00050000, 0x7ff00000, 0x7ffc0000, 0x7fff0000}
	rank := func(a action) int { return slices.Index(strictness, a&^0xffff) }
	for _, conditional := range []bool{false, true} {
		for _, s := range j.profile.Syscalls {
			act := value(s.Action, s.ErrnoRet)
			if !slices.Contains(s.Names, call) || act == j.fallback() || conditional != (len(s.Args) > 0) {
				continue
			}
			if !conditional || rank(act) < rank(j.fallback()) {
				return act, true
			}
		}
	}
	return 0, false
}
