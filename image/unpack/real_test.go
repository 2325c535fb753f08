package unpack

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/unpack/hostile"
)

// needs skips a test that compares with other tools' work.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: files of several users, overlayfs")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
}

func sh(t *testing.T, script string, args ...string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-euc", script, "sh"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// specimen makes a tree with one of everything.
const specimen = `
mkdir -p "$1"; cd "$1"; umask 022
mkdir -p etc usr/bin var/empty "a dir" deep/$(printf 'd%.0s/' $(seq 60))
echo root:x:0:0 > etc/passwd; chmod 640 etc/passwd; chown 0:42 etc/passwd
head -c 300000 /dev/urandom > usr/bin/tool; chmod 4755 usr/bin/tool; ln usr/bin/tool usr/bin/alias
ln usr/bin/tool deep/alias
ln -s ../usr/bin/tool etc/link; ln -s /nowhere etc/dangling; chown -h 7:8 etc/link
ln -s usr/bin bin; ln etc/link etc/link2
mkfifo -m 622 var/pipe; chown 3:4 var/pipe
chmod 1777 var/empty; chown 5:6 var/empty
touch -d '1999-12-31 23:59:59.123456789' "a dir/file
with newline"; : > "a dir/empty"
long=$(printf 'x%.0s' $(seq 200)); mkdir "$long"; echo y > "$long/$long"; ln -s "$long/$long" long
truncate -s 50M sparse; printf data | dd of=sparse bs=1 seek=30000000 conv=notrunc 2>/dev/null
setfattr -n user.note -v kept etc/passwd 2>/dev/null || true
chown 4000000:3000000 usr/bin/tool; chmod 6711 usr/bin/tool
find . -exec touch -h -d '2020-02-02 02:02:02.020202020' {} +
touch -d '1999-12-31 23:59:59.123456789' "a dir" .
`

// TestGNUTar holds that what GNU tar packs arrives as it was.
func TestGNUTar(t *testing.T) {
	needs(t, "tar")
	base := t.TempDir()
	src := filepath.Join(base, "src")
	sh(t, specimen, src)
	whole := census(t, src)
	for _, c := range []struct {
		name string
		args string
		same func(string) string // what the format loses
	}{
		{"pax", "--format=pax --xattrs --xattrs-include=* .", nil},
		{"pax, names with a slash", "--format=pax --xattrs --xattrs-include=* --transform s,^\\.,/,SH .", nil},
		{"pax, sparse 1.0", "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=1.0 .", nil},
		{"pax, sparse 0.1", "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=0.1 .", nil},
		{"pax, sparse 0.0", "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=0.0 .", nil},
		{"gnu", "--format=gnu .", wholeSeconds},
		{"gnu, sparse", "--format=gnu --sparse .", wholeSeconds},
		{"gnu, gzip", "--format=gnu --gzip .", wholeSeconds},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			sh(t, `cd "$1"; tar --create --numeric-owner --file "$2" `+c.args, src, dir+"/tar")
			blob, err := os.ReadFile(dir + "/tar")
			if err != nil {
				t.Fatal(err)
			}
			unpackTo(t, dir+"/root", blob, Options{})
			want, got := whole, census(t, dir+"/root")
			if c.same != nil {
				want, got = c.same(want), c.same(got)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("the tree is not what it was:\n%s", d)
			}
		})
	}
}

// wholeSeconds cuts a census to what a format without fractions of seconds and
// extended attributes can carry.
func wholeSeconds(census string) string {
	lines := strings.Split(census, "\n")
	for i, line := range lines {
		if at := strings.Index(line, "mtime="); at >= 0 {
			fraction := at + strings.IndexByte(line[at:], '.')
			line = line[:fraction] + line[fraction+10:]
		}
		lines[i], _, _ = strings.Cut(line, " user.note")
	}
	return strings.Join(lines, "\n")
}

