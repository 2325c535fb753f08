//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
//go:debug decoratemappings=0

// Command stage1 is the native flavour: it isolates a pod with namespaces and
// cgroups. stage0 executes it with the pod's directory as working directory,
// for each entrypoint of the contract (Documentation/devel/stage1-contract.md).
//
// It never resolves images and never decides what a pod may do.
package main

import (
	"errors"
	"fmt"
	"os"
)

// failure is the exit code of what stage1 itself could not do.
const failure = 254

// exitCode ends stage1 with the code of what it ran.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// entrypoints of the contract.
var entrypoints = map[string]func(args []string) error{
	"run":   run,
	"enter": enter,
	"stop":  stop,
	"gc":    gc,
}

func main() {
	err := dispatch(os.Args[1:])
	if err == nil {
		return
	}
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	fmt.Fprintf(os.Stderr, "rkt: %v\n", err)
	os.Exit(failure)
}

func dispatch(args []string) error {
	if len(args) == 0 {
		return errors.New("stage1 is executed by rkt, not by hand")
	}
	entry, ok := entrypoints[args[0]]
	if !ok {
		return fmt.Errorf("stage1 has no entrypoint %q", args[0])
	}
	return entry(args[1:])
}
