package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rkt/rkt/internal/linux"
)

const passwd = `root:x:0:0:root:/root:/bin/sh
www:x:33:33:www:/srv:/bin/false
# comment
short:x
big:x:4294967295:1:x:/:/bin/sh
other:x:12:13:x:/ho` + "\x00" + `me:/bin/sh
`

const group = `root:x:0:
web:x:33:www
adm:x:4:root,www
www-data:x:99:wwww,ww
`

func testRoot(t *testing.T, files map[string]string) *linux.Root {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := linux.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	return root
}

func TestResolve(t *testing.T) {
	root := testRoot(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	tests := []struct {
		spec  string
		extra []uint32
		want  identity
		err   string
	}{
		{spec: "", want: identity{name: "root", home: "/root", groups: []uint32{0, 4}}},
		{spec: "0", want: identity{name: "root", home: "/root", groups: []uint32{0, 4}}},
		{spec: "www", want: identity{name: "www", uid: 33, gid: 33, home: "/srv", groups: []uint32{4, 33}}},
		{spec: "33", want: identity{name: "www", uid: 33, gid: 33, home: "/srv", groups: []uint32{4, 33}}},
		{spec: "www:adm", want: identity{name: "www", uid: 33, gid: 4, home: "/srv", groups: []uint32{4}}},
		{spec: "www:7", extra: []uint32{9, 8, 9}, want: identity{name: "www", uid: 33, gid: 7, home: "/srv", groups: []uint32{7, 8, 9}}},
		{spec: "1000", want: identity{uid: 1000, home: "/", groups: []uint32{0}}},
		{spec: "1000:1000", want: identity{uid: 1000, gid: 1000, home: "/", groups: []uint32{1000}}},
		{spec: "4294967294", want: identity{uid: 4294967294, home: "/", groups: []uint32{0}}},
		{spec: "other", want: identity{name: "other", uid: 12, gid: 13, home: "/", groups: []uint32{13}}},
		{spec: "nobody", err: `"nobody": the image's /etc/passwd does not have it`},
		{spec: "www:nogroup", err: `"nogroup": the image's /etc/group does not have it`},
		{spec: "4294967295", err: "ids go from 0"},
		{spec: "4294967296", err: "ids go from 0"},
		{spec: "99999999999999999999", err: "ids go from 0"},
		{spec: "0:4294967296", err: "ids go from 0"},
		{spec: "-1", err: "no sign"},
		{spec: "+0", err: "no sign"},
		{spec: "big", err: `"big": the image's`},
		{spec: "www\nroot", err: "cannot have"},
		{spec: "www\x00", err: "cannot have"},
		{spec: "../../etc", err: "cannot have"},
		{spec: "0:web\n", err: "cannot have"},
		{spec: "a:b:c", err: "does not have it"},
		{spec: "#", err: "does not have it"},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			got, err := resolve(root, tt.spec, tt.extra)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %+v, %v, want an error with %q", got, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Whatever an image has in place of its user files, reading them ends at once
// and stays inside.
func TestResolveHostileFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(secret, []byte("leak:x:5:5::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		make func(path string) error
		err  string
	}{
		{"missing", func(string) error { return nil }, "does not have it"},
		{"symbolic link out", func(p string) error { return os.Symlink(secret, p) }, "does not have it"},
		{"relative link out", func(p string) error { return os.Symlink(strings.Repeat("../", 40)+secret[1:], p) }, "does not have it"},
		{"link to itself", func(p string) error { return os.Symlink("passwd", p) }, "too many levels"},
		{"FIFO", func(p string) error { return syscall.Mkfifo(p, 0o644) }, "not a regular file"},
		{"directory", func(p string) error { return os.Mkdir(p, 0o755) }, "not a regular file"},
		{"sparse giant", func(p string) error {
			if err := os.WriteFile(p, nil, 0o644); err != nil {
				return err
			}
			return os.Truncate(p, 10<<30)
		}, "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testRoot(t, nil)
			if err := tt.make(fmt.Sprintf("/proc/self/fd/%d/etc/passwd", root.FD())); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err := resolve(root, "leak", nil)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want an error with %q", err, tt.err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	tests := []struct {
		command string
		env     []string
		want    []string
	}{
		{"/bin/x", nil, []string{"/bin/x"}},
		{"./x", []string{"PATH=/bin"}, []string{"./x"}},
		{"x", []string{"PATH=/a:/b/::/c"}, []string{"/a/x", "/b/x", "/c/x"}},
		{"x", nil, []string{"/x"}},
	}
	for _, tt := range tests {
		if got := candidates(tt.command, tt.env); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("candidates(%q, %q) = %q, want %q", tt.command, tt.env, got, tt.want)
		}
	}
}
