package seccomp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// usualCaps is what container runtimes leave to an app by default.
var usualCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// onAllArches is the default profile as it would be on a machine that runs
// everything.
func onAllArches(t testing.TB, caps []string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := Default(caps)
	if err != nil {
		t.Fatal(err)
	}
	p.Architectures = allArches
	return p
}

func TestDefault(t *testing.T) {
	tests := []struct {
		name string
		caps []string
	}{
		{"no capabilities", nil},
		{"usual", usualCaps},
		{"administrator", append([]string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"}, usualCaps...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := onAllArches(t, test.caps)
			for _, arch := range goarches {
				code := mustCompile(t, p, arch)
				t.Logf("%s: %d instructions", arch, len(code))
				judge := newJudge(p, arch)
				r := rand.New(rand.NewPCG(1, 7))
				for _, audit := range audits {
					for _, base := range []uint32{0, armPrivate - 100, x32Bit, 1 << 31, noCall - 300} {
						for i := range uint32(640) {
							d := data{nr: base + i, arch: audit}
							for range 6 {
								for j := range d.args {
									d.args[j] = []uint64{uint64(r.IntN(48)), 0xffffffff, 0x20008, unix.CLONE_NEWUSER, 1<<32 + 1}[r.IntN(5)]
								}
								got, _ := run(code, d)
								if want := judge.decide(d); got != want {
									t.Fatalf("on %s %+v gives %v, want %v", arch, d, got, want)
								}
							}
						}
					}
				}
			}
		})
	}
}

// TestDefaultIsCheap holds the size of the filter and the way through it.
func TestDefaultIsCheap(t *testing.T) {
	code := mustCompile(t, onAllArches(t, usualCaps), "amd64")
	const mostCode, mostSteps = 400, 20
	if len(code) > mostCode {
		t.Errorf("filter has %d instructions, want at most %d", len(code), mostCode)
	}
	total, longest := 0, 0
	for nr := range uint32(472) {
		_, steps := run(code, data{nr: nr, arch: unix.AUDIT_ARCH_X86_64})
		total, longest = total+steps, max(longest, steps)
	}
	t.Logf("%d instructions; a call runs %.1f of them, %d at most", len(code), float64(total)/472, longest)
	if longest > mostSteps {
		t.Errorf("a call runs up to %d instructions, want at most %d", longest, mostSteps)
	}
}

func TestDefaultRefusesAlg(t *testing.T) {
	code := mustCompile(t, onAllArches(t, usualCaps), "amd64")
	for family, want := range map[uint64]action{
		unix.AF_UNIX: unix.SECCOMP_RET_ALLOW, unix.AF_INET6: unix.SECCOMP_RET_ALLOW, unix.AF_PACKET: unix.SECCOMP_RET_ALLOW,
		unix.AF_ALG: returns(unix.EPERM), unix.AF_VSOCK: returns(unix.EPERM),
	} {
		for _, a := range []abi{abiAMD64, abi386, abiX32} {
			if got, _ := run(code, data{nr: number(t, a, "socket"), arch: a.audit(), args: [6]uint64{family}}); got != want {
				t.Errorf("%s: socket of family %d: %v, want %v", a.oci(), family, got, want)
			}
		}
	}
}

