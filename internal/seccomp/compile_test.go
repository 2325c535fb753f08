package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var goarches = []string{"amd64", "386", "arm64", "arm"}

var audits = []uint32{
	unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM,
	unix.AUDIT_ARCH_S390X, 0,
}

func errno(e unix.Errno) *uint { n := uint(e); return &n }

func returns(e unix.Errno) action { return unix.SECCOMP_RET_ERRNO | action(e) }

// number finds a call as the kernel would report it.
func number(t testing.TB, a abi, name string) uint32 {
	t.Helper()
	for _, row := range byNumber[a] {
		if row.call.String() == name {
			return a.base() + row.nr
		}
	}
	t.Fatalf("%s has no call %q", a.oci(), name)
	return 0
}

func mustCompile(t testing.TB, p *specs.LinuxSeccomp, arch string) []unix.SockFilter {
	t.Helper()
	filter, err := Compile(p, arch)
	if err != nil {
		t.Fatal(err)
	}
	return program(t, filter)
}

func sys(act specs.LinuxSeccompAction, names string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: strings.Fields(names), Action: act, Args: args}
}

func arg(index uint, op specs.LinuxSeccompOperator, values ...uint64) specs.LinuxSeccompArg {
	a := specs.LinuxSeccompArg{Index: index, Op: op, Value: values[0]}
	if len(values) > 1 {
		a.ValueTwo = values[1]
	}
	return a
}

var allArches = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM, specs.ArchS390X}

