package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// cost of one run.
type cost struct {
	Wall time.Duration
	CPU  time.Duration // user and system, of the process and all that it waited for
	Err  string
}

// contender is a command that is measured.
type contender struct {
	name   string
	args   []string
	runner *runner // nil: this process
	goal   float64 // the first contender's median may be so many times this one's; 0: no goal
	note   string
}

// compare runs contenders in turns, so that all of them see the same machine,
// and prints the median of each.
func compare(title string, runs int, contenders []contender) error {
	fmt.Printf("\n%s, median of %d runs in turns\n", title, runs)
	walls, cpus := make([][]time.Duration, len(contenders)), make([][]time.Duration, len(contenders))
	for i := range runs + 2 { // the first two warm caches
		for n, c := range contenders {
			one := c.run()
			if one.Err != "" {
				return fmt.Errorf("%s: %s", c.name, one.Err)
			}
			if i >= 2 {
				walls[n], cpus[n] = append(walls[n], one.Wall), append(cpus[n], one.CPU)
			}
		}
	}
	first := median(walls[0])
	fmt.Printf("  %-34s %10s %10s %14s\n", "", "wall", "user+sys", "rkt is")
	for n, c := range contenders {
		wall, cpu := median(walls[n]), median(cpus[n])
		row := fmt.Sprintf("  %-34s %10s %10s", c.name, short(wall), short(cpu))
		if n > 0 {
			row += fmt.Sprintf(" %12.2f x", float64(first)/float64(wall)) + verdict(float64(first)/float64(wall), c.goal)
		}
		fmt.Println(row + c.note)
	}
	return nil
}

func verdict(ratio, goal float64) string {
	switch {
	case goal == 0:
		return ""
	case ratio > goal:
		return fmt.Sprintf("  (goal %.2g x: MISSED)", goal)
	default:
		return fmt.Sprintf("  (goal %.2g x)", goal)
	}
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func (c contender) run() cost {
	if c.runner != nil {
		return c.runner.run(c.args)
	}
	return timed(c.args)
}

func timed(args []string) cost {
	cmd := exec.Command(args[0], args[1:]...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	one := cost{Wall: time.Since(began)}
	if err != nil {
		one.Err = fmt.Sprintf("%v: %s", err, out)
		return one
	}
	one.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return one
}

// runner is this program again in another mount namespace: crun 1.8 refuses
// hybrid cgroups, so it must not see the unified hierarchy beside the others.
type runner struct {
	cmd *exec.Cmd
	to  *json.Encoder
	out *bufio.Reader
}

const runnerEnv = "RKT_BENCH_RUNNER"

const unified = "/sys/fs/cgroup/unified"

func startRunner() (*runner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), runnerEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread() // the parent-death signal is this thread's
	return &runner{cmd, json.NewEncoder(in), bufio.NewReader(out)}, cmd.Start()
}

func (r *runner) run(args []string) cost {
	var one cost
	err := r.to.Encode(args)
	if err == nil {
		var line []byte
		if line, err = r.out.ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &one)
		}
	}
	if err != nil {
		one.Err = err.Error()
	}
	return one
}

func (r *runner) stop() error {
	return errors.Join(r.cmd.Process.Kill(), ignoreKilled(r.cmd.Wait()))
}

func ignoreKilled(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// serveRunner is the runner's side: a command line in, a cost out.
func serveRunner() (handled bool, code int) {
	if os.Getenv(runnerEnv) == "" {
		return false, 0
	}
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if _, statErr := os.Stat(unified); err == nil && statErr == nil {
		err = syscall.Unmount(unified, syscall.MNT_DETACH)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: prepare a mount namespace:", err)
		return true, 1
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var args []string
		if in.Decode(&args) != nil || out.Encode(timed(args)) != nil {
			return true, 0
		}
	}
}
