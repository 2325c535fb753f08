package linux

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Both ways of making an overlay show the same: the uppermost file of a name.
// The names have everything that mount options are separated by.
func TestOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	for name, mount := range map[string]func(*Overlay, string) (*Mount, error){"new": (*Overlay).Mount, "old": (*Overlay).mountOld} {
		t.Run(name, func(t *testing.T) {
			// The thread leaves the mount namespace, so it ends with this test.
			runtime.LockOSThread()
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			o := &Overlay{Name: "test", Upper: dir + "/up,per", Work: dir + "/wo:rk", Attr: unix.MOUNT_ATTR_NODEV}
			for i := range 3 {
				l := filepath.Join(dir, "layers", `a:b,c\d`+strconv.Itoa(i))
				if err := os.MkdirAll(l, 0o755); err != nil {
					t.Fatal(err)
				}
				for _, f := range []string{"all", strconv.Itoa(i)} {
					if err := os.WriteFile(l+"/"+f, []byte(strconv.Itoa(i)), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				o.Lower = append([]string{l}, o.Lower...)
			}
			for _, d := range []string{o.Upper, o.Work, dir + "/scratch"} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			m, err := mount(o, dir+"/scratch")
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			for f, want := range map[string]string{"all": "2", "0": "0", "1": "1", "2": "2"} {
				if got, err := ReadFile(m.FD(), f, 10); err != nil || string(got) != want {
					t.Errorf("%s: got %q, %v", f, got, err)
				}
			}
			var st unix.Statfs_t
			if err := unix.Fstatfs(m.FD(), &st); err != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC || st.Flags&unix.ST_NODEV == 0 {
				t.Errorf("type %#x, flags %#x, %v", st.Type, st.Flags, err)
			}
			if entries, err := os.ReadDir(dir + "/scratch"); err != nil || len(entries) != 0 {
				t.Errorf("the scratch directory has %v, %v", entries, err)
			}
		})
	}
}

func TestOverlayTooManyLayers(t *testing.T) {
	o := &Overlay{Upper: "/u", Work: "/w"}
	for i := range 40 {
		o.Lower = append(o.Lower, "/var/lib/rkt/layers/"+strings.Repeat("a", 62)+strconv.Itoa(10+i))
	}
	if dir, _, err := o.data(); err != nil || dir != "/var/lib/rkt/layers" {
		t.Errorf("40 layers: %q, %v", dir, err)
	}
	o.Lower = append(o.Lower, o.Lower...)
	if _, _, err := o.data(); err == nil {
		t.Error("80 layers fit a page")
	}
}
