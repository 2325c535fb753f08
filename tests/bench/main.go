// Command bench measures rkt against its peers on this machine, in the same
// minutes and in turns, and prints ratios:
//
//	go run ./tests/bench [-runs 50] [-only start,version,memory,fetch]
//
// It judges nothing by a clock of its own: a ratio over its goal is marked, and
// the exit code stays 0, since a loaded machine proves nothing. Peers that are
// not installed are named and left out. Everything it makes is in one temporary
// directory that it removes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	runs := flag.Int("runs", 50, "how often each thing is started")
	only := flag.String("only", "start,version,memory,fetch", "what to measure")
	flag.Parse()
	if handled, code := serveRunner(); handled {
		os.Exit(code)
	}
	if err := run(*runs, strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is the directory that everything happens in.
type bench struct {
	dir  string
	runs int
}

func run(runs int, only []string) (err error) {
	if os.Getuid() != 0 {
		return errors.New("pods need root")
	}
	dir, err := os.MkdirTemp("", "rkt-bench-")
	if err != nil {
		return err
	}
	b := bench{dir, runs}
	defer func() { err = errors.Join(err, b.remove()) }()
	if err := b.build(); err != nil {
		return err
	}
	for _, name := range only {
		measure := map[string]func() error{"start": b.start, "version": b.version, "memory": b.memory, "fetch": b.fetch}[name]
		if measure == nil {
			return fmt.Errorf("measurement %q is unknown", name)
		}
		if err := measure(); err != nil {
			return fmt.Errorf("measure %s: %w", name, err)
		}
	}
	return nil
}

// build makes the programs as they are installed, and what they are compared to.
func (b bench) build() error {
	if err := os.Mkdir(b.path("gnupg"), 0o700); err != nil {
		return err
	}
	if err := b.write("etc/trust.d/bench.json", policy, b.path("archive.asc"), b.path("key.asc")); err != nil {
		return err
	}
	if err := os.WriteFile(b.path("empty.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"make", "-s", "build", "BIN=" + b.path("bin")},
		{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.path("empty"), b.path("empty.go")},
		{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.path("mkimage"), "./tests/images/mkimage"},
		{b.path("mkimage"), "busybox", b.path("layout") + ":busybox"},
		{"gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", signer, "rsa2048", "sign", "never"},
		{"gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", archiver, "rsa2048", "sign", "never"},
		{"gpg", "--batch", "--armor", "--output", b.path("key.asc"), "--export", signer},
		{"gpg", "--batch", "--armor", "--output", b.path("archive.asc"), "--export", archiver},
		{"tar", "-C", b.path("layout"), "-cf", b.path("busybox.tar"), "."},
		{"gpg", "--batch", "--armor", "--local-user", archiver, "--detach-sign", b.path("busybox.tar")},
	} {
		if _, err := b.do(args...); err != nil {
			return err
		}
	}
	_, err := b.do(b.rkt("fetch", "--name="+image, "oci-archive:"+b.path("busybox.tar"))...)
	return err
}

// signer made the images of the registry, archiver those in archives. rkt
// trusts nobody else: a signature of an archive names no repository, so that
// its key vouches for one only.
const (
	signer   = "bench@localhost"
	archiver = "archive@localhost"
	policy   = `{"rktKind":"trust","rktVersion":"v1","rules":[
		{"match":["bench.example/busybox"],"require":"any","keys":[{"type":"openpgp","path":%q}]},
		{"match":["**"],"require":"any","keys":[{"type":"openpgp","path":%q}]}]}`
)

// image is a busybox in the store, by a name as of a registry: a file would be
// looked at again at every start.
const image = "bench.example/busybox:1"

func (b bench) write(name, format string, values ...any) error {
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.path(name), fmt.Appendf(nil, format, values...), 0o644)
}

func (b bench) path(names ...string) string {
	return filepath.Join(append([]string{b.dir}, names...)...)
}

// rkt is a command line of rkt with the bench's directories.
func (b bench) rkt(args ...string) []string {
	return append([]string{
		b.path("bin", "rkt"), "--dir=" + b.path("rkt"), "--local-config=" + b.path("etc"), "--system-config=" + b.path("usr"),
	}, args...)
}

// do runs a command that is not measured.
func (b bench) do(args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "HOME="+b.dir, "GNUPGHOME="+b.path("gnupg"), "GOCACHE="+goCache(), "GOMODCACHE="+goModCache())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func goCache() string    { return goEnv("GOCACHE") }
func goModCache() string { return goEnv("GOMODCACHE") }

func goEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func installed(programs ...string) bool {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			fmt.Printf("  %s is not installed and left out (tests/setup.sh bench installs it)\n", p)
			return false
		}
	}
	return true
}

// remove unmounts what peers leave mounted below the directory, and deletes it.
func (b bench) remove() error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], b.dir+"/") {
			err = errors.Join(err, syscall.Unmount(f[4], syscall.MNT_DETACH))
		}
	}
	_, agent := b.do("gpgconf", "--kill", "all")
	return errors.Join(err, agent, os.RemoveAll(b.dir))
}
