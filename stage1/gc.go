package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rkt/rkt/stage1/internal/cgroup"
	"github.com/rkt/rkt/stage1/internal/control"
)

// gc is the entrypoint that removes what a pod that is over left outside of
// its directory. The caller holds the pod's lock. It may be called again, at
// any time, also after a reboot.
func gc(args []string) error {
	if len(args) != 1 || args[0] == "" || strings.ContainsAny(args[0], "/.") {
		return errors.New("usage: stage1 gc UUID")
	}
	uuid := args[0]
	dirs, err := readCgroups()
	if err != nil {
		return fmt.Errorf("collect pod %s: %w", uuid, err)
	}
	for _, d := range dirs {
		// The record is a file; a damaged one must not lead elsewhere.
		if filepath.Base(d) != "rkt-"+uuid || !filepath.IsAbs(d) {
			return fmt.Errorf("collect pod %s: its record of cgroups names %q, which is not a pod's", uuid, d)
		}
	}
	deadline := time.Now().Add(teardown)
	if err := cgroup.Kill(dirs, deadline); err != nil {
		return fmt.Errorf("collect pod %s: %w", uuid, err)
	}
	if err := errors.Join(cgroup.Remove(dirs, deadline), os.RemoveAll(filepath.Join(control.RunDir, uuid))); err != nil {
		return fmt.Errorf("collect pod %s: %w", uuid, err)
	}
	return nil
}
