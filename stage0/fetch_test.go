package stage0

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/fetcher"
	"github.com/rkt/rkt/store"
)

// fetchScript puts a program in the place of rkt-fetch that writes down how it is
// called, and answers with a line or fails with a code. What the real one does
// is tested in its own package; here it is when and how it is called.
func fetchScript(t *testing.T, answer string, code int) (calls func() []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "calls")
	script := fmt.Sprintf("#!/bin/sh\nfor a; do case $a in --pull-policy=*|--signature=*|--quiet) o=\"$o $a\";; esac; done\necho \"$1 $a$o\" >>%s\necho '%s'\nexit %d\n", log, answer, code)
	program := filepath.Join(filepath.Dir(self), "rkt-fetch")
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(program) })
	return func() []string {
		data, _ := os.ReadFile(log)
		_ = os.Remove(log)
		return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
	}
}

const someDigest = "sha256:4e388ab32b10dc8dbc7e28144f552830adc74787c1e2c0824032078a79f227fb"

func TestFetchIsCalled(t *testing.T) {
	c := world(t)
	accept(t, c, "reg.example/web")
	img := addImage(t, c, web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	addImage(t, c, "reg.example/unsigned:1", ocispec.ImageConfig{Cmd: []string{"/x"}})
	unsigned := "reg.example/unsigned:1"
	calls := fetchScript(t, `{"name":"`+web+`","digest":"`+someDigest+`"}`, 0)
	app := func(image string) []App { return []App{{Image: image}} }
	tests := []struct {
		name  string
		o     Options
		calls string
		err   string
	}{
		{"in the store", Options{Apps: app(web)}, "", ""},
		{"update", Options{Pull: PullUpdate, Apps: app(web)}, "fetch " + web + " --pull-policy=update", ""},
		{"another name", Options{Apps: app("reg.example/alias"), Quiet: true}, "fetch reg.example/alias --pull-policy=new --quiet", ""},
		{"twice the same", Options{Apps: []App{{Image: "reg.example/alias", Name: "a"}, {Image: "reg.example/alias", Name: "b"}}}, "fetch reg.example/alias --pull-policy=new", ""},
		{"a local image is looked at each time", Options{Apps: app("./x.tar")}, "fetch ./x.tar --pull-policy=new", ""},
		{"never", Options{Pull: PullNever, Apps: app("./x.tar")}, "", "pull policy is never"},
		{"an ID is never fetched", Options{Pull: PullUpdate, Apps: app(img.Manifest.Digest.String())}, "", ""},
		{"refused", Options{Apps: app(unsigned)}, "", "is not trusted"},
		{"refused, but there is a signature", Options{Apps: []App{{Image: unsigned, Signature: "x.sig"}}}, "fetch " + unsigned + " --pull-policy=update --signature=x.sig", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Prepare(context.Background(), c, test.o)
			refuses(t, "Prepare", err, test.err)
			if got := strings.Join(calls(), "|"); got != test.calls {
				t.Errorf("called %q, want %q", got, test.calls)
			}
		})
	}
}

// TestCorruptIsFetched damages what the store has. One fetch is tried, and if
// that does not help, what is damaged is named.
func TestCorruptIsFetched(t *testing.T) {
	c := world(t)
	accept(t, c, "reg.example/web")
	img := addImage(t, c, web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	calls := fetchScript(t, `{"name":"`+web+`","digest":"`+someDigest+`"}`, 0)
	blob := filepath.Join(c.Dir, "images/blobs/sha256", img.Manifest.Digest.Encoded())
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, []byte(strings.Repeat("x", int(img.Manifest.Size))), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Prepare(context.Background(), c, Options{Apps: []App{{Image: web}}})
	var corrupt *store.CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), img.Manifest.Digest.String()) || !strings.Contains(err.Error(), "'rkt fetch "+web+"'") {
		t.Errorf("Prepare = %v, want the corrupt blob", err)
	}
	if got := calls(); len(got) != 1 {
		t.Errorf("called %q, want once", got)
	}
	if n := podsLeft(t, c); n != 0 {
		t.Errorf("%d pods are left", n)
	}
}

func TestFetchFails(t *testing.T) {
	c := world(t)
	o := Options{Apps: []App{{Image: web}}}
	fetchScript(t, "", 254)
	if _, err := Prepare(context.Background(), c, o); !errors.Is(err, fetcher.ErrSaid) {
		t.Errorf("Prepare = %v, want ErrSaid", err)
	}
	fetchScript(t, "", 0)
	_, err := Prepare(context.Background(), c, o)
	refuses(t, "Prepare", err, "another version")
	calls := fetchScript(t, `{"name":"reg.example/other:1","digest":"`+someDigest+`"}`, 0)
	_, err = Prepare(context.Background(), c, o)
	refuses(t, "Prepare", err, "is not in the store")
	if got := calls(); len(got) != 1 {
		t.Errorf("called %q, want once", got)
	}
}
