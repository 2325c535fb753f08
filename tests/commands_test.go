package tests

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// patience is how long a script waits for what must happen soon.
const patience = 30 * time.Second

// commands are what scripts can do besides testscript's own commands.
// Documentation/devel/hacking.md lists them.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":     cmdExits,
		"start":     cmdStart,
		"says":      cmdSays,
		"signal":    cmdSignal,
		"ends":      cmdEnds,
		"until":     cmdUntil,
		"json":      cmdJSON,
		"load":      cmdLoad,
		"census":    cmdCensus,
		"registry":  cmdRegistry,
		"configure": cmdConfigure,
		"liar":      cmdLiar,
		"push":      cmdPush,
		"sign":      cmdSign,
		"refuses":   cmdRefuses,
	}
}

func usage(ts *testscript.TestScript, neg, wrong bool, synopsis string) {
	if neg || wrong {
		ts.Fatalf("usage: %s", synopsis)
	}
}

// cmdExits runs a program that must exit with a code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) < 2, "exits CODE program [args...]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := codeOf(ts.Exec(args[1], args[2:]...)); got != strconv.Itoa(want) {
		ts.Fatalf("exit code %s, want %d", got, want)
	}
}

// cmdRefuses runs a program that must fail as rkt does: exit code 254, nothing
// on standard output, and on standard error one line that matches. Verbs that
// fetch may tell of their progress and their retries before it.
func cmdRefuses(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) < 2, "refuses PATTERN program [args...]")
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	if got := codeOf(ts.Exec(args[1], args[2:]...)); got != "254" {
		ts.Fatalf("exit code %s, want 254", got)
	}
	lines := strings.SplitAfter(ts.ReadFile("stderr"), "\n")
	message := ""
	if len(lines) > 1 && lines[len(lines)-1] == "" {
		message = lines[len(lines)-2]
	}
	fetches := slices.ContainsFunc(args, func(a string) bool { return a == "fetch" || a == "run" || a == "prepare" })
	switch {
	case message == "" || len(lines) > 2 && !fetches:
		ts.Fatalf("standard error is not one line")
	case !pattern.MatchString(message):
		ts.Fatalf("the message does not match %q", args[0])
	case strings.Contains(message, "panic") || strings.Contains(message, "goroutine"):
		ts.Fatalf("the program crashed")
	case ts.ReadFile("stdout") != "":
		ts.Fatalf("something is on standard output")
	}
}

// codeOf is an exit code in words: "0", "42", "KILL", or an error.
func codeOf(err error) string {
	var exit *exec.ExitError
	if err == nil {
		return "0"
	}
	if !errors.As(err, &exit) {
		return err.Error()
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
	}
	return strconv.Itoa(exit.ExitCode())
}

// process is a program that a script started and goes on.
type process struct {
	cmd  *exec.Cmd
	out  string
	errs string
	done chan error
}

// environ is the script's environment, as its programs see it.
func environ(ts *testscript.TestScript) []string {
	file := filepath.Join(of(ts).work, ".environ")
	ts.Check(ts.Exec("sh", "-c", "env -0 >"+file)) // through a file, or every transcript is full of it
	return strings.Split(strings.TrimSuffix(ts.ReadFile(file), "\x00"), "\x00")
}

// command is a program with the script's environment and directory.
func command(ts *testscript.TestScript, env, args []string) *exec.Cmd {
	program := args[0]
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), ":") {
		if full := filepath.Join(dir, program); !strings.Contains(program, "/") && exists(full) {
			program = full
			break
		}
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Env, cmd.Dir = env, ts.MkAbs(".")
	return cmd
}

// cmdStart starts a program in the background, its output in files.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) < 2, "start NAME program [args...]")
	s, name := of(ts), args[0]
	p := &process{cmd: command(ts, environ(ts), args[1:]), out: filepath.Join(s.work, name+".out"), errs: filepath.Join(s.work, name+".err"), done: make(chan error, 1)}
	out, err := os.Create(p.out)
	ts.Check(err)
	defer out.Close()
	errs, err := os.Create(p.errs)
	ts.Check(err)
	defer errs.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, errs
	ts.Check(p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	s.started[name] = p
	ts.Setenv(name+"_pid", strconv.Itoa(p.cmd.Process.Pid))
}