// changes are what the upper layers of the test's image do.
var changes = []string{
	`chmod 755 "$1"; mkdir -m 755 "$1/keep" "$1/hide" "$1/opaque" "$1/swap" "$1/opaque/sub"
	for d in keep hide opaque swap opaque/sub; do echo 1 > "$1/$d/one"; echo 1 > "$1/$d/both"; done
	echo file > "$1/tofile"; mkdir -p "$1/todir.d/x"; ln -s keep "$1/link"; ln "$1/keep/one" "$1/keep/hard"
	chown 12:13 "$1/keep"; chmod 4711 "$1/keep/one"`,
	`rm -r "$1/hide" "$1/opaque"; mkdir -m 711 "$1/opaque"; echo 2 > "$1/opaque/two"
	rm -r "$1/swap"; echo now a file > "$1/swap"; rm "$1/tofile"; mkdir "$1/tofile"; echo 2 > "$1/tofile/x"
	rm "$1/keep/both"; echo 2 > "$1/keep/two"; rm "$1/keep/hard"; chmod 700 "$1/keep"; chown 14:15 "$1/keep"`,
	`mkdir "$1/hide"; echo 3 > "$1/hide/three"; rm "$1/swap"; mkdir "$1/swap"; echo 3 > "$1/swap/three"
	rm "$1/link"; mkdir "$1/link"; echo 3 > "$1/link/x"; touch -d '2001-01-01 01:01:01' "$1/keep"; mkfifo "$1/pipe"; rm "$1/opaque/two"; touch -d 2001-01-01 "$1/opaque"`,
}

// umociImage builds an image of several layers by umoci and returns the blobs
// of its layers, lowest first, and the root file system that umoci unpacks.
func umociImage(t *testing.T, base string) (layers []layerBlob, rootfs string) {
	t.Helper()
	image := filepath.Join(base, "image")
	sh(t, `umoci init --layout "$1"; umoci new --image "$1:a"`, image)
	for _, change := range changes {
		sh(t, `rm -rf "$2"; umoci unpack --image "$1:a" "$2"`, image, base+"/bundle")
		sh(t, change, base+"/bundle/rootfs")
		sh(t, `umoci repack --image "$1:a" "$2"`, image, base+"/bundle")
	}
	sh(t, `rm -rf "$2"; umoci unpack --image "$1:a" "$2"`, image, base+"/bundle")
	return imageLayers(t, image, "a"), base + "/bundle/rootfs"
}

type layerBlob struct {
	path string
	Options
}

func imageLayers(t *testing.T, image, name string) (layers []layerBlob) {
	t.Helper()
	var index ocispec.Index
	var manifest ocispec.Manifest
	var config ocispec.Image
	blob := func(d digest.Digest) string { return filepath.Join(image, "blobs", string(d.Algorithm()), d.Encoded()) }
	read := func(path string, v any) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, v); err != nil {
			t.Fatalf("read %s: %v", path, err)
		}
	}
	read(filepath.Join(image, "index.json"), &index)
	for _, m := range index.Manifests {
		if m.Annotations[ocispec.AnnotationRefName] == name {
			read(blob(m.Digest), &manifest)
		}
	}
	read(blob(manifest.Config.Digest), &config)
	for i, l := range manifest.Layers {
		layers = append(layers, layerBlob{blob(l.Digest), Options{MediaType: l.MediaType, DiffID: config.RootFS.DiffIDs[i]}})
	}
	return layers
}

// stack unpacks every layer into a directory of its own.
func stack(t *testing.T, layers []layerBlob, dir string) (dirs []string) {
	t.Helper()
	for i, l := range layers {
		blob, err := os.ReadFile(l.path)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, filepath.Join(dir, "layer"+string(rune('0'+i))))
		unpackTo(t, dirs[i], blob, l.Options)
	}
	return dirs
}

func mergeAll(t *testing.T, dirs []string, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, dir := range dirs {
		layer, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := Merge(t.Context(), layer, root); err != nil {
			t.Error(err)
		}
		layer.Close()
	}
}

