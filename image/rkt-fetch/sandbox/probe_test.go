package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/unpack"
)

const outsideFD = 4 // a directory outside of the target, handed to a probe

// probe confines itself as an unpacking child does and tries what it should
// not be able to do.
func probe(args []string) error {
	target := os.NewFile(targetFD, "target")
	abi, err := confine(target, unpack.DefaultLimits().Size)
	if err != nil {
		return err
	}
	if args[0] == "memory" {
		var all [][]byte
		for range 4 * maxMemory / (64 << 20) {
			b := make([]byte, 64<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		fmt.Println("got", len(all))
		return nil
	}
	attempts := map[string]error{}
	for _, a := range []struct {
		name string
		try  func() error
	}{
		{"write inside", func() error { return writeAt(targetFD, "inside") }},
		{"whiteout inside", func() error { return unix.Mknodat(targetFD, "whiteout", unix.S_IFCHR, 0) }},
		{"link inside", func() error {
			return errors.Join(unix.Mkdirat(targetFD, "d", 0o755), unix.Linkat(targetFD, "inside", targetFD, "d/link", 0))
		}},
		{"give away inside", func() error { return unix.Fchownat(targetFD, "inside", 1, 2, 0) }},
		{"write outside", func() error { return writeAt(outsideFD, "outside") }},
		{"read outside", func() error { return openAndClose(outsideFD, "there", unix.O_RDONLY) }},
		{"remove outside", func() error { return unix.Unlinkat(outsideFD, "there", 0) }},
		{"link outside", func() error { return unix.Linkat(targetFD, "inside", outsideFD, "inside", 0) }},
		{"take in from outside", func() error { return unix.Renameat(outsideFD, "there", targetFD, "there") }},
		{"read inside", func() error { return openAndClose(targetFD, "inside", unix.O_RDONLY) }},
		{"device", func() error { return unix.Mknodat(targetFD, "null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"execute", func() error { return unix.Exec("/program", []string{"program"}, nil) }},
		{"mount", func() error { return unix.Mount("tmpfs", "/", "tmpfs", 0, "") }},
		{"root again", func() error { return errors.Join(unix.Fchdir(outsideFD), unix.Chroot(".")) }},
		{"other user", func() error { return unix.Setresuid(1, 1, 1) }},
		{"network", func() error { return dial("tcp", args[1]) }},
		{"abstract socket", func() error { return dial("unix", args[2]) }},
		{"trusted attribute", func() error { return unix.Fsetxattr(targetFD, "trusted.overlay.opaque", []byte("y"), 0) }},
	} {
		attempts[a.name] = a.try()
	}
	report := map[string]string{}
	for name, err := range attempts {
		report[name] = "works"
		if err != nil {
			var errno unix.Errno
			errors.As(err, &errno)
			report[name] = unix.ErrnoName(errno)
		}
	}
	report["landlock"] = strconv.FormatBool(abi > 0)
	report["pid"] = strconv.Itoa(os.Getpid())
	report["environment"] = strings.Join(os.Environ(), " ")
	report["interfaces"] = interfaces()
	report["capabilities"], report["no_new_privs"] = threads()
	report["leaked"] = leaked(args[3])
	return json.NewEncoder(os.Stdout).Encode(report)
}

func writeAt(dir int, name string) error {
	return openAndClose(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
}

func openAndClose(dir int, name string, flags int) error {
	fd, err := unix.Openat(dir, name, flags, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func dial(network, address string) error {
	c, err := net.Dial(network, address)
	if err == nil {
		c.Close()
	}
	return err
}

func interfaces() string {
	all, err := net.Interfaces()
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name+" "+i.Flags.String())
	}
	return strings.Join(names, ", ")
}

// threads looks at several threads, which must all agree.
func threads() (caps, noNewPrivs string) {
	var lock sync.Mutex
	var all, nnp []string
	var group, started sync.WaitGroup
	started.Add(8)
	for range 8 {
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			started.Wait()
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var c [2]unix.CapUserData
			err := unix.Capget(&header, &c[0])
			set, _, _ := unix.Syscall6(unix.SYS_PRCTL, unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0)
			lock.Lock()
			defer lock.Unlock()
			all = append(all, fmt.Sprintf("%08x%08x %08x%08x %08x%08x %v", c[1].Effective, c[0].Effective,
				c[1].Permitted, c[0].Permitted, c[1].Inheritable, c[0].Inheritable, err))
			nnp = append(nnp, fmt.Sprint(set))
		})
	}
	group.Wait()
	slices.Sort(all)
	slices.Sort(nnp)
	return strings.Join(slices.Compact(all), ", "), strings.Join(slices.Compact(nnp), ", ")
}

// leaked says whether a file with this inode number is open.
func leaked(inode string) string {
	for fd := range 1000 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && strconv.FormatUint(st.Ino, 10) == inode {
			return strconv.Itoa(fd)
		}
	}
	return "no"
}

// runProbe returns what a confined child prints.
func runProbe(t *testing.T, outside *os.File, args ...string) string {
	t.Helper()
	target, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target.Name(), "program"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := Command(t.Context(), append([]string{"probe"}, args...)...)
	cmd.ExtraFiles = []*os.File{target}
	if outside != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, outside)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil && args[0] != "memory" {
		t.Fatalf("%v: %.1000s", err, exit.Stderr)
	}
	return string(out)
}

// TestConfined looks at the sandbox from the inside.
func TestConfined(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: others cannot make namespaces and a root directory")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	abstract, err := net.Listen("unix", fmt.Sprintf("@rkt-sandbox-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	outside, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	there := filepath.Join(outside.Name(), "there")
	if err := os.WriteFile(there, []byte("must stay"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A descriptor that somebody forgot to mark close-on-exec.
	forgotten, err := unix.Open(there, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(forgotten)
	var st unix.Stat_t
	if err := unix.Fstat(forgotten, &st); err != nil {
		t.Fatal(err)
	}
	out := runProbe(t, outside, "all", tcp.Addr().String(), abstract.Addr().String(), strconv.FormatUint(st.Ino, 10))
	var got map[string]string
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	caps := uint64(0)
	for _, c := range keepCaps {
		caps |= 1 << c
	}
	want := map[string]string{
		"write inside": "works", "whiteout inside": "works", "link inside": "works", "give away inside": "works",
		"device": "EPERM", "mount": "EPERM", "root again": "EPERM", "other user": "EPERM", "trusted attribute": "EPERM",
		"network": "ENETUNREACH", "abstract socket": "ECONNREFUSED",
		"write outside": "EACCES", "read outside": "EACCES", "remove outside": "EACCES", "link outside": "EACCES",
		"take in from outside": "EACCES", "read inside": "EACCES", "execute": "EACCES",
		"landlock": "true", "pid": "1", "environment": "", "interfaces": "lo loopback",
		"capabilities": fmt.Sprintf("%016x %016x %016x <nil>", caps, caps, 0), "no_new_privs": "1", "leaked": "no",
	}
	if got["landlock"] == "false" {
		t.Log("this kernel has no Landlock that can be used, so what it refuses is not tested")
		for name, result := range want {
			if result == "EACCES" {
				delete(want, name)
				delete(got, name)
			}
		}
		delete(want, "landlock")
		delete(got, "landlock")
	}
	// Newer versions of Landlock refuse before there is no route or no listener.
	if got["network"] == "EACCES" {
		got["network"] = "ENETUNREACH"
	}
	if got["abstract socket"] == "EPERM" {
		got["abstract socket"] = "ECONNREFUSED"
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if data, err := os.ReadFile(there); string(data) != "must stay" {
		t.Errorf("the file outside is %q, %v", data, err)
	}
}
