package control

import (
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func TestMessages(t *testing.T) {
	a, b := pair(t)
	sent := Request{Exec: &Exec{App: "web", Args: []string{"ls", "a b"}, Env: []string{"TERM=x"}, Terminal: true}}
	if err := Send(a, sent, 0, 1, 2); err != nil {
		t.Fatal(err)
	}
	var got Request
	fds, err := Receive(b, &got)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(fds)
	if !reflect.DeepEqual(got, sent) || len(fds) != 3 {
		t.Errorf("got %+v with %d descriptors, want %+v with 3", got.Exec, len(fds), sent.Exec)
	}
	for _, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d would reach other programs: flags %#x, %v", fd, flags, err)
		}
	}
}

func TestMessageLimits(t *testing.T) {
	a, b := pair(t)
	big := Request{Exec: &Exec{Args: []string{strings.Repeat("x", MaxMessage)}}}
	if err := Send(a, big); err == nil || !strings.Contains(err.Error(), "give fewer arguments") {
		t.Errorf("too large: %v", err)
	}
	// Who does not keep to the limits, to JSON, or to the number of
	// descriptors is refused, and nothing that was sent along stays open.
	before := openFiles(t)
	for name, send := range map[string]func() error{
		"large":   func() error { return unix.Send(a, make([]byte, MaxMessage+1), 0) },
		"no JSON": func() error { return unix.Sendmsg(a, []byte("{"), unix.UnixRights(0, 1), nil, 0) },
		"descriptors": func() error {
			return unix.Sendmsg(a, []byte("{}"), unix.UnixRights(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), nil, 0)
		},
	} {
		if err := send(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got Request
		if _, err := Receive(b, &got); err == nil {
			t.Errorf("%s: was received", name)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

func TestEnd(t *testing.T) {
	a, b := pair(t)
	if err := unix.Shutdown(a, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	var got Reply
	if _, err := Receive(b, &got); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