// TestUmoci holds that the layers of a real image, stacked by overlayfs and
// merged by Merge, are the tree that umoci makes of them.
func TestUmoci(t *testing.T) {
	needs(t, "umoci")
	base := t.TempDir()
	layers, rootfs := umociImage(t, base)
	want := census(t, rootfs)
	dirs := stack(t, layers, base)
	if d := cmp.Diff(want, withOverlay(t, dirs, base)); d != "" {
		t.Errorf("what overlayfs shows of our layers is not what umoci unpacks:\n%s", d)
	}
	mergeAll(t, dirs, base+"/merged")
	if d := cmp.Diff(want, census(t, base+"/merged")); d != "" {
		t.Errorf("what Merge makes of our layers is not what umoci unpacks:\n%s", d)
	}
}

// TestSkopeoZstd holds that layers as skopeo compresses them give the same.
func TestSkopeoZstd(t *testing.T) {
	needs(t, "umoci", "skopeo")
	base := t.TempDir()
	layers, _ := umociImage(t, base)
	sh(t, `skopeo copy --quiet --insecure-policy --dest-compress-format zstd "oci:$1:a" "oci:$2:a"`, base+"/image", base+"/zstd")
	zstds := imageLayers(t, base+"/zstd", "a")
	if !strings.HasSuffix(zstds[0].MediaType, "+zstd") {
		t.Fatalf("skopeo made %s", zstds[0].MediaType)
	}
	one, two := filepath.Join(base, "one"), filepath.Join(base, "two")
	dirs, zdirs := stack(t, layers, one), stack(t, zstds, two)
	for i := range dirs {
		if d := cmp.Diff(noWhiteoutTimes(census(t, dirs[i])), noWhiteoutTimes(census(t, zdirs[i]))); d != "" {
			t.Errorf("layer %d differs:\n%s", i, d)
		}
	}
}

var (
	timeOfWhiteout  = regexp.MustCompile(`(?m)( Dc-.*) mtime=[0-9.]+`)
	timeOfDirectory = regexp.MustCompile(`(?m)( [dgut]+rwx.*) mtime=[0-9.]+`)
)

func noWhiteoutTimes(census string) string { return timeOfWhiteout.ReplaceAllString(census, "$1") }

// TestMergeIsOverlay holds, with layers that no tool writes, that Merge makes
// what overlayfs shows, but for the times of directories without an entry.
func TestMergeIsOverlay(t *testing.T) {
	needs(t)
	below := (&hostile.Archive{}).Dir("d").File("d/lower", "").File("d/sub/lower", "").File("f", "").Dir("e").File("e/lower", "").Bytes()
	for name, upper := range map[string]*hostile.Archive{
		"file on directory":       (&hostile.Archive{}).File("d", "x"),
		"directory on file":       (&hostile.Archive{}).File("f/x", "x"),
		"file to directory":       (&hostile.Archive{}).File("d", "x").Dir("d").File("d/upper", ""),
		"whiteout to parent":      (&hostile.Archive{}).File(".wh.d", "").File("d/upper", ""),
		"whiteout of own":         (&hostile.Archive{}).File("d/upper", "").File(".wh.d", ""),
		"opaque below opaque":     (&hostile.Archive{}).File("d/.wh..wh..opq", "").File("d/sub/.wh..wh..opq", "").File("d/sub/x", ""),
		"whiteouts of nothing":    (&hostile.Archive{}).File("new/.wh.x", "").File(".wh.y", "").File("new/.wh..wh..opq", ""),
		"device on file":          (&hostile.Archive{}).Raw("f", '3', "", 0, "").Raw("d/lower", '4', "", 0, ""),
		"through own link":        (&hostile.Archive{}).Dir("n").Symlink("l", "n").File("l/x", ""),
		"own link hides":          (&hostile.Archive{}).Symlink("d", "e").Dir("e").File("d/x", ""),
		"missing parents":         (&hostile.Archive{}).File("d/sub/deeper/x", ""),
		"hard links":              (&hostile.Archive{}).File("d/x", "1").Link("e/y", "d/x").Link("f", "d/x"),
		"replaced by nothing new": (&hostile.Archive{}).Dir("d").Dir("e"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			dirs := []string{dir + "/below", dir + "/upper"}
			unpackTo(t, dirs[0], below, Options{})
			unpackTo(t, dirs[1], upper.Bytes(), Options{})
			want := timeOfDirectory.ReplaceAllString(withOverlay(t, dirs, dir), "$1")
			mergeAll(t, dirs, dir+"/merged")
			if d := cmp.Diff(want, timeOfDirectory.ReplaceAllString(census(t, dir+"/merged"), "$1")); d != "" {
				t.Errorf("merged is not what overlayfs shows:\n%s", d)
			}
		})
	}
}

