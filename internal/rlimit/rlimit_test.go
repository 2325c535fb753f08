package rlimit_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rkt/rkt/internal/rlimit"
)

// The child of a shell that lowers its soft limit must report that limit, even
// though Go has raised its own by then.
func TestNoFileIsTheCallers(t *testing.T) {
	if os.Getenv("RLIMIT_CHILD") != "" {
		if rlimit.NoFile.Soft != 123 || rlimit.NoFile.Hard < 123 {
			t.Fatalf("NoFile = %+v, want a soft limit of 123", rlimit.NoFile)
		}
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "ulimit -S -n 123 && RLIMIT_CHILD=1 exec "+exe+" -test.run=TestNoFileIsTheCallers -test.v")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("child: %v\n%s", err, out)
	}
}
