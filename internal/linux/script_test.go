package linux

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// run starts a script with a pipe as standard output and returns what it wrote.
func run(t *testing.T, s *Script) (string, unix.WaitStatus, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.Call("arrange output", unix.SYS_DUP3, w.Fd(), 1, 0)
	s.CloseFrom(3, 0)
	s.Unblock()
	pid, pidfd, err := s.Start()
	w.Close()
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(pidfd)
	buf := make([]byte, 64<<10)
	text := ""
	for {
		n, err := r.Read(buf)
		text += string(buf[:n])
		if err != nil {
			break
		}
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return text, ws, nil
}

func TestScriptRuns(t *testing.T) {
	s := NewScript(0)
	s.Call("change directory", unix.SYS_CHDIR, s.Str("/"))
	s.Call("set umask", unix.SYS_UMASK, 0o77)
	s.Exec("/does/not/exist", []string{"sh"}, nil)
	s.Exec("/bin/sh", []string{"sh", "-c", "pwd; umask; echo $A; ls /proc/self/fd; exit 7"}, []string{"A=b c", "PATH=/bin"})
	out, ws, err := run(t, s)
	if err != nil {
		t.Fatal(err)
	}
	// ls has its own descriptor 3 for the directory, and nothing beyond it.
	if want := "/\n0077\nb c\n0\n1\n2\n3\n"; out != want || ws.ExitStatus() != 7 {
		t.Errorf("got %q, status %d, want %q, status 7", out, ws.ExitStatus(), want)
	}
}

func TestScriptReports(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		make func(s *Script)
		want unix.Errno
		text string
	}{
		{"a step", func(s *Script) {
			s.Try("may fail", unix.SYS_CHDIR, s.Str("/nowhere"))
			s.Call("go elsewhere", unix.SYS_CHDIR, s.Str("/nowhere"))
			s.Exec("/bin/true", []string{"true"}, nil)
		}, unix.ENOENT, "go elsewhere: no such file"},
		{"a missing program", func(s *Script) { s.Exec("/nowhere", []string{"x"}, nil) }, unix.ENOENT, `execute "/nowhere"`},
		{"the better reason of two", func(s *Script) {
			s.Exec("/nowhere", []string{"x"}, nil)
			s.Exec(plain, []string{"x"}, nil)
			s.Exec("/nowhere/either", []string{"x"}, nil)
		}, unix.EACCES, "permission denied"},
		{"no program", func(s *Script) { s.Exec(text, []string{"x"}, nil) }, unix.ENOEXEC, "exec format error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewScript(0)
			tt.make(s)
			_, _, err := run(t, s)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.text)
			}
			if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
				t.Errorf("a child is left: %v", err)
			}
		})
	}
}

func TestScriptDropsRights(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: sets capabilities")
	}
	keep, err := ParseCaps([]string{"CAP_CHOWN", "CAP_KILL"})
	if err != nil {
		t.Fatal(err)
	}
	s := NewScript(0)
	s.DropBounding(keep)
	s.SetCaps(Caps{Bounding: keep, Effective: keep, Permitted: keep})
	s.Exec("/bin/cat", []string{"cat", "/proc/self/status"}, nil)
	out, _, err := run(t, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000021", "CapEff:\t0000000000000021", "CapBnd:\t0000000000000021", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("status lacks %q", want)
		}
	}
}

func TestParseCaps(t *testing.T) {
	set, err := ParseCaps([]string{"CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"})
	if err != nil || set != 1|1<<40 {
		t.Errorf("got %#x, %v", set, err)
	}
	for _, bad := range []string{"CHOWN", "cap_chown", "CAP_", ""} {
		if _, err := ParseCaps([]string{bad}); err == nil {
			t.Errorf("ParseCaps(%q) succeeded", bad)
		}
	}
}