// TestMergeKeepsParents holds that a layer without an entry for a directory
// leaves the directory of a lower layer as it is.
func TestMergeKeepsParents(t *testing.T) {
	dir := t.TempDir()
	below := (&hostile.Archive{}).
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711}, "").
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}, "").
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "root", Mode: 0o700}, "").File("root/secret", "").
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "opt", Mode: 0o700}, "").
		Add(tar.Header{Typeflag: tar.TypeDir, Name: "srv", Mode: 0o700}, "")
	upper := (&hostile.Archive{}).File("tmp/x", "").File("root/.wh.secret", "").File("new/x", "").
		File("opt/x", "").Add(tar.Header{Typeflag: tar.TypeDir, Name: "opt", Mode: 0o770}, "").
		File("srv/.wh..wh..opq", "").File("srv/x", "")
	dirs := []string{dir + "/below", dir + "/upper"}
	unpackTo(t, dirs[0], below.Bytes(), Options{})
	unpackTo(t, dirs[1], upper.Bytes(), Options{})
	mergeAll(t, dirs, dir+"/merged")
	for name, want := range map[string]string{
		"": "drwx--x--x 1700000000", "tmp": "dtrwxrwxrwx 1700000000", "root": "drwx------ 1700000000",
		"new": "drwxr-xr-x 0", "opt": "drwxrwx--- 1700000000", "srv": "drwxr-xr-x 0",
	} {
		info, err := os.Stat(filepath.Join(dir, "merged", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := fmt.Sprint(info.Mode(), " ", info.ModTime().Unix()); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
	if strings.Contains(census(t, dir+"/merged"), "user.overlay") {
		t.Error("marks are left in the merged tree")
	}
}

// TestMergeOpaqueRoot holds that a layer can hide everything below it.
func TestMergeOpaqueRoot(t *testing.T) {
	dir := t.TempDir()
	dirs := []string{dir + "/below", dir + "/upper"}
	unpackTo(t, dirs[0], (&hostile.Archive{}).File("d/lower", "").File("f", "").Bytes(), Options{})
	unpackTo(t, dirs[1], (&hostile.Archive{}).File("d/upper", "").File(".wh..wh..opq", "").Bytes(), Options{})
	mergeAll(t, dirs, dir+"/merged")
	for name, want := range map[string]string{"d/upper": "file", "d/lower": "none", "f": "none"} {
		if got := typeOf(t, filepath.Join(dir, "merged", name)); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}

// withOverlay takes the census of an overlay of dirs, lowest first, in a mount
// namespace that ends with its thread.
func withOverlay(t *testing.T, dirs []string, base string) (all string) {
	t.Helper()
	lower := ""
	for _, d := range dirs {
		lower = d + ":" + lower
	}
	at := filepath.Join(base, "overlay")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+strings.TrimSuffix(lower, ":"))
		}
		if err == nil {
			all, err = hostile.Census(at)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("look at the overlay: %v", err)
	}
	return all
}
