//go:build failpoint

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// hits counts the hits of the one chosen point. It has to be shared by the
// whole process, and exists in test builds only.
var hits atomic.Int64

// Hit kills the process if name is the chosen point and this is its turn.
func Hit(name string) {
	if file := os.Getenv("RKT_FAILPOINT_TRACE"); file != "" {
		trace(file, name)
	}
	chosen, n := Parse(os.Getenv("RKT_FAILPOINT"))
	if chosen != name || hits.Add(1) != n {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal may reach another thread first
}

// Parse splits "NAME[:N]".
func Parse(s string) (name string, n int64) {
	name, count, found := strings.Cut(s, ":")
	if !found {
		return name, 1
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		return name, 1
	}
	return name, n
}

func trace(file, name string) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	_, _ = f.WriteString(name + "\n")
	_ = f.Close()
}
