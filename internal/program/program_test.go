package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindIn(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"bin/both": 0o755, "lib/both": 0o755, "lib/only": 0o755, "bin/plain": 0o644} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "bin/folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	dirs := []string{filepath.Join(dir, "bin"), filepath.Join(dir, "lib")}
	for _, tc := range []struct{ name, want, wantErr string }{
		{"both", "bin/both", ""},
		{"only", "lib/only", ""},
		{"none", "", "install rkt's programs together"},
		{"plain", "", "not an executable file"},
		{"folder", "", "not an executable file"},
		{"../lib/only", "", "plain file name"},
		{"", "", "plain file name"},
		{"..", "", "plain file name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := findIn(tc.name, dirs)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("got %q, %v, want an error with %q", got, err, tc.wantErr)
				}
				return
			}
			if err != nil || got != filepath.Join(dir, tc.want) {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestFindIgnoresPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rkt-nowhere"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got, err := Find("rkt-nowhere"); err == nil {
		t.Errorf("found %q by $PATH", got)
	}
}
