package tests

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// stageEnv tells the three lives of the test program apart, suiteEnv where
// everything that is built once is.
const (
	stageEnv = "RKT_TESTS_STAGE"
	suiteEnv = "RKT_TESTS_SUITE"
)

// requiredEnv turns a reason to skip the scripts into a failure: "all".
const requiredEnv = "RKT_TESTS"

// TestMain gives the scripts a host of their own: new mount, pid, network, ipc
// and uts namespaces. Nothing that a script leaves behind can reach the real
// host, everything left behind is seen, and what still runs at the end is
// killed with the pid namespace. Without a route to anywhere, signing tools
// give up their look-ups at once, and nothing can be fetched by accident.
//
// The program that `go test` starts builds what is tested and starts itself
// again in those namespaces as PID 1 ("init"), which starts itself once more to
// run the tests ("tests").
func TestMain(m *testing.M) {
	os.Exit(stage(m))
}

func stage(m *testing.M) int {
	switch os.Getenv(stageEnv) {
	case "init":
		return initStage()
	case "tests":
		return testsStage(m)
	}
	flag.Parse()
	if !scriptsChosen() {
		return m.Run()
	}
	if reason := cannotRunScripts(); reason != "" {
		fmt.Fprintln(os.Stderr, "tests: the scripts are skipped:", reason)
		if os.Getenv(requiredEnv) == "all" {
			return 1
		}
		return m.Run()
	}
	code, err := outerStage()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	return code
}

// scriptsChosen reports whether -run can choose one of the script tests.
func scriptsChosen() bool {
	value := func(name string) string { return flag.Lookup(name).Value.String() }
	if testing.Short() || value("test.list") != "" {
		return false
	}
	first, _, _ := strings.Cut(value("test.run"), "/")
	chosen, err := regexp.Compile(first)
	return err == nil && (chosen.MatchString("TestScripts") || chosen.MatchString("TestAlone"))
}

func cannotRunScripts() string {
	if os.Getuid() != 0 {
		return "they mount, make namespaces and run pods, which needs root (make test asks for it)"
	}
	for _, program := range []string{"docker-registry", "skopeo", "umoci", "gpg", "jq", "openssl", "busybox", "strace", "redis-server", "nginx", "cosign2", "cosign3"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("%s is not installed (tests/setup.sh test installs it)", program)
		}
	}
	return ""
}

// outerStage builds, runs the init stage in new namespaces, and clears up.
func outerStage() (code int, err error) {
	runtime.LockOSThread() // the child's parent-death signal is of this thread
	suite, err := newSuite()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, suite.remove()) }()
	if err := suite.build(); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	child := exec.Command(self, os.Args[1:]...)
	child.Env = append(os.Environ(), stageEnv+"=init", suiteEnv+"="+suite.dir)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	return exitCode(child.Run())
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // -1: by a signal
	}
	return 0, err
}

// initStage is PID 1: it makes the namespaces usable, starts the tests and
// reaps whatever loses its parent.
func initStage() int {
	if err := settle(); err != nil {
		fmt.Fprintln(os.Stderr, "tests: prepare the namespaces:", err)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	// os.StartProcess keeps duplicates and Getenv finds the first: replace.
	if err := os.Setenv(stageEnv, "tests"); err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	env := os.Environ()
	tests, err := os.StartProcess(self, append([]string{self}, os.Args[1:]...), &os.ProcAttr{Env: env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) || pid != tests.Pid {
			continue
		}
		if err != nil || status.Signaled() {
			return 1
		}
		return status.ExitStatus()
	}
}

// settle gives the mount namespace propagation of its own, as a host with
// systemd has it: a mount that escapes from a pod is seen by the census here,
// and no further.
func settle() error {
	steps := []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE},
		{"", "/", "", syscall.MS_REC | syscall.MS_SHARED},
		{"proc", "/proc", "proc", 0},
		{"run-rkt", runDir, "tmpfs", 0},
	}
	for _, s := range steps {
		if err := syscall.Mount(s.source, s.target, s.kind, s.flags, ""); err != nil {
			return &os.PathError{Op: "mount", Path: s.target, Err: err}
		}
	}
	out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("bring up loopback: %w: %s", err, out)
	}
	return nil
}

// testsStage runs the tests between two censuses.
func testsStage(m *testing.M) int {
	suite := suite{dir: os.Getenv(suiteEnv)}
	// Scripts wait more than they compute.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.NumCPU())); err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	before, err := suite.census()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		return code // a script that stopped in the middle has not cleared up
	}
	left, err := suite.difference(before)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	for _, line := range left {
		fmt.Fprintln(os.Stderr, "tests: left behind by the suite:", line)
		code = max(code, 1)
	}
	return code
}

// runDir is where rkt keeps what must not outlive a reboot.
const runDir = "/run/rkt"

// hierarchies lists the directories of this process in the cgroup file systems
// that pods use. cpuset is not among them: a new directory there takes no
// process before it is configured.
func hierarchies() ([]string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || strings.Contains(parts[1], "cpuset") || strings.HasPrefix(parts[1], "name=") {
			continue
		}
		mount := filepath.Join("/sys/fs/cgroup", parts[1])
		if parts[1] == "" {
			if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
				mount = filepath.Join(mount, "unified")
			}
		}
		if dir := filepath.Join(mount, parts[2]); exists(filepath.Join(dir, "cgroup.procs")) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
