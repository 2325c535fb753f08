package seccomp

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An order is what the test asks of a child of itself, which cannot take its
// filter off again: to load the filter, and then to make the calls and report,
// or to become the program.
type order struct {
	Filter  []byte
	Calls   [][]uintptr // number, arguments
	Program []string
}

const orderEnv = "RKT_TEST_SECCOMP_ORDER"

func TestMain(m *testing.M) {
	if text := os.Getenv(orderEnv); text != "" {
		if err := obey([]byte(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func obey(text []byte) error {
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(o.Filter) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&o.Filter[0]))}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fmt.Errorf("load filter: %w", e)
	}
	if len(o.Program) > 0 {
		return fmt.Errorf("execute %s: %w", o.Program[0], unix.Exec(o.Program[0], o.Program, []string{"PATH=/bin:/usr/bin"}))
	}
	results := make([]syscall.Errno, len(o.Calls))
	for i, call := range o.Calls {
		var a [7]uintptr
		copy(a[:], call)
		_, _, results[i] = unix.RawSyscall6(a[0], a[1], a[2], a[3], a[4], a[5], a[6])
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

func command(t *testing.T, o order) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), orderEnv+"="+string(text))
	out := &bytes.Buffer{}
	cmd.Stdout = out
	cmd.Stderr = os.Stderr
	return cmd, out
}

func mustFilter(t *testing.T, p *specs.LinuxSeccomp) []byte {
	t.Helper()
	filter, err := Compile(p, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

func TestKernelRefusesCalls(t *testing.T) {
	filter, _, err := DefaultFilter(usualCaps)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		call []uintptr
		want syscall.Errno
	}{
		{"getpid", []uintptr{unix.SYS_GETPID}, 0},
		{"getrandom", []uintptr{unix.SYS_GETRANDOM, 0, 0, 0}, 0},
		{"close_range", []uintptr{unix.SYS_CLOSE_RANGE, 1 << 30, 1 << 30, 0}, 0},
		{"keyctl", []uintptr{unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(0), 0}, unix.EPERM},
		{"unshare user namespace", []uintptr{unix.SYS_UNSHARE, unix.CLONE_NEWUSER}, unix.EPERM},
		{"setns", []uintptr{unix.SYS_SETNS, 0, 0}, unix.EPERM},
		{"mount", []uintptr{unix.SYS_MOUNT, 0, 0, 0, 0, 0}, unix.EPERM},
		{"open_tree", []uintptr{unix.SYS_OPEN_TREE, 0, 0, 0}, unix.EPERM},
		{"bpf", []uintptr{unix.SYS_BPF, 0, 0, 0}, unix.EPERM},
		{"kexec_load", []uintptr{unix.SYS_KEXEC_LOAD, 0, 0, 0, 0}, unix.EPERM},
		{"io_uring_setup", []uintptr{unix.SYS_IO_URING_SETUP, 1, 0}, unix.EPERM},
		{"userfaultfd", []uintptr{unix.SYS_USERFAULTFD, 0}, unix.EPERM},
		{"clone into a user namespace", []uintptr{unix.SYS_CLONE, unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD), 0, 0, 0, 0}, unix.EPERM},
		{"clone3", []uintptr{unix.SYS_CLONE3, 0, 0}, unix.ENOSYS},
		{"a call that is not invented yet", []uintptr{9999}, unix.ENOSYS},
		{"personality of another system", []uintptr{unix.SYS_PERSONALITY, 6}, unix.EPERM},
		{"personality as it is", []uintptr{unix.SYS_PERSONALITY, 0xffffffff}, 0},
		{"socket AF_UNIX", []uintptr{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0}, 0},
		{"socket AF_ALG", []uintptr{unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, unix.EPERM},
		{"socket AF_VSOCK", []uintptr{unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0}, unix.EPERM},
	}
	o := order{Filter: filter}
	for _, test := range tests {
		o.Calls = append(o.Calls, test.call)
	}
	cmd, out := command(t, o)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var got []syscall.Errno
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for i, test := range tests {
		if got[i] != test.want {
			t.Errorf("%s: %d (%v), want %d (%v)", test.name, got[i], got[i], test.want, test.want)
		}
	}
}

// TestKernelRunsPrograms holds that what runs today still runs: a shell, pipes,
// forks, files and a threaded program.
func TestKernelRunsPrograms(t *testing.T) {
	filter, _, err := DefaultFilter(nil)
	if err != nil {
		t.Fatal(err)
	}
	script := "set -e; cd " + t.TempDir() + "; echo a >f; cat f | tr a b; ls -l f >/dev/null; ln -s f g; cp g h; rm f g h; " +
		"/proc/$$/exe -c 'kill -0 $$' ; echo done"
	for _, test := range []struct {
		name    string
		program []string
		want    string
	}{
		{"shell", []string{"/bin/sh", "-c", script}, "b\ndone\n"},
		{"this test", []string{"/proc/self/exe", "-test.run=^TestTable$"}, "PASS\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd, out := command(t, order{Filter: filter, Program: test.program})
			if err := cmd.Run(); err != nil || out.String() != test.want {
				t.Errorf("printed %q, error %v, want %q", out, err, test.want)
			}
		})
	}
}

