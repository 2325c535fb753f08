// Command rkt-fetch does for rkt all that touches the network or untrusted
// bytes: it fetches images, unpacks their layers and writes them out again.
// It runs no longer than one such task and is started by rkt, not by people.
//
// What it has to say to the program that started it goes to standard output,
// progress and errors to standard error. It never prints a secret.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/rkt/rkt/image/rkt-fetch/sandbox"
)

// failure is the exit code of everything that could not be done.
const failure = 254

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	verbs := []struct {
		name string
		do   func(args []string) error
	}{
		{"fetch", runFetch},
		{"export", runExport},
		{"extract", runExtract},
		{sandbox.Verb, runUnpack},
	}
	err := fmt.Errorf("rkt-fetch is started by rkt, see 'rkt fetch --help'")
	for _, verb := range verbs {
		if len(args) > 0 && args[0] == verb.name {
			err = verb.do(args[1:])
			break
		}
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, strings.ReplaceAll(err.Error(), "\n", "; "))
	return failure
}
