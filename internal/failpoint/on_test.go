//go:build failpoint

package failpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]struct {
		name string
		n    int64
	}{
		"": {"", 1}, "a.b": {"a.b", 1}, "a.b:3": {"a.b", 3}, "a.b:0": {"a.b", 1}, "a.b:x": {"a.b", 1},
	} {
		if name, n := Parse(in); name != want.name || n != want.n {
			t.Errorf("Parse(%q) = %q, %d, want %v", in, name, n, want)
		}
	}
}

// TestHit runs this test again in a child that hits "a" three times.
func TestHit(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") != "" {
		for range 3 {
			Hit("a")
		}
		return
	}
	for chosen, want := range map[string]struct {
		killed bool
		trace  string
	}{
		"":    {false, "a\na\na\n"},
		"b":   {false, "a\na\na\n"},
		"a":   {true, "a\n"},
		"a:2": {true, "a\na\n"},
		"a:4": {false, "a\na\na\n"},
	} {
		t.Run(chosen, func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace")
			child := exec.Command(os.Args[0], "-test.run=^TestHit$")
			child.Env = append(os.Environ(), "FAILPOINT_CHILD=1", "RKT_FAILPOINT="+chosen, "RKT_FAILPOINT_TRACE="+trace)
			_ = child.Run()
			status := child.ProcessState.Sys().(syscall.WaitStatus)
			if killed := status.Signaled() && status.Signal() == syscall.SIGKILL; killed != want.killed {
				t.Errorf("killed %v, want %v (%v)", killed, want.killed, child.ProcessState)
			}
			if got, _ := os.ReadFile(trace); string(got) != want.trace {
				t.Errorf("trace %q, want %q", got, want.trace)
			}
		})
	}
}
