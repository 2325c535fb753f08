package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLogLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := &logStream{file: &logFile{name: path}, stream: "stdout"}
	s.write([]byte("one\ntw"))
	s.write([]byte("o\n\n"))
	s.write([]byte(strings.Repeat("x", maxLine+5) + "\nend"))
	s.close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil || len(f) != 4 || f[1] != "stdout" {
			t.Fatalf("line %.60q: %v", line, err)
		}
		got = append(got, fmt.Sprintf("%s %d %.3s", f[2], len(f[3]), f[3]))
	}
	want := []string{"F 3 one", "F 3 two", "F 0 ", fmt.Sprintf("P %d xxx", maxLine), "F 5 xxx", "P 3 end"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A log takes at most twice its limit, and the newest lines are there.
func TestLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := &logStream{file: &logFile{name: path}, stream: "stderr"}
	chunk := []byte(strings.Repeat("y", 8000) + "\n")
	for range 3 * maxLog / len(chunk) {
		s.write(chunk)
	}
	s.write([]byte("last\n"))
	var total int64
	for _, name := range []string{path, path + ".1"} {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		total += st.Size()
	}
	if total > 2*maxLog {
		t.Errorf("logs take %d bytes", total)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(data), " stderr F last\n") {
		t.Errorf("the last line is missing: %.80q", data[max(0, len(data)-80):])
	}
}

// An app whose log cannot be written goes on.
func TestLogWithoutSpace(t *testing.T) {
	l := &logFile{name: "/dev/full"}
	for range 3 {
		l.append([]byte("line\n"))
	}
	if !l.dead {
		t.Error("the log was not given up")
	}
}

func TestExitCode(t *testing.T) {
	for status, want := range map[unix.WaitStatus]int{0: 0, 42 << 8: 42, 9: 137, 15: 143} {
		if got := exitCode(status); got != want {
			t.Errorf("exitCode(%#x) = %d, want %d", uint32(status), got, want)
		}
	}
}
