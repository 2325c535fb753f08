package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/unpack/hostile"
	"github.com/rkt/rkt/store"
)

// program is rkt-fetch, as it is installed.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rkt-fetch")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build rkt-fetch: %v\n%s", err, out)
	}
	return path
}

// says runs a command that must fail with one sentence, which it returns.
func says(t *testing.T, path string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != failure {
		t.Errorf("%q: got %v, want exit code %d; it said %s", args, err, failure, &stderr)
	}
	if stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("%q: not one line: %s%s", args, &stdout, &stderr)
	}
	return stderr.String()
}

func works(t *testing.T, path string, args ...string) {
	t.Helper()
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%q: %v\n%s", args, err, out)
	}
}

// imageOf puts an image of these layers into a store and names it.
func imageOf(t *testing.T, dir, name string, layers ...[]byte) store.Image {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	cfg := ocispec.Image{Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}}
	cfg.RootFS.Type = "layers"
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		desc, err := s.PutBlob(mediaType, data)
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	marshal := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, layer := range layers {
		m.Layers = append(m.Layers, put(ocispec.MediaTypeImageLayer, layer))
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(layer))
	}
	m.Config = put(ocispec.MediaTypeImageConfig, marshal(cfg))
	img := store.Image{Name: name, Manifest: put(ocispec.MediaTypeImageManifest, marshal(m))}
	if err := s.Put(img); err != nil {
		t.Fatal(err)
	}
	return img
}

func twoLayers() [][]byte {
	return [][]byte{
		(&hostile.Archive{}).File("etc/one", "1").File("etc/both", "1").Raw("dev/null", tar.TypeChar, "", 0, "").Bytes(),
		(&hostile.Archive{}).File("etc/both", "2").File("etc/.wh.one", "").Symlink("l", "/etc/both").Bytes(),
	}
}

// TestOut is about the program, which is built once.
func TestOut(t *testing.T) {
	rktFetch := program(t)
	for name, test := range map[string]func(*testing.T, string){
		"export": testExport, "corrupt": testCorrupt, "extract": testExtract, "hostile": testExtractHostile,
	} {
		t.Run(name, func(t *testing.T) { test(t, rktFetch) })
	}
}

func testExport(t *testing.T, rktFetch string) {
	dir, out := t.TempDir(), t.TempDir()
	img := imageOf(t, dir, "reg.example/app:1", twoLayers()...)
	imageOf(t, dir, "oci:/some/where:1", twoLayers()...)
	a, b, c := out+"/a.tar", out+"/b.tar", out+"/c.tar"
	works(t, rktFetch, "export", "--dir", dir, "--", "reg.example/app:1", a)
	works(t, rktFetch, "export", "--dir", dir, "--", "reg.example/app:1", b)
	works(t, rktFetch, "export", "--dir", dir, "--", "oci:/some/where:1", c)
	one, two := readFile(t, a), readFile(t, b)
	if !bytes.Equal(one, two) {
		t.Error("the same image gives two different archives")
	}
	if got := indexOf(t, one); got.Manifests[0].Annotations[ocispec.AnnotationRefName] != "reg.example/app:1" || got.Manifests[0].Digest != img.Manifest.Digest {
		t.Errorf("the index names %+v", got.Manifests)
	}
	if got := indexOf(t, readFile(t, c)); got.Manifests[0].Annotations != nil {
		t.Errorf("a name that other tools refuse is in the index: %+v", got.Manifests)
	}
	if got := says(t, rktFetch, "export", "--dir", dir, "--", "reg.example/app:1", a); !strings.Contains(got, "exists, --overwrite") {
		t.Errorf("an existing file: %s", got)
	}
	works(t, rktFetch, "export", "--overwrite", "--dir", dir, "--", "reg.example/app:1", a)
	if got := says(t, rktFetch, "export", "--overwrite", "--dir", dir, "--", "reg.example/app:1", out); !strings.Contains(got, "not a regular file") {
		t.Errorf("a directory: %s", got)
	}
	if got := says(t, rktFetch, "export", "--dir", dir, "--", "reg.example/app:2", out+"/d"); !strings.Contains(got, "reg.example/app:2") {
		t.Errorf("no such image: %s", got)
	}
	if got := says(t, rktFetch, "export", "--dir", dir, "--", "reg.example/app:1", out+"/none/d"); !strings.Contains(got, `directory "`+out+`/none": no such file`) {
		t.Errorf("no such directory: %s", got)
	}
	if _, err := exec.LookPath("skopeo"); err == nil {
		if text, err := exec.Command("skopeo", "inspect", "oci-archive:"+a+":reg.example/app:1").CombinedOutput(); err != nil {
			t.Errorf("skopeo does not read the archive: %v\n%s", err, text)
		}
	}
	checkOnly(t, out, "a.tar", "b.tar", "c.tar")
}

