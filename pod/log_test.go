package pod_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rkt/rkt/pod"
)

func TestParseLogEntry(t *testing.T) {
	e, err := pod.ParseLogEntry([]byte("2026-01-02T03:04:05.123456789Z stderr P a b  c"))
	if err != nil || e.Stream != "stderr" || !e.Partial || string(e.Text) != "a b  c" || e.Time.Nanosecond() != 123456789 {
		t.Errorf("%+v, %v", e, err)
	}
	e, err = pod.ParseLogEntry([]byte("2026-01-02T03:04:05Z stdout F "))
	if err != nil || e.Stream != "stdout" || e.Partial || len(e.Text) != 0 {
		t.Errorf("%+v, %v", e, err)
	}
	for _, bad := range []string{"", "x", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z stdout F", "2026-01-02T03:04:05Z other F x", "2026-01-02T03:04:05Z stdout X x", "yesterday stdout F x", strings.Repeat("\x00", 100)} {
		if _, err := pod.ParseLogEntry([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzParseLogEntry(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.123456789Z stderr P a b  c"))
	f.Add([]byte("2026-01-02T03:04:05+01:00 stdout F "))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := pod.ParseLogEntry(line)
		if err != nil {
			return
		}
		tag := "F"
		if e.Partial {
			tag = "P"
		}
		again, err := pod.ParseLogEntry([]byte(e.Time.Format(time.RFC3339Nano) + " " + e.Stream + " " + tag + " " + string(e.Text)))
		if err != nil || !again.Time.Equal(e.Time) || string(again.Text) != string(e.Text) {
			t.Errorf("%q: %+v, then %+v, %v", line, e, again, err)
		}
	})
}

// logDir is a running pod with an app that has a directory.
func logDir(t *testing.T) (p *pod.Pod, log string) {
	t.Helper()
	p = create(t, pod.In(t.TempDir()), pod.InRun)
	for _, dir := range []string{"apps", "apps/web"} {
		if err := p.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	return p, filepath.Join(p.Dir(), "apps/web/log")
}

func appendTo(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// readAll gives all that can be read now, joined by '|'.
func readAll(t *testing.T, l *pod.Log) string {
	t.Helper()
	var lines []string
	for {
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(lines, "|")
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
}

func TestLog(t *testing.T) {
	p, log := logDir(t)
	l, err := p.Log("web")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rotate := func() {
		if err := os.Rename(log, log+".1"); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { appendTo(t, log, "1\n2\n") }, "1|2"},
		{func() {}, ""},
		{func() { appendTo(t, log, "half") }, ""},
		{func() { appendTo(t, log, " line\n") }, "half line"},
		{func() { appendTo(t, log, "3\n"); rotate() }, "3"},
		{func() { appendTo(t, log, "4\n") }, "4"},
		{func() { appendTo(t, log, "5\n"); rotate(); appendTo(t, log, "6\n") }, "5|6"},
		{func() { appendTo(t, log, strings.Repeat("x", 20<<10)+"\n") }, strings.Repeat("x", 20<<10)},
	}
	for i, step := range steps {
		step.do()
		if got := readAll(t, l); got != step.want {
			t.Errorf("step %d: %.100q, want %.100q", i, got, step.want)
		}
	}
	both, err := p.Log("web")
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	if got := readAll(t, both); !strings.HasPrefix(got, "4|5|6|xxx") {
		t.Errorf("older and younger: %.40q", got)
	}
	appendTo(t, log, strings.Repeat("y", 70<<10)+"\n")
	if _, err := l.Next(); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless line: %v", err)
	}
}

func TestLogWait(t *testing.T) {
	p, log := logDir(t)
	l, err := p.Log("web")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := l.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing is written: %v", err)
	}
	ctx, cancelLong := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancelLong()
	for i, write := range []func(){
		func() { appendTo(t, log, "first\n") },
		func() { appendTo(t, log, "more\n") },
		func() { _ = os.Rename(log, log+".1"); appendTo(t, log, "next file\n") },
	} {
		result := make(chan error)
		go func() { result <- l.Wait(ctx) }()
		write()
		if err := <-result; err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		if got := readAll(t, l); got == "" {
			t.Errorf("step %d: woken for nothing", i)
		}
	}
}
