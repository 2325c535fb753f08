//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
//go:debug decoratemappings=0

// Command stage1-init is the first process of a pod.
//
// It builds the roots of the apps as its plan says, starts and supervises
// them, keeps their output, and answers the control socket, by which every
// process that enters an app is started in exactly the context that the app
// has. It decides nothing: the plan comes from stage1 (package plan).
//
// It is process 1 of the pod's process namespace: when it ends, for whatever
// reason, the kernel ends the pod, and it ends when stage1 does.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/stage1/internal/control"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// failure is the exit code of a pod that rkt could not start.
const failure = 254

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintf(os.Stderr, "rkt: %v\n", err)
	}
	os.Exit(code)
}

func run() (int, error) {
	// Apps share our process namespace. Not being dumpable denies them
	// /proc/1/{mem,fd,root,exe…} and those of our forked children, which run
	// with an app's rights for some moments before exec (CVE-2016-9962,
	// CVE-2019-5736).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return failure, os.NewSyscallError("prctl", err)
	}
	// Before anything else: without a handler, a request to stop that comes
	// now would end us in Go's way instead of ending the pod in order.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, control.Forwarded...)
	// One pending note is enough, and cannot be crowded out by others.
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	p, err := readPlan()
	if err != nil {
		return failure, err
	}
	unix.Umask(0)
	s, err := newSupervisor(p, signals, children)
	if err != nil {
		err = fmt.Errorf("set up pod %s: %w", p.UUID, err)
		return failure, errors.Join(err, failAll(p, err))
	}
	return s.run()
}

// readPlan reads until stage1 closes the pipe. If stage1 dies early the plan
// is incomplete, and so is this process's life.
func readPlan() (*plan.Pod, error) {
	f := os.NewFile(control.PlanFD, "plan")
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read the plan of the pod: %w", err)
	}
	p := &plan.Pod{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("read the plan of the pod: %w", err)
	}
	return p, nil
}
