package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestWrite(t *testing.T) {
	for name, write := range map[string]func(string, []byte, os.FileMode) error{
		"durable": Write, "volatile": WriteVolatile,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			for _, c := range []struct {
				data string
				perm os.FileMode
			}{{"first", 0o600}, {"", 0o666}, {"third, longer", 0o640}} {
				if err := write(path, []byte(c.data), c.perm); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != c.data {
					t.Fatalf("read %q, %v, want %q", got, err, c.data)
				}
				if info, _ := os.Stat(path); info.Mode() != c.perm {
					t.Errorf("mode %v, want %v", info.Mode(), c.perm)
				}
			}
			if names := list(t, dir); len(names) != 1 {
				t.Errorf("left behind %v", names)
			}
		})
	}
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "isdir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
	}{
		{filepath.Join(dir, "missing", "file"), syscall.ENOENT},
		{filepath.Join(dir, "isdir"), syscall.EEXIST},
	} {
		err := Write(c.path, []byte("x"), 0o600)
		if !errors.Is(err, c.want) && !errors.Is(err, syscall.EISDIR) {
			t.Errorf("Write(%q) = %v, want %v", c.path, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), prefix) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("Write(%q) says %q: not one sentence about the file asked for", c.path, err)
		}
	}
	if names := list(t, dir); len(names) != 1 {
		t.Errorf("left behind %v", names)
	}
}

// TestReadersSeeWholeFiles lets many writers replace a file while readers
// check that they never see a mixture.
func TestReadersSeeWholeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := func(n int) []byte { return []byte(strings.Repeat(fmt.Sprintf("%d\n", n%10), 1000)) }
	if err := WriteVolatile(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for r := 0; r < 2; r++ {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := os.ReadFile(path)
				if err != nil || len(got) != 2000 || string(got) != string(content(int(got[0]-'0'))) {
					t.Errorf("read a file that nobody wrote: %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	for w := 0; w < 4; w++ {
		writers.Go(func() {
			for i := 0; i < 50; i++ {
				if err := WriteVolatile(path, content(w*50+i), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{prefix + "index.json-1", prefix + "x", "index.json", ".other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(list(t, dir), " "); got != ".other index.json" {
		t.Errorf("left %q", got)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