func TestCompile(t *testing.T) {
	const allow, log, trap = action(unix.SECCOMP_RET_ALLOW), action(unix.SECCOMP_RET_LOG), action(unix.SECCOMP_RET_TRAP)
	deny := func(rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: allArches, Syscalls: rules}
	}
	permit := func(rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: allArches, Syscalls: rules}
	}
	einval := sys(specs.ActErrno, "socket", arg(0, specs.OpEqualTo, 38))
	einval.ErrnoRet = errno(unix.EINVAL)
	native := deny(sys(specs.ActAllow, "read ptrace"))
	native.Architectures = nil
	kill := deny(sys(specs.ActAllow, "read"))
	kill.DefaultAction = specs.ActKillProcess

	type call struct {
		abi  abi
		name string // or "#number"
		args [6]uint64
		want action
	}
	tests := []struct {
		name    string
		profile *specs.LinuxSeccomp
		arch    string
		calls   []call
	}{
		{"names of every architecture", deny(sys(specs.ActAllow, "read mmap2 cacheflush no_such_call")), "amd64", []call{
			{abiAMD64, "read", [6]uint64{}, allow},
			{abiX32, "read", [6]uint64{}, allow},
			{abi386, "read", [6]uint64{}, allow},
			{abi386, "mmap2", [6]uint64{}, allow},
			{abiAMD64, "mmap", [6]uint64{}, returns(unix.EPERM)},
			{abiARM, "read", [6]uint64{}, killProcess},
		}},
		{"arm has private calls", deny(sys(specs.ActAllow, "read mmap2 cacheflush")), "arm64", []call{
			{abiARM64, "read", [6]uint64{}, allow},
			{abiARM, "cacheflush", [6]uint64{}, allow},
			{abiARM, "set_tls", [6]uint64{}, returns(unix.EPERM)},
			{abiARM, "#983047", [6]uint64{}, returns(unix.ENOSYS)},
			{abiAMD64, "read", [6]uint64{}, killProcess},
		}},
		{"two names of one number", deny(sys(specs.ActAllow, "sync_file_range2")), "arm", []call{
			{abiARM, "arm_sync_file_range", [6]uint64{}, allow},
		}},
		{"only the own architecture", native, "amd64", []call{
			{abiAMD64, "read", [6]uint64{}, allow},
			{abiX32, "read", [6]uint64{}, killProcess},
			{abiX32, "ptrace", [6]uint64{}, killProcess},
			{abi386, "read", [6]uint64{}, killProcess},
			{abiAMD64, "#4294967295", [6]uint64{}, returns(unix.ENOSYS)},
			{abiAMD64, "#4294967294", [6]uint64{}, killProcess},
		}},
		{"x32 numbers its own calls", deny(sys(specs.ActAllow, "ptrace")), "amd64", []call{
			{abiAMD64, "#101", [6]uint64{}, allow},
			{abiAMD64, "#521", [6]uint64{}, returns(unix.ENOSYS)},
			{abiX32, "#521", [6]uint64{}, allow},
			{abiX32, "#101", [6]uint64{}, returns(unix.ENOSYS)},
		}},
		{"a deny list holds for numbers of the wrong ABI", permit(sys(specs.ActErrno, "ptrace")), "amd64", []call{
			{abiAMD64, "#101", [6]uint64{}, returns(unix.EPERM)},
			{abiAMD64, "#521", [6]uint64{}, returns(unix.ENOSYS)},
			{abiX32, "#521", [6]uint64{}, returns(unix.EPERM)},
			{abiX32, "#101", [6]uint64{}, returns(unix.ENOSYS)},
			{abiAMD64, "#9999", [6]uint64{}, allow},
		}},
		{"a call newer than the profile does not exist", deny(sys(specs.ActAllow, "read openat2")), "amd64", []call{
			{abiAMD64, "mount", [6]uint64{}, returns(unix.EPERM)},
			{abiAMD64, "clone3", [6]uint64{}, returns(unix.EPERM)},
			{abiAMD64, "openat2", [6]uint64{}, allow},
			{abiAMD64, "pidfd_getfd", [6]uint64{}, returns(unix.ENOSYS)},
			{abiAMD64, "mseal", [6]uint64{}, returns(unix.ENOSYS)},
			{abiAMD64, "#400", [6]uint64{}, returns(unix.ENOSYS)},
			{abiAMD64, "#9999", [6]uint64{}, returns(unix.ENOSYS)},
			{abiX32, "#600", [6]uint64{}, returns(unix.ENOSYS)},
		}},
		{"a refused call is known too", deny(sys(specs.ActErrno, "mseal"), sys(specs.ActAllow, "read")), "amd64", []call{
			{abiAMD64, "mseal", [6]uint64{}, returns(unix.EPERM)},
			{abiAMD64, "clone3", [6]uint64{}, returns(unix.EPERM)},
		}},
		{"other defaults hold for new calls", kill, "amd64", []call{
			{abiAMD64, "mseal", [6]uint64{}, killProcess},
			{abiAMD64, "#9999", [6]uint64{}, killProcess},
		}},
		{"the upper half of an argument counts", deny(sys(specs.ActAllow, "personality", arg(0, specs.OpEqualTo, 8))), "amd64", []call{
			{abiAMD64, "personality", [6]uint64{8}, allow},
			{abiAMD64, "personality", [6]uint64{8 | 1<<32}, returns(unix.EPERM)},
			{abi386, "personality", [6]uint64{8 | 1<<32}, allow},
		}},
		{"minus one in 32 bits", permit(sys(specs.ActTrap, "personality", arg(0, specs.OpEqualTo, 1<<64-1))), "amd64", []call{
			{abiAMD64, "personality", [6]uint64{1<<64 - 1}, trap},
			{abiAMD64, "personality", [6]uint64{1<<32 - 1}, allow},
			{abi386, "personality", [6]uint64{1<<32 - 1}, trap},
		}},
		{"mask", deny(sys(specs.ActAllow, "clone", arg(0, specs.OpMaskedEqual, 0x7E020000, 0))), "amd64", []call{
			{abiAMD64, "clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
			{abiAMD64, "clone", [6]uint64{unix.CLONE_VM | unix.CLONE_NEWUSER}, returns(unix.EPERM)},
			{abiAMD64, "clone", [6]uint64{1 << 40}, allow},
		}},
		{"conditions of a rule are all needed", deny(sys(specs.ActAllow, "kill",
			arg(0, specs.OpGreaterThan, 1), arg(1, specs.OpEqualTo, 15))), "amd64", []call{
			{abiAMD64, "kill", [6]uint64{2, 15}, allow},
			{abiAMD64, "kill", [6]uint64{1, 15}, returns(unix.EPERM)},
			{abiAMD64, "kill", [6]uint64{2, 9}, returns(unix.EPERM)},
		}},
		{"one of several rules is enough", deny(sys(specs.ActAllow, "kill", arg(0, specs.OpEqualTo, 7)),
			sys(specs.ActLog, "kill", arg(1, specs.OpEqualTo, 15))), "amd64", []call{
			{abiAMD64, "kill", [6]uint64{7, 9}, allow},
			{abiAMD64, "kill", [6]uint64{7, 15}, allow},
			{abiAMD64, "kill", [6]uint64{8, 15}, log},
			{abiAMD64, "kill", [6]uint64{8, 9}, returns(unix.EPERM)},
		}},
		{"conditions on one argument are rules of their own", deny(sys(specs.ActAllow, "kill",
			arg(1, specs.OpEqualTo, 9), arg(1, specs.OpEqualTo, 15))), "amd64", []call{
			{abiAMD64, "kill", [6]uint64{0, 9}, allow},
			{abiAMD64, "kill", [6]uint64{0, 15}, allow},
			{abiAMD64, "kill", [6]uint64{0, 1}, returns(unix.EPERM)},
		}},
		{"a rule without conditions wins", deny(sys(specs.ActTrap, "kill", arg(1, specs.OpEqualTo, 9)),
			sys(specs.ActAllow, "kill")), "amd64", []call{
			{abiAMD64, "kill", [6]uint64{0, 9}, allow},
		}},
		{"the default again says nothing", deny(sys(specs.ActErrno, "kill"), sys(specs.ActAllow, "kill")), "amd64", []call{
			{abiAMD64, "kill", [6]uint64{}, allow},
		}},
		{"socketcall follows its calls", deny(sys(specs.ActAllow, "connect accept"), sys(specs.ActAllow, "socket", arg(0, specs.OpEqualTo, 1))), "amd64", []call{
			{abi386, "socketcall", [6]uint64{3}, allow},
			{abi386, "socketcall", [6]uint64{5}, allow},
			{abi386, "socketcall", [6]uint64{1}, returns(unix.EPERM)},
			{abi386, "socketcall", [6]uint64{2}, returns(unix.EPERM)},
			{abi386, "socket", [6]uint64{1}, allow},
			{abi386, "socket", [6]uint64{2}, returns(unix.EPERM)},
		}},
		{"socketcall does not pass a deny list by", permit(einval), "amd64", []call{
			{abi386, "socketcall", [6]uint64{1}, returns(unix.EINVAL)},
			{abi386, "socketcall", [6]uint64{2}, allow},
			{abiAMD64, "socket", [6]uint64{38}, returns(unix.EINVAL)},
			{abiAMD64, "socket", [6]uint64{2}, allow},
		}},
		{"ipc ignores its version", permit(sys(specs.ActErrno, "shmget")), "386", []call{
			{abi386, "ipc", [6]uint64{23}, returns(unix.EPERM)},
			{abi386, "ipc", [6]uint64{23 | 5<<16}, returns(unix.EPERM)},
			{abi386, "ipc", [6]uint64{24}, allow},
			{abiAMD64, "shmget", [6]uint64{}, returns(unix.EPERM)},
		}},
		{"no rules", deny(), "arm64", []call{
			{abiARM64, "read", [6]uint64{}, returns(unix.EPERM)},
			{abiARM64, "clone3", [6]uint64{}, returns(unix.ENOSYS)},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code := mustCompile(t, test.profile, test.arch)
			judge := newJudge(test.profile, test.arch)
			for _, c := range test.calls {
				d := data{arch: c.abi.audit(), args: c.args}
				if n, err := fmt.Sscanf(c.name, "#%d", &d.nr); n == 1 && err == nil {
					d.nr += c.abi.base()
				} else {
					d.nr = number(t, c.abi, c.name)
				}
				if got, _ := run(code, d); got != c.want {
					t.Errorf("%s %s%v: %v, want %v", c.abi.oci(), c.name, c.args, got, c.want)
				}
				if got := judge.decide(d); got != c.want {
					t.Errorf("%s %s%v: the judge says %v, want %v", c.abi.oci(), c.name, c.args, got, c.want)
				}
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	read := sys(specs.ActAllow, "read")
	many := specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(1000) {
		many.Syscalls = append(many.Syscalls, sys(specs.ActAllow, "read write", arg(0, specs.OpMaskedEqual, i+1, i+1)))
		many.Syscalls = append(many.Syscalls, sys(specs.ActAllow, "open", arg(0, specs.OpMaskedEqual, i+2000, i+2000)))
	}
	crowd := specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(maxRules + 1) {
		crowd.Syscalls = append(crowd.Syscalls, sys(specs.ActAllow, "read", arg(0, specs.OpEqualTo, i)))
	}
	withErrno := func(s specs.LinuxSyscall, e uint) specs.LinuxSyscall { s.ErrnoRet = &e; return s }
	deny := func(rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: rules}
	}
	tests := []struct {
		name    string
		profile *specs.LinuxSeccomp
		arch    string
		want    string
	}{
		{"no profile", nil, "amd64", "there is none"},
		{"no default", &specs.LinuxSeccomp{}, "amd64", "default: action is missing"},
		{"machine", deny(read), "vax", `architecture "vax" has no system call table, choose from amd64, 386, arm64, arm`},
		{"architecture", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{"SCMP_ARCH_VAX"}}, "amd64", `architecture "SCMP_ARCH_VAX" is unknown`},
		{"flag", &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{"FAST"}}, "amd64", `seccomp flag "FAST" is unknown`},
		{"action", deny(read, sys("SCMP_ACT_ASK", "read write open close")), "amd64", `syscalls[1] (read, write, open and 1 more): action "SCMP_ACT_ASK" is unknown`},
		{"notify", deny(sys(specs.ActNotify, "mount")), "amd64", `syscalls[0] (mount): action "SCMP_ACT_NOTIFY" needs an agent`},
		{"notify by default", &specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "amd64", `default: action "SCMP_ACT_NOTIFY" needs an agent`},
		{"no names", deny(sys(specs.ActAllow, "")), "amd64", "there are no names"},
		{"empty name", deny(specs.LinuxSyscall{Names: []string{""}, Action: specs.ActAllow}), "amd64", "a name is empty"},
		{"errno of allow", deny(withErrno(read, 1)), "amd64", `action "SCMP_ACT_ALLOW" takes no errno, but 1 is given`},
		{"errno", deny(withErrno(sys(specs.ActErrno, "read"), 4096)), "amd64", `errno 4096 of action "SCMP_ACT_ERRNO" is larger than 4095`},
		{"message", deny(withErrno(sys(specs.ActTrace, "read"), 65536)), "amd64", "is larger than 65535"},
		{"argument", deny(sys(specs.ActAllow, "read", arg(6, specs.OpEqualTo, 1))), "amd64", "args[0]: index 6 is larger than 5"},
		{"operator", deny(sys(specs.ActAllow, "read", arg(5, "SCMP_CMP_LIKE", 1))), "amd64", `args[0]: operator "SCMP_CMP_LIKE" is unknown`},
		{"size", &many, "amd64", "filter would have more than 4096 instructions"},
		{"rules", &crowd, "amd64", `call "read" has more than 1024 rules`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			filter, err := Compile(test.profile, test.arch)
			if err == nil || filter != nil {
				t.Fatalf("got %d bytes, error %v", len(filter), err)
			}
			if !strings.HasPrefix(err.Error(), "compile seccomp profile: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %q, want %q in it", err, test.want)
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	p := &specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{sys(specs.ActAllow, "read mmap2 raed set_tls"), sys(specs.ActAllow, "zzz")}}
	if got, want := Unknown(p), []string{"raed", "zzz"}; !slices.Equal(got, want) {
		t.Errorf("unknown names are %q, want %q", got, want)
	}
}

func TestFlags(t *testing.T) {
	p := &specs.LinuxSeccomp{Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_TSYNC"}}
	got, err := Flags(p)
	if want := uint(unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW); got != want || err != nil {
		t.Errorf("flags are %#x, error %v, want %#x", got, err, want)
	}
	p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}
	if _, err := Flags(p); err == nil {
		t.Error("a flag that needs a listener is taken without one")
	}
}

// randomProfile favours what is hard: few names with many rules, values that
// are near each other and near the edges of words.
func randomProfile(r *rand.Rand) *specs.LinuxSeccomp {
	actions := []specs.LinuxSeccompAction{
		specs.ActErrno, specs.ActErrno, specs.ActAllow, specs.ActAllow, specs.ActKill, specs.ActKillProcess,
		specs.ActKillThread, specs.ActTrap, specs.ActTrace, specs.ActLog,
	}
	pick := func() (specs.LinuxSeccompAction, *uint) {
		act := actions[r.IntN(len(actions))]
		if (act == specs.ActErrno || act == specs.ActTrace) && r.IntN(2) == 0 {
			return act, errno(unix.Errno(r.IntN(4)))
		}
		return act, nil
	}
	p := &specs.LinuxSeccomp{}
	p.DefaultAction, p.DefaultErrnoRet = pick()
	for _, a := range allArches {
		if r.IntN(3) > 0 {
			p.Architectures = append(p.Architectures, a)
		}
	}
	pool := []string{"socket", "socketcall", "ipc", "shmget", "connect", "arm_sync_file_range", "sync_file_range2", "nobody"}
	for range 1 + r.IntN(400) {
		pool = append(pool, callID(r.IntN(len(callEnds))).String())
	}
	for range r.IntN(60) {
		var s specs.LinuxSyscall
		s.Action, s.ErrnoRet = pick()
		for range 1 + r.IntN(12) {
			s.Names = append(s.Names, pool[r.IntN(len(pool))])
		}
		s.Args = randomArgs(r)
		p.Syscalls = append(p.Syscalls, s)
	}
	if r.IntN(2) == 0 {
		// Many rules over one argument of one call.
		name, index := pool[r.IntN(len(pool))], uint(r.IntN(2))
		for range r.IntN(40) {
			s := specs.LinuxSyscall{Names: []string{name}}
			s.Action, s.ErrnoRet = pick()
			s.Args = []specs.LinuxSeccompArg{arg(index, operators[r.IntN(6)], randomValue(r))}
			p.Syscalls = append(p.Syscalls, s)
		}
	}
	return p
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan,
	specs.OpGreaterEqual, specs.OpMaskedEqual,
}

func randomArgs(r *rand.Rand) []specs.LinuxSeccompArg {
	var args []specs.LinuxSeccompArg
	for range max(0, r.IntN(6)-2) {
		args = append(args, arg(uint(r.IntN(6)), operators[r.IntN(len(operators))], randomValue(r), randomValue(r)))
	}
	return args
}

func randomValue(r *rand.Rand) uint64 {
	edges := []uint64{0, 1, 5, 23, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 5 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1, 0xffffffff80000000, 0x7E020000}
	return edges[r.IntN(len(edges))] + uint64(r.IntN(3)) - 1
}

// someCalls returns calls that are likely to meet a rule, an edge of the
// tables or the border between two ABIs.
func someCalls(r *rand.Rand, p *specs.LinuxSeccomp, n int) []data {
	var named []string
	for _, s := range p.Syscalls {
		named = append(named, s.Names...)
	}
	edges := []uint32{0, 402, 403, 470, 472, 511, 512, 547, 548, 9999, armPrivate, armPrivate + 7, x32Bit - 1, x32Bit, x32Bit + 101, x32Bit + 521, x32Bit + 600, 1 << 31, noCall - 1, noCall}
	all := make([]data, n)
	for i := range all {
		d := &all[i]
		a := abi(r.IntN(len(byNumber)))
		d.arch = a.audit()
		rows := byNumber[a]
		switch k := r.IntN(10); {
		case k == 0:
			d.nr, d.arch = edges[r.IntN(len(edges))], audits[r.IntN(len(audits))]
		case k < 3 || len(named) == 0:
			d.nr = a.base() + rows[r.IntN(len(rows))].nr + uint32(r.IntN(2))
		default:
			name := named[r.IntN(len(named))]
			for _, row := range rows {
				if row.call.String() == name {
					d.nr = a.base() + row.nr
				}
			}
		}
		for j := range d.args {
			d.args[j] = randomValue(r)
		}
	}
	return all
}

func TestCompileMeansTheProfile(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 50
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		p := randomProfile(r)
		for _, arch := range goarches {
			code := mustCompile(t, p, arch)
			judge := newJudge(p, arch)
			for _, d := range someCalls(r, p, 400) {
				got, _ := run(code, d)
				if want := judge.decide(d); got != want {
					text, err := json.Marshal(p)
					t.Fatalf("seed %d: on %s %+v gives %v, want %v, in profile %s (%v)", seed, arch, d, got, want, text, err)
				}
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32"],
		"syscalls":[{"names":["read","socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_LE"}]}]}`), uint64(1))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_ARM"],"syscalls":[
		{"names":["clone","ipc"],"action":"SCMP_ACT_TRACE","errnoRet":7,"args":[{"index":0,"value":255,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}`), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(text, &p) != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 7))
		for _, arch := range goarches {
			filter, err := Compile(&p, arch)
			if err != nil {
				continue
			}
			code := program(t, filter)
			judge := newJudge(&p, arch)
			for _, d := range someCalls(r, &p, 20) {
				got, _ := run(code, d)
				if want := judge.decide(d); got != want {
					t.Fatalf("on %s %+v gives %v, want %v", arch, d, got, want)
				}
			}
		}
	})
}
