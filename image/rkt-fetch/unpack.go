package main

import (
	"os"

	"github.com/rkt/rkt/image/rkt-fetch/sandbox"
)

// runUnpack is the child that sandbox.Run starts.
func runUnpack(args []string) error { return sandbox.Serve(args, os.Stdin, os.Stdout) }