func TestKey(t *testing.T) {
	base := key([]string{"CAP_CHOWN", "CAP_KILL"}, "amd64", "6.1.0")
	if len(base) != 32 || strings.Trim(base, "0123456789abcdef") != "" {
		t.Errorf("key %q is no short word", base)
	}
	for _, caps := range [][]string{{"CAP_KILL", "CAP_CHOWN"}, {"CAP_KILL", "CAP_CHOWN", "CAP_KILL"}} {
		if got := key(caps, "amd64", "6.1.0"); got != base {
			t.Errorf("key of %q differs from that of the same set", caps)
		}
	}
	for name, got := range map[string]string{
		"capabilities": key([]string{"CAP_CHOWN"}, "amd64", "6.1.0"),
		"boundaries":   key([]string{"CAP_CHOWNCAP_KILL"}, "amd64", "6.1.0"),
		"architecture": key([]string{"CAP_CHOWN", "CAP_KILL"}, "arm64", "6.1.0"),
		"kernel":       key([]string{"CAP_CHOWN", "CAP_KILL"}, "amd64", "6.2.0"),
	} {
		if got == base {
			t.Errorf("key ignores the %s", name)
		}
	}
	if Key([]string{"CAP_CHOWN", "CAP_KILL"}) != Key([]string{"CAP_KILL", "CAP_CHOWN"}) || Key(usualCaps) == Key(nil) {
		t.Error("Key does not name the set of capabilities")
	}
}

// TestRevision holds that caches notice a compiler that makes other filters.
func TestRevision(t *testing.T) {
	text, err := os.ReadFile("testdata/profile.json")
	if err != nil {
		t.Fatal(err)
	}
	var p specs.LinuxSeccomp
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for _, arch := range goarches {
		filter, err := Compile(&p, arch)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(filter)
	}
	got := revision + " " + tableVersion + " " + hex.EncodeToString(h.Sum(nil)) + "\n"
	want, err := os.ReadFile("testdata/filter.sha256")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("testdata/filter.sha256 is\n\t%swant\n\t%sraise revision if the compiler makes other filters than before, then put the first line there", want, got)
	}
}

// TestGenerated holds that the table is the one of the modules in go.mod.
func TestGenerated(t *testing.T) {
	gomod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{tableVersion, profileVersion} {
		if !bytes.Contains(gomod, []byte(module+"\n")) {
			t.Errorf("go.mod has not %s, with which the table was made; run go generate ./internal/seccomp", module)
		}
	}
	if testing.Short() {
		t.Skip("runs the go command")
	}
	fresh := filepath.Join(t.TempDir(), "table.go")
	if out, err := exec.Command("go", "run", "gen/main.go", "-o", fresh).CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, out)
	}
	want, err := os.ReadFile(fresh)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("table_generated.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("table_generated.go is stale; run go generate ./internal/seccomp")
	}
}

func TestTable(t *testing.T) {
	for i := range callEnds {
		name := callID(i).String()
		if id, ok := lookup(name); !ok || id != callID(i) {
			t.Errorf("lookup of %q gives %d, %t, want %d", name, id, ok, i)
		}
	}
	for _, name := range []string{"", "_", "zzz", "rea", "readd", "READ"} {
		if id, ok := lookup(name); ok {
			t.Errorf("lookup of %q gives %q", name, id)
		}
	}
	for a, want := range map[abi]map[string]uint32{
		abiAMD64: {"read": 0, "execve": 59, "ptrace": 101, "clone3": 435, "_sysctl": 156},
		abi386:   {"read": 3, "execve": 11, "socketcall": 102, "ptrace": 26, "clone3": 435, "_llseek": 140},
		abiX32:   {"read": x32Bit, "execve": x32Bit + 520, "ptrace": x32Bit + 521, "pwritev2": x32Bit + 547, "clone3": x32Bit + 435},
		abiARM64: {"read": 63, "execve": 221, "ptrace": 117, "clone3": 435, "newfstatat": 79},
		abiARM:   {"read": 3, "execve": 11, "ptrace": 26, "restart_syscall": 0, "set_tls": 0xf0005, "sync_file_range2": 341},
	} {
		for name, nr := range want {
			if got := number(t, a, name); got != nr {
				t.Errorf("%s: %s is %d, want %d", a.oci(), name, got, nr)
			}
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(usualCaps); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDefaultFilter(b *testing.B) {
	for b.Loop() {
		if _, _, err := DefaultFilter(usualCaps); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	for b.Loop() {
		Key(usualCaps)
	}
}