func (s *script) process(ts *testscript.TestScript, name string) *process {
	p := s.started[name]
	if p == nil {
		ts.Fatalf("nothing was started as %q", name)
	}
	return p
}

// stopStarted ends what the script has not waited for.
func (s *script) stopStarted() {
	for _, p := range s.started {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	for _, r := range s.reg {
		r.stop()
	}
}

// cmdSays waits until a started program's output has a line that matches.
func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) != 2, "says NAME PATTERN")
	p := of(ts).process(ts, args[0])
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	var data []byte
	said := waitUntil(patience, func() bool {
		out, _ := os.ReadFile(p.out)
		errs, _ := os.ReadFile(p.errs)
		data = append(out, errs...)
		return pattern.Match(data)
	})
	if !said {
		ts.Fatalf("%s does not say %q but:\n%s", args[0], args[1], data)
	}
}

// cmdSignal sends a signal to a started program, or to a pid.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) != 2, "signal NAME|PID SIGNAL")
	number := unix.SignalNum("SIG" + args[1])
	if number == 0 {
		ts.Fatalf("signal %q is unknown", args[1])
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		pid = of(ts).process(ts, args[0]).cmd.Process.Pid
	}
	ts.Check(syscall.Kill(pid, number))
}

// cmdEnds waits for a started program, which must end with an exit code or by
// a signal. Its output becomes that of the command.
func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) != 2, "ends NAME CODE|SIGNAL")
	s := of(ts)
	p := s.process(ts, args[0])
	var err error
	select {
	case err = <-p.done:
		delete(s.started, args[0])
	case <-time.After(patience):
		ts.Fatalf("%s has not ended after %s", args[0], patience)
	}
	out, _ := os.ReadFile(p.out)
	errs, _ := os.ReadFile(p.errs)
	_, _ = ts.Stdout().Write(out)
	_, _ = ts.Stderr().Write(errs)
	if got := codeOf(err); got != args[1] {
		ts.Fatalf("%s ended with %s, want %s", args[0], got, args[1])
	}
}

// cmdUntil repeats a program until it succeeds, or fails for "! until".
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, false, len(args) == 0, "[!] until program [args...]")
	env := environ(ts)
	var out []byte
	reached := waitUntil(patience, func() bool {
		var err error
		out, err = command(ts, env, args).CombinedOutput()
		return (err == nil) != neg
	})
	if !reached {
		ts.Fatalf("still not so after %s, at last:\n%s", patience, out)
	}
}

// cmdJSON checks the last standard output, or a file, with a jq filter that
// must come out neither false nor null.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, false, len(args) == 0 || len(args) > 2, "[!] json FILTER [FILE]")
	file := "stdout"
	if len(args) == 2 {
		file = args[1]
	}
	document := ts.ReadFile(file)
	cmd := exec.Command("jq", "-e", args[0])
	cmd.Env = os.Environ()
	for _, used := range regexp.MustCompile(`\benv\.(\w+)`).FindAllStringSubmatch(args[0], -1) {
		cmd.Env = append(cmd.Env, used[1]+"="+ts.Getenv(used[1]))
	}
	cmd.Stdin = strings.NewReader(document)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if (err == nil) == neg {
		ts.Fatalf("the filter %q gives %s for:\n%s", args[0], strings.TrimSpace(out.String()), document)
	}
}

// cmdLoad sets a variable to what is in a file, or was printed last.
func cmdLoad(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) != 2, "load VARIABLE FILE|stdout")
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// cmdCensus counts everything on the host; only for scripts that run alone.
func cmdCensus(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, false, len(args) != 1 || (args[0] != "save" && args[0] != "same"), "census save | [!] census same")
	s := of(ts)
	if args[0] == "save" {
		var err error
		s.census, err = s.suite.census()
		ts.Check(err)
		return
	}
	var left []string
	same := func() bool {
		var err error
		left, err = s.suite.difference(s.census)
		ts.Check(err)
		return len(left) == 0
	}
	switch {
	case neg && same():
		ts.Fatalf("everything is as it was")
	case !neg && !waitUntil(5*time.Second, same): // a killed process takes its time to vanish
		ts.Fatalf("not as it was:\n\t%s", strings.Join(left, "\n\t"))
	}
}
