package census

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDifference(t *testing.T) {
	dir := t.TempDir()
	scope := Scope{Trees: []string{dir, filepath.Join(dir, "absent")}}
	take := func() []string {
		t.Helper()
		lines, err := Take(scope)
		if err != nil {
			t.Fatal(err)
		}
		// Other processes of the machine come and go.
		return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "process") && !strings.Contains(l, "sleep 4242") })
	}
	if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := take()
	child := exec.Command("sleep", "4242")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	if err := os.Rename(filepath.Join(dir, "old"), filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	diff := strings.Join(Difference(before, take()), "\n")
	for _, want := range []string{"+ file " + dir + "/new", "- file " + dir + "/old", "sleep 4242"} {
		if !strings.Contains(diff, want) {
			t.Errorf("difference lacks %q:\n%s", want, diff)
		}
	}
	if diff := Difference(before, before); len(diff) != 0 {
		t.Errorf("difference of a list to itself: %v", diff)
	}
}

func TestKernelThread(t *testing.T) {
	for stat, want := range map[string]bool{
		"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0":    true,
		"965 (a ) b) S 1 965 965 0 -1 4194560 1 2": false,
		"7 (odd": false,
	} {
		if got := isKernelThread(stat); got != want {
			t.Errorf("isKernelThread(%q) = %v, want %v", stat, got, want)
		}
	}
}
