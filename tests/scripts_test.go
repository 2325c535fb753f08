package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rkt/rkt/tests/registrytest"
)

// scriptLimit is how long one script may take before its pods are killed.
const scriptLimit = 4 * time.Minute

// TestScripts runs the files of testdata, some at a time. To run one:
//
//	go test ./tests -run 'TestScripts/^run-exit$'
func TestScripts(t *testing.T) {
	testscript.Run(t, scripts(t, "testdata"))
}

// TestAlone runs the files of testdata/alone one after another: those that
// count everything that is on the host, or load it.
func TestAlone(t *testing.T) {
	testscript.RunT(oneByOne{t}, scripts(t, "testdata/alone"))
}

// oneByOne is a testing.T whose subtests do not run in parallel.
type oneByOne struct{ *testing.T }

func (oneByOne) Parallel()       {}
func (o oneByOne) Verbose() bool { return testing.Verbose() }
func (o oneByOne) Run(name string, f func(testscript.T)) {
	o.T.Run(name, func(t *testing.T) { f(oneByOne{t}) })
}

func scripts(t *testing.T, dir string) testscript.Params {
	if testing.Short() {
		t.Skip("scripts take minutes")
	}
	if reason := cannotRunScripts(); reason != "" {
		t.Skip(reason)
	}
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds:                commands(),
	}
}

// script is what the commands of one script share.
type script struct {
	tb        testing.TB
	suite     suite
	work      string
	cgroups   []string
	started   map[string]*process
	reg       map[string]*registry
	authority *registrytest.CA // of the registries with TLS, when there is one
	census    []string
}

type scriptKey struct{}

func of(ts *testscript.TestScript) *script {
	s, ok := ts.Value(scriptKey{}).(*script)
	if !ok {
		ts.Fatalf("the script was not set up")
	}
	return s
}

// setup gives a script directories, cgroups and an environment of its own, and
// checks afterwards that it left nothing running, mounted or made.
func setup(env *testscript.Env) error {
	tb, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("%T is not a test of package testing", env.T())
	}
	s := &script{
		tb: tb, suite: suite{dir: os.Getenv(suiteEnv)}, work: env.WorkDir,
		started: map[string]*process{}, reg: map[string]*registry{},
	}
	if err := os.Chmod(env.WorkDir, 0o755); err != nil {
		return err
	}
	if err := s.makeCgroups(); err != nil {
		return err
	}
	home := filepath.Join(env.WorkDir, "home")
	for _, dir := range []string{home, filepath.Join(home, "gnupg")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	for _, v := range [][2]string{
		{"PATH", s.suite.path("tools") + ":" + os.Getenv("PATH")},
		{"HOME", home},
		{"GNUPGHOME", filepath.Join(home, "gnupg")},
		{"COSIGN_PASSWORD", keyPassword},
		{"IMAGES", s.suite.path("images")},
		{"INSPECT", s.suite.path("tools", "inspect")},
		{"KEYS", s.suite.path("keys")},
		{"RKT_BIN", s.suite.path("bin")},
		{"RKT_FAILPOINTS", s.suite.path("bin-failpoint")},
		{"RKT_DIR", filepath.Join(env.WorkDir, "rkt")},
		{"RKT_SYSTEM", filepath.Join(env.WorkDir, "usr-lib-rkt")},
		{"RKT_LOCAL", filepath.Join(env.WorkDir, "etc-rkt")},
		{"RKT_USER", filepath.Join(env.WorkDir, "user-rkt")},
		{"RKT_CGROUPS", strings.Join(s.joinFiles(), " ")},
	} {
		env.Setenv(v[0], v[1])
	}
	env.Values[scriptKey{}] = s
	watchdog := time.AfterFunc(scriptLimit, func() {
		fmt.Fprintf(os.Stderr, "tests: a script in %s took longer than %s, its pods are killed\n", env.WorkDir, scriptLimit)
		s.killAll()
	})
	env.Defer(func() {
		watchdog.Stop()
		s.stopStarted()
		left := s.leftovers()
		if len(left) == 0 {
			return
		}
		message := "left behind:\n\t" + strings.Join(left, "\n\t")
		if tb.Failed() {
			tb.Log(message) // a script that stopped in the middle has not cleared up
			return
		}
		tb.Fatal(message)
	})
	return nil
}

func (s *script) makeCgroups() error {
	roots, err := s.suite.cgroups()
	if err != nil {
		return err
	}
	name := filepath.Base(filepath.Dir(s.work)) + "-" + filepath.Base(s.work)
	for _, root := range roots {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		s.cgroups = append(s.cgroups, dir)
	}
	return nil
}

// joinFiles are what a process writes 0 to, to join the script's cgroups. In
// version 1 "tasks" does not wait for other CPUs as cgroup.procs does.
func (s *script) joinFiles() []string {
	var files []string
	for _, dir := range s.cgroups {
		file := filepath.Join(dir, "tasks")
		if !exists(file) {
			file = filepath.Join(dir, "cgroup.procs")
		}
		files = append(files, file)
	}
	return files
}

// pids lists the processes in the script's cgroups and below.
func (s *script) pids() map[int]bool {
	found := map[int]bool{}
	for _, root := range s.cgroups {
		_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return nil
			}
			data, _ := os.ReadFile(path)
			for word := range strings.FieldsSeq(string(data)) {
				if pid, err := strconv.Atoi(word); err == nil && pid > 0 { // 0: of another pid namespace
					found[pid] = true
				}
			}
			return nil
		})
	}
	return found
}

func (s *script) killAll() {
	for pid := range s.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// leftovers says what the script's pods left, and removes it.
func (s *script) leftovers() []string {
	var left []string
	for pid := range s.pids() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("process %d %s", pid, strings.ReplaceAll(string(cmdline), "\x00", " ")))
	}
	s.killAll()
	waitUntil(10*time.Second, func() bool { return len(s.pids()) == 0 })
	for _, path := range s.mounts() {
		left = append(left, "mount "+path)
		_ = syscall.Unmount(path, syscall.MNT_DETACH)
	}
	for _, root := range s.cgroups {
		_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() && path != root {
				left = append(left, "cgroup "+path)
			}
			return nil
		})
		if err := removeCgroup(root); err != nil {
			left = append(left, err.Error())
		}
	}
	return left
}

// mounts lists what is mounted in or from the script's directory, the last first.
func (s *script) mounts() []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.Contains(line, s.work) {
			found = append([]string{f[4]}, found...)
		}
	}
	return found
}

// waitUntil polls a condition until it holds or the time is over.
func waitUntil(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if holds() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