// testCorrupt holds that a blob which changed in the store does not get
// into an archive.
func testCorrupt(t *testing.T, rktFetch string) {
	dir, out := t.TempDir(), t.TempDir()
	imageOf(t, dir, "a", twoLayers()...)
	layer := digest.FromBytes(twoLayers()[0])
	path := filepath.Join(dir, "images/blobs/sha256", layer.Encoded())
	damaged := bytes.Replace(readFile(t, path), []byte("etc/one"), []byte("etc/two"), 1)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"export", "extract"} {
		if got := says(t, rktFetch, verb, "--dir", dir, "--", "a", out+"/x"); !strings.Contains(got, "blob "+layer.String()+" is corrupt") {
			t.Errorf("%s: %s", verb, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"export", "extract"} {
		if got := says(t, rktFetch, verb, "--dir", dir, "--", "a", out+"/x"); !strings.Contains(got, "fetch the image again") {
			t.Errorf("%s: %s", verb, got)
		}
	}
	checkOnly(t, out)
}

func testExtract(t *testing.T, rktFetch string) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the files of an image belong to several users")
	}
	dir, out := t.TempDir(), t.TempDir()
	img := imageOf(t, dir, "a", twoLayers()...)
	imageOf(t, dir, "empty")
	works(t, rktFetch, "extract", "--dir", dir, "--", "a", out+"/x")
	want := []string{"manifest", "rootfs", "rootfs/dev", "rootfs/etc", "rootfs/etc/both", "rootfs/l"}
	if d := cmp.Diff(want, namesIn(t, out+"/x")); d != "" {
		t.Error(d)
	}
	if got := digest.FromBytes(readFile(t, out+"/x/manifest")); got != img.Manifest.Digest {
		t.Errorf("the manifest is %s", got)
	}
	if got := readFile(t, out+"/x/rootfs/etc/both"); string(got) != "2" {
		t.Errorf("the upper layer's file is %q", got)
	}
	if info, err := os.Stat(out + "/x/rootfs"); err != nil || info.Mode().Perm() != 0o755 || info.ModTime().Unix() != 0 {
		t.Errorf("the root directory that no layer mentions is %v of %v, %v", info.Mode(), info.ModTime(), err)
	}
	if info, err := os.Stat(out + "/x"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may enter the directory: %v, %v", info.Mode(), err)
	}
	if got := says(t, rktFetch, "extract", "--dir", dir, "--", "a", out+"/x"); !strings.Contains(got, "exists, --overwrite") {
		t.Errorf("an existing directory: %s", got)
	}
	works(t, rktFetch, "extract", "--overwrite", "--rootfs-only", "--dir", dir, "--", "a", out+"/x")
	if d := cmp.Diff([]string{"dev", "etc", "etc/both", "l"}, namesIn(t, out+"/x")); d != "" {
		t.Error(d)
	}
	works(t, rktFetch, "extract", "--overwrite", "--rootfs-only", "--dir", dir, "--", "empty", out+"/x")
	if got := namesIn(t, out+"/x"); got != nil {
		t.Errorf("an image without layers has %q", got)
	}
	if err := os.Symlink("/", out+"/root"); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"/":                        "root directory of this system",
		"//usr/../":                "root directory of this system",
		filepath.Dir(dir):          "rkt's own directory",
		dir:                        "rkt's own directory",
		out + "/none/x":            "no such file or directory",
		"/proc":                    "is a mount point",
		out + "/root/proc/none/xx": "no such file or directory",
	} {
		if got := says(t, rktFetch, "extract", "--overwrite", "--dir", dir, "--", "a", target); !strings.Contains(got, want) {
			t.Errorf("%s: %s", target, got)
		}
	}
	checkOnly(t, out, "root", "x")
}

// testExtractHostile holds that a hostile layer leaves nothing behind.
func testExtractHostile(t *testing.T, rktFetch string) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the files of an image belong to several users")
	}
	dir, out := t.TempDir(), t.TempDir()
	imageOf(t, dir, "a", twoLayers()[0], (&hostile.Archive{}).File("fine", "").File("../x", "").Bytes())
	if got := says(t, rktFetch, "extract", "--dir", dir, "--", "a", out+"/x"); !strings.Contains(got, `entry "../x": the name leads upwards`) {
		t.Error(got)
	}
	checkOnly(t, out)
}

func TestRefName(t *testing.T) {
	for name, want := range map[string]bool{
		"docker.io/library/nginx:latest": true, "localhost:5000/a--b:1": true, "a@sha256:00": true, "a": true,
		"oci:/dir:1": false, "/x.tar": false, "a/": false, "": false, "-a": false, "a b": false, "a\n": false,
	} {
		if got := refName.MatchString(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// indexOf reads an archive whose blobs must be what their names say.
func indexOf(t *testing.T, archive []byte) (index ocispec.Index) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return index
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if hex, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && hex != "" && digest.FromBytes(data).Encoded() != hex {
			t.Errorf("%s has other content", h.Name)
		}
		if h.Name == ocispec.ImageIndexFile {
			if err := json.Unmarshal(data, &index); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// checkOnly holds that a directory has just these entries, no temporary ones.
func checkOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if d := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); d != "" {
		t.Errorf("%s:\n%s", dir, d)
	}
}
