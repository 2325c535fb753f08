package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/internal/table"
	"github.com/rkt/rkt/store"
)

// storeWith makes a data directory whose store has an image for each line of
// names; the names in a line are for the same image.
func storeWith(t *testing.T, lines ...string) (dir string, ids []string) {
	t.Helper()
	dir = t.TempDir()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		config, err := s.PutBlob(ocispec.MediaTypeImageConfig, fmt.Appendf(nil, `{"rootfs":{"type":"layers"},"author":%q}`, line))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config})
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := s.PutBlob(ocispec.MediaTypeImageManifest, text)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, manifest.Digest.String())
		for name := range strings.FieldsSeq(line) {
			img := store.Image{Name: name, Manifest: manifest, Size: int64(1000 * (len(lines) - i)), Imported: imported(i)}
			if err := s.Put(img); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir, ids
}

func imported(i int) time.Time { return time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC) }

// rkt runs a command line in this process.
func rkt(dir string, args ...string) (stdout, stderr string, err error) {
	root := newRoot(nil)
	var out, problems bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&problems)
	root.SetArgs(append([]string{"--dir", dir}, args...))
	err = root.Execute()
	return out.String(), problems.String(), err
}

func TestImageArguments(t *testing.T) {
	dir, ids := storeWith(t, "reg.example/team/app:1 reg.example/team/app:latest", "docker.io/library/nginx:latest", "plain", "beef docker.io/library/beef:latest")
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	hex := strings.TrimPrefix(ids[0], "sha256:")
	for arg, want := range map[string]string{
		"reg.example/team/app:1":            "reg.example/team/app:1",
		"reg.example/team/app":              "reg.example/team/app:latest",
		"nginx":                             "docker.io/library/nginx:latest",
		"docker://nginx:latest":             "docker.io/library/nginx:latest",
		"plain":                             "plain",
		"beef":                              "beef",
		ids[0]:                              "reg.example/team/app:1 reg.example/team/app:latest",
		ids[0][:15]:                         "reg.example/team/app:1 reg.example/team/app:latest",
		hex:                                 "reg.example/team/app:1 reg.example/team/app:latest",
		hex[:10]:                            "reg.example/team/app:1 reg.example/team/app:latest",
		"reg.example/team/app:2":            `! image "reg.example/team/app:2" is not in the store, see 'rkt image list'`,
		"ffffffffffff":                      `! image "docker.io/library/ffffffffffff:latest" is not in the store, see 'rkt image list'`,
		"sha256:ffffffffffff":               `! image ID "sha256:ffffffffffff" is not in the store`,
		"sha256:f":                          `! image ID "sha256:f" is not 2 or more of the digits 0-9a-f`,
		"sha256:" + strings.Repeat("x", 64): `! image ID "sha256:` + strings.Repeat("x", 64) + `" is not 2 or more of the digits 0-9a-f`,
	} {
		images, err := findImages(s, arg)
		var names []string
		for _, img := range images {
			names = append(names, img.Name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = "! " + err.Error()
		}
		if got != want {
			t.Errorf("%q is %s, want %s", arg, got, want)
		}
	}
	if _, err := findImages(s, ""); err == nil {
		t.Error("no name is an image")
	}
}

func TestAmbiguousImageID(t *testing.T) {
	var lines []string
	for i := range 300 { // there are 256 beginnings of two digits
		lines = append(lines, fmt.Sprint("name", i))
	}
	dir, ids := storeWith(t, lines...)
	first := map[string]string{}
	for _, id := range ids {
		prefix := id[:len("sha256:")+2]
		if other := first[prefix]; other != "" {
			_, _, err := rkt(dir, "image", "cat-manifest", prefix)
			want := fmt.Sprintf("image ID %q is ambiguous: %s, %s", prefix, other[:19], id[:19])
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			return
		}
		first[prefix] = id
	}
}

func TestImageList(t *testing.T) {
	dir, ids := storeWith(t, "b", "a", "c")
	short := func(i int) string { return ids[i][:19] }
	when := func(i int) string { return imported(i).Local().Format(table.TimeLayout) + "\n" }
	for args, want := range map[string]string{
		"--fields name":                                            "NAME\nb\na\nc\n",
		"--fields name --no-legend --sort name":                    "a\nb\nc\n",
		"--fields name --no-legend --sort name --order desc":       "c\nb\na\n",
		"--fields name --no-legend --sort size":                    "c\na\nb\n",
		"--fields name,id,size --no-legend":                        "b\t" + short(0) + "\t2.9 KiB\na\t" + short(1) + "\t2.0 KiB\nc\t" + short(2) + "\t1000 B\n",
		"--fields size,id --full --no-legend --order desc":         "1000\t" + ids[2] + "\n2000\t" + ids[1] + "\n3000\t" + ids[0] + "\n",
		"--fields importtime --full --no-legend --sort importtime": when(0) + when(1) + when(2),
		"--fields name,colour":                                     `! field "colour" is unknown, choose from id, name, size, importtime, lastused`,
		"--sort colour":                                            `! field "colour" cannot be sorted by, choose from name, importtime, lastused, size`,
		"--order up":                                               `! order "up" is unknown, choose from asc, desc`,
	} {
		t.Run(args, func(t *testing.T) {
			got, _, err := rkt(dir, append([]string{"image", "list"}, strings.Fields(args)...)...)
			if err != nil {
				got = "! " + err.Error()
			}
			if got != want {
				t.Errorf("printed %q, want %q", got, want)
			}
		})
	}
	out, _, err := rkt(dir, "image", "list", "--format=json")
	var entries []map[string]any
	if err != nil || json.Unmarshal([]byte(out), &entries) != nil || len(entries) != 3 {
		t.Fatalf("%s, %v", out, err)
	}
	if e := entries[0]; e["id"] != ids[0] || e["name"] != "b" || e["size"] != 3000.0 || e["import_time"] != "2026-01-02T03:04:00Z" || e["last_used_time"] == nil {
		t.Errorf("first of JSON is %v", e)
	}
	if out, _, err := rkt(t.TempDir(), "image", "list", "--format=json"); err != nil || out != "[]\n" {
		t.Errorf("an empty store is %q, %v", out, err)
	}
}

func TestImageRm(t *testing.T) {
	dir, ids := storeWith(t, "a also-a", "b", "c")
	out, stderr, err := rkt(dir, "image", "rm", ids[0], "nothing", "b")
	if want := "successfully removed image: \"a\"\nsuccessfully removed image: \"also-a\"\nsuccessfully removed image: \"b\"\n3 image(s) successfully removed\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	if err == nil || err.Error() != "failed to remove 1 image(s)" || !strings.Contains(stderr, `image "docker.io/library/nothing:latest" is not in the store`) {
		t.Errorf("%v, %q", err, stderr)
	}
	if out, _, err := rkt(dir, "image", "list", "--no-legend", "--fields=name"); err != nil || out != "c\n" {
		t.Errorf("left %q, %v", out, err)
	}
	for _, args := range [][]string{{"rm"}, {"rm", "nothing"}} {
		if out, _, err := rkt(dir, append([]string{"image"}, args...)...); err == nil || out != "" {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
}

func TestImageCatManifest(t *testing.T) {
	dir, ids := storeWith(t, "a")
	out, _, err := rkt(dir, "image", "cat-manifest", "--pretty-print=false", "a")
	if err != nil || digest.FromString(strings.TrimSuffix(out, "\n")).String() != ids[0] {
		t.Errorf("%q, %v", out, err)
	}
	if out, _, err := rkt(dir, "image", "cat-manifest", "a"); err != nil || !strings.HasPrefix(out, "{\n\t\"schemaVersion\"") {
		t.Errorf("%q, %v", out, err)
	}
	file := dir + "/images/blobs/sha256/" + strings.TrimPrefix(ids[0], "sha256:")
	if err := os.Truncate(file, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := rkt(dir, "image", "cat-manifest", "a"); err == nil || !strings.Contains(err.Error(), "is corrupt: file") {
		t.Errorf("a damaged manifest: %v", err)
	}
}

func TestImageGC(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: image gc refuses others")
	}
	dir, _ := storeWith(t, "a", "b")
	if out, _, err := rkt(dir, "image", "gc"); err != nil || out != "0 image(s), 0 blob(s), 0 layer(s), 0 unfinished download(s) removed, 0 B freed\n" {
		t.Errorf("within the grace period: %q, %v", out, err)
	}
	out, _, err := rkt(dir, "image", "gc", "--grace-period=0")
	if err != nil || !strings.HasPrefix(out, "removed image \"a\"\nremoved image \"b\"\n2 image(s), 4 blob(s), 0 layer(s), 0 unfinished") {
		t.Errorf("without one: %q, %v", out, err)
	}
	if _, _, err := rkt(dir, "image", "gc", "--grace-period=-1s"); err == nil || err.Error() != "grace period -1s is negative" {
		t.Errorf("a negative one: %v", err)
	}
}

func TestImageCommand(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"image":          "missing command",
		"image nonsense": `command "nonsense" is unknown, see 'rkt help image'`,
		"image list x":   `takes no arguments, found "x"`,
	} {
		if _, _, err := rkt(dir, strings.Fields(args)...); err == nil || err.Error() != want {
			t.Errorf("rkt %s: %v, want %s", args, err, want)
		}
	}
}
