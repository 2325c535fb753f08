package seccomp

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	nr   uint32
	arch uint32
	ip   uint64
	args [6]uint64
}

func (d data) word(offset uint32) uint32 {
	b := make([]byte, 0, 64)
	b = binary.LittleEndian.AppendUint32(b, d.nr)
	b = binary.LittleEndian.AppendUint32(b, d.arch)
	b = binary.LittleEndian.AppendUint64(b, d.ip)
	for _, arg := range d.args {
		b = binary.LittleEndian.AppendUint64(b, arg)
	}
	return binary.LittleEndian.Uint32(b[offset:])
}

// program decodes a filter and checks what the kernel checks before it takes
// one (bpf_check_classic, seccomp_check_filter), and that only instructions
// occur that its trial run for always allowed calls follows
// (seccomp_is_const_allow).
func program(t testing.TB, filter []byte) []unix.SockFilter {
	t.Helper()
	if len(filter) == 0 || len(filter)%8 != 0 || len(filter)/8 > unix.BPF_MAXINSNS {
		t.Fatalf("filter has %d bytes", len(filter))
	}
	var code []unix.SockFilter
	for f := filter; len(f) > 0; f = f[8:] {
		code = append(code, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(f), Jt: f[2], Jf: f[3], K: binary.NativeEndian.Uint32(f[4:]),
		})
	}
	for pc, in := range code {
		left := uint64(len(code) - pc - 1)
		ok := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			ok = in.K%4 == 0 && in.K < 64 && left > 0
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			ok = left > 0
		case unix.BPF_JMP | unix.BPF_JA:
			ok = uint64(in.K) < left
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K,
			unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			ok = uint64(in.Jt) < left && uint64(in.Jf) < left
		case unix.BPF_RET | unix.BPF_K:
			ok = true
		}
		if !ok {
			t.Fatalf("instruction %d of %d is invalid: %+v", pc, len(code), in)
		}
	}
	return code
}

// run executes a checked program as the kernel does and says how many
// instructions it took.
func run(code []unix.SockFilter, d data) (result action, steps int) {
	var a uint32
	for pc := 0; ; pc++ {
		in := code[pc]
		steps++
		var jump bool
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = d.word(in.K)
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return action(in.K), steps
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump = a == in.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump = a > in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump = a >= in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump = a&in.K != 0
		}
		if jump {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
}

func (a action) String() string {
	deed := map[action]string{
		unix.SECCOMP_RET_KILL_PROCESS: "kill process", unix.SECCOMP_RET_KILL_THREAD: "kill",
		unix.SECCOMP_RET_TRAP: "trap", unix.SECCOMP_RET_ERRNO: "errno", unix.SECCOMP_RET_TRACE: "trace",
		unix.SECCOMP_RET_LOG: "log", unix.SECCOMP_RET_ALLOW: "allow",
	}[a.deed()]
	if a.deed() == unix.SECCOMP_RET_ERRNO {
		return fmt.Sprintf("%s %s", deed, unix.ErrnoName(unix.Errno(a&unix.SECCOMP_RET_DATA)))
	}
	return fmt.Sprintf("%s %d", deed, uint32(a&unix.SECCOMP_RET_DATA))
}