// tiny writes a static program of 386 that makes one call and exits with the
// errno it got.
func tiny(t *testing.T, nr, arg uint32) string {
	t.Helper()
	const base, header = 0x10000, 52 + 32
	var code []byte
	code = binary.LittleEndian.AppendUint32(append(code, 0xb8), nr)  // mov eax, nr
	code = binary.LittleEndian.AppendUint32(append(code, 0xbb), arg) // mov ebx, arg
	code = append(code,
		0x31, 0xc9, 0x31, 0xd2, // xor ecx, ecx; xor edx, edx
		0xcd, 0x80, // int 0x80
		0x31, 0xdb, // xor ebx, ebx
		0x3d, 0x01, 0xf0, 0xff, 0xff, // cmp eax, -4095
		0x72, 0x04, // jb +4
		0xf7, 0xd8, // neg eax
		0x89, 0xc3, // mov ebx, eax
		0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, exit
		0xcd, 0x80,
	)
	var b bytes.Buffer
	size := uint32(header + len(code))
	head := elf.Header32{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_386), Version: 1, Entry: base + header, Phoff: 52,
		Ehsize: 52, Phentsize: 32, Phnum: 1,
	}
	copy(head.Ident[:], "\x7fELF\x01\x01\x01")
	segment := elf.Prog32{Type: uint32(elf.PT_LOAD), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Flags: uint32(elf.PF_R | elf.PF_X), Align: 0x1000}
	for _, part := range []any{head, segment, code} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "tiny")
	if err := os.WriteFile(name, b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestKernel386 runs programs of another ABI of this kernel.
func TestKernel386(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64: runs programs of 386")
	}
	if err := exec.Command(tiny(t, 20, 0)).Run(); errors.Is(err, unix.ENOEXEC) {
		t.Skip("needs a kernel that runs programs of 386")
	} else if err != nil {
		t.Fatal(err)
	}
	profile, err := Default(usualCaps)
	if err != nil {
		t.Fatal(err)
	}
	// A profile that does not speak of socketcall itself.
	direct := *profile
	direct.Syscalls = slices.Clone(direct.Syscalls)
	for i := range direct.Syscalls {
		direct.Syscalls[i].Names = slices.DeleteFunc(slices.Clone(direct.Syscalls[i].Names), func(name string) bool { return name == "socketcall" })
	}
	alone := *profile
	alone.Architectures = nil
	for _, test := range []struct {
		name    string
		profile *specs.LinuxSeccomp
		call    string
		arg     uint32
		want    string
	}{
		{"getpid", profile, "getpid", 0, "exit status 0"},
		{"mount", profile, "mount", 0, "exit status 1"},
		{"AF_ALG", profile, "socket", unix.AF_ALG, "exit status 1"},
		{"AF_UNIX without a type", profile, "socket", unix.AF_UNIX, "exit status 94"},
		{"clone3", profile, "clone3", 0, "exit status 38"},
		{"not invented", profile, "", 9999, "exit status 38"},
		{"socketcall is let in", profile, "socketcall", 1, "exit status 14"},
		{"socketcall for a socket", &direct, "socketcall", 1, "exit status 1"},
		{"socketcall for listen", &direct, "socketcall", 4, "exit status 14"},
		{"architecture that is not listed", &alone, "getpid", 0, "signal: bad system call"},
	} {
		t.Run(test.name, func(t *testing.T) {
			nr, arg := test.arg, uint32(0)
			if test.call != "" {
				nr, arg = number(t, abi386, test.call), test.arg
			}
			cmd, _ := command(t, order{Filter: mustFilter(t, test.profile), Program: []string{tiny(t, nr, arg)}})
			err := cmd.Run()
			got := strings.TrimSuffix(cmd.ProcessState.String(), " (core dumped)")
			if got != test.want {
				t.Errorf("ends with %s (%v), want %s", got, err, test.want)
			}
		})
	}
}

func TestKernelKills(t *testing.T) {
	const high = uintptr(1) << (8*unsafe.Sizeof(uintptr(0)) - 8)
	killing := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		sys(specs.ActKillProcess, "getpriority", arg(0, specs.OpEqualTo, 1), arg(1, specs.OpGreaterThan, uint64(high))),
	}}
	tests := []struct {
		name string
		call []uintptr
		dies bool
	}{
		{"conditions hold", []uintptr{unix.SYS_GETPRIORITY, 1, high + 1}, true},
		{"conditions do not hold", []uintptr{unix.SYS_GETPRIORITY, 1, high}, false},
	}
	if runtime.GOARCH == "amd64" {
		tests = append(tests, struct {
			name string
			call []uintptr
			dies bool
		}{"x32 is not listed", []uintptr{x32Bit + unix.SYS_GETPID}, true})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd, _ := command(t, order{Filter: mustFilter(t, killing), Calls: [][]uintptr{test.call}})
			cmd.Stderr = nil
			err := cmd.Run()
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if died := status.Signaled() && status.Signal() == unix.SIGSYS; died != test.dies || !died && err != nil {
				t.Errorf("ends with %v, want death %t", cmd.ProcessState, test.dies)
			}
		})
	}
}
