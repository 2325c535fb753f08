package evidence

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/registry"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/tests/images"
	"github.com/rkt/rkt/tests/registrytest"
)

func repository(t *testing.T, host, path string) *registry.Source {
	t.Helper()
	ref, err := reference.Parse(host + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	conf := &config.Config{}
	tr := transport.New(transport.Options{Base: t.Context(), Config: conf, Insecure: insecure.HTTP, Stall: 5 * time.Second})
	t.Cleanup(tr.CloseIdleConnections)
	return registry.New(t.Context(), registry.Options{Ref: ref, Config: conf, Insecure: insecure.HTTP, Transport: tr, Note: func(line string) { t.Log(line) }})
}

const (
	cosignType = "application/vnd.dev.cosign.simplesigning.v1+json"
	v03        = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

// attach puts layers under cosign's tag of a subject.
func attach(t *testing.T, r *registrytest.Registry, path string, subject digest.Digest, layers ...ocispec.Descriptor) {
	t.Helper()
	r.PutManifest(t, path, "sha256-"+subject.Encoded()+".sig", ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.PutBlob(t, path, ocispec.MediaTypeImageConfig, []byte("{}")), Layers: layers,
	})
}

// refer makes a bundle refer to a subject, by the tag that stands in for the
// referrers API.
func refer(t *testing.T, r *registrytest.Registry, path string, subject digest.Digest, bundles ...[]byte) {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, bundle := range bundles {
		config := r.PutBlob(t, path, ocispec.MediaTypeEmptyJSON, []byte("{}"))
		desc := r.PutManifest(t, path, "", ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: v03,
			Config: config, Layers: []ocispec.Descriptor{r.PutBlob(t, path, v03, bundle)},
		})
		desc.ArtifactType = v03
		index.Manifests = append(index.Manifests, desc)
	}
	other := index.Manifests[0]
	other.ArtifactType = "application/spdx+json"
	index.Manifests = append(index.Manifests, other)
	r.PutManifest(t, path, "sha256-"+subject.Encoded(), ocispec.MediaTypeImageIndex, index)
}

func describe(f Found) string {
	var lines []string
	for _, item := range f.Items {
		lines = append(lines, fmt.Sprintf("%s %s payload=%d signature=%.20s", item.Format, item.Subject[7:11], len(item.Payload), item.Signature))
	}
	return strings.Join(append(lines, f.Problems...), "\n")
}

func TestCollectFromRegistry(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	manifest, index := digest.FromString("manifest"), digest.FromString("index")
	sign := func(path, payload, signature string) ocispec.Descriptor {
		desc := r.PutBlob(t, path, cosignType, []byte(payload))
		desc.Annotations = map[string]string{cosignSignature: signature}
		return desc
	}
	large := strings.Repeat("x", maxItem+1)
	for _, tc := range []struct {
		name     string
		setup    func(path string)
		want     []string
		problems []string
	}{
		{name: "nothing", setup: func(string) {}},
		{name: "both kinds of both digests", setup: func(path string) {
			attach(t, r, path, manifest, sign(path, "pay", "one"), sign(path, "load", "two"))
			attach(t, r, path, index, sign(path, "third", "three"))
			refer(t, r, path, manifest, []byte(`{"bundle":1}`))
		}, want: []string{
			"cosign-simple " + manifest.String()[7:11] + " payload=3 signature=one",
			"cosign-simple " + manifest.String()[7:11] + " payload=4 signature=two",
			"sigstore-bundle " + manifest.String()[7:11] + " payload=0 signature={\"bundle\":1}",
			"cosign-simple " + index.String()[7:11] + " payload=5 signature=three",
		}},
		{name: "large payload beside a good one", setup: func(path string) {
			attach(t, r, path, manifest, sign(path, large, "one"), sign(path, "pay", "two"))
		}, want: []string{"signature=two"}, problems: []string{"signature 1 under the tag sha256-" + manifest.Encoded() + ".sig is larger than 262144 bytes"}},
		{name: "large annotation", setup: func(path string) {
			attach(t, r, path, manifest, sign(path, "pay", large))
		}, problems: []string{"signature 1 under the tag"}},
		{name: "large bundle beside a good one", setup: func(path string) {
			refer(t, r, path, manifest, []byte(large), []byte("{}"))
		}, want: []string{"signature={}"}, problems: []string{"is larger than 262144 bytes"}},
		{name: "too many", setup: func(path string) {
			var layers []ocispec.Descriptor
			for i := range trust.MaxItems + 5 {
				layers = append(layers, sign(path, fmt.Sprint("payload ", i), "s"))
			}
			attach(t, r, path, manifest, layers...)
		}, want: make([]string, trust.MaxItems), problems: []string{"more than 64 are not kept"}},
		{name: "too much altogether", setup: func(path string) {
			var layers []ocispec.Descriptor
			for i := range 10 {
				layers = append(layers, sign(path, fmt.Sprint(i)+strings.Repeat("x", maxItem-10), "s"))
			}
			attach(t, r, path, manifest, layers...)
		}, want: make([]string, 8), problems: []string{"more signatures than the 64, or 2097152 bytes"}},
		{name: "other things in between", setup: func(path string) {
			attach(t, r, path, manifest, r.PutBlob(t, path, "text/plain", []byte("hello")), sign(path, "pay", "one"))
		}, want: []string{"signature=one"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := "app/" + strings.ReplaceAll(tc.name, " ", "-")
			tc.setup(path)
			found, err := Collect(t.Context(), repository(t, r.Host, path), nil, manifest, index)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(found)
			if len(found.Items) != len(tc.want) || len(found.Problems) != len(tc.problems) {
				t.Fatalf("found is\n%s\nwant %q and %q", got, tc.want, tc.problems)
			}
			for _, want := range append(tc.want, tc.problems...) {
				if !strings.Contains(got, want) {
					t.Errorf("found is\n%s\nwant %q", got, want)
				}
			}
			if _, err := trust.Marshal(found.Items); err != nil {
				t.Errorf("what was found cannot be kept: %v", err)
			}
		})
	}
}

// TestFailuresAreReported holds that what cannot be read is not taken for
// something that is not there.
func TestFailuresAreReported(t *testing.T) {
	subject := digest.FromString("manifest")
	for _, tc := range []struct {
		name, want string
		handler    http.HandlerFunc
	}{
		{"refused", "cannot be read: registry", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }},
		{"not a manifest", "cannot be read: registry", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			fmt.Fprint(w, "garbage")
		}},
		{"altered payload", "was altered", func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				fmt.Fprint(w, "pal")
				return
			}
			if !strings.HasSuffix(r.URL.Path, ".sig") {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			fmt.Fprintf(w, `{"schemaVersion":2,"layers":[{"mediaType":%q,"digest":%q,"size":3}]}`, cosignType, digest.FromString("pay"))
		}},
		{"truncated payload", "says it has 2 bytes, its manifest says 3", func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				fmt.Fprint(w, "pa")
				return
			}
			if !strings.HasSuffix(r.URL.Path, ".sig") {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			fmt.Fprintf(w, `{"schemaVersion":2,"layers":[{"mediaType":%q,"digest":%q,"size":3}]}`, cosignType, digest.FromString("pay"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := httptest.NewServer(tc.handler)
			defer server.Close()
			found, err := Collect(t.Context(), repository(t, strings.TrimPrefix(server.URL, "http://"), "app"), nil, subject)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(found); len(found.Items) != 0 || !strings.Contains(got, tc.want) || strings.Count(got, "\n") != len(found.Problems)-1 {
				t.Errorf("found is %q, want %q", got, tc.want)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Collect(ctx, repository(t, "127.0.0.1:1", "app"), nil, subject); err == nil {
			t.Error("a cancelled collection ends without error")
		}
	})
}

func TestLookaside(t *testing.T) {
	subject := digest.FromString("manifest")
	place := "team/app@sha256=" + subject.Encoded()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, place), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, body []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, place, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := registrytest.NewCA(t)
	server := httptest.NewUnstartedServer(http.FileServer(http.Dir(dir)))
	server.TLS = ca.ServerConfig(t, "127.0.0.1")
	server.StartTLS()
	defer server.Close()
	confDir := t.TempDir()
	if err := os.Mkdir(filepath.Join(confDir, "registry.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"rktKind":"registry","rktVersion":"v1","registries":[%q],"ca":%q}`, strings.TrimPrefix(server.URL, "https://"), ca.File)
	if err := os.WriteFile(filepath.Join(confDir, "registry.d/r.json"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Load(confDir)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: transport.New(transport.Options{Base: t.Context(), Config: conf})}
	collect := func(base string) Found {
		l := &Lookaside{Base: base, Path: "team/app", Client: client}
		return l.collect(t.Context(), subject)
	}
	both := func(t *testing.T, items int, problem string) {
		t.Helper()
		for _, base := range []string{"file://" + dir, server.URL} {
			found := collect(base)
			if len(found.Items) != items || (problem == "") != (len(found.Problems) == 0) || !strings.Contains(describe(found), problem) {
				t.Errorf("from %s: %s, want %d signatures and %q", base, describe(found), items, problem)
			}
		}
	}
	both(t, 0, "")
	write("signature-1", []byte("one"))
	write("signature-2", []byte("two"))
	write("signature-4", []byte("four")) // behind a gap
	both(t, 2, "")
	write("signature-2", bytes.Repeat([]byte("x"), maxItem+1))
	both(t, 1, "signature-2 is larger than 262144 bytes")
	for n := range maxLookaside + 5 {
		write(fmt.Sprintf("signature-%d", n+1), []byte("s"))
	}
	both(t, maxLookaside, "more than 32 are not read")
	if found := collect(strings.Replace(server.URL, "https:", "http:", 1)); !strings.Contains(describe(found), "plain HTTP") {
		t.Errorf("over plain HTTP: %s", describe(found))
	}
	if found := collect("https://127.0.0.1:1"); !strings.Contains(describe(found), "refuses connections") {
		t.Errorf("nobody there: %s", describe(found))
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	subject := digest.FromString("manifest")
	for name, tc := range map[string]struct {
		body   string
		format trust.Format
	}{
		"bundle":  {" \n{\"mediaType\":1}", trust.SigstoreBundle},
		"openpgp": {"\x90\x0d\x03", trust.OpenPGPSimple},
		"empty":   {"", trust.OpenPGPSimple},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(tc.body), 0o600); err != nil {
			t.Fatal(err)
		}
		if item, err := File(path, subject); err != nil || item.Format != tc.format || item.Subject != subject || string(item.Signature) != tc.body {
			t.Errorf("%s is read as %+v, %v", name, item, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxItem+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"missing": "does not exist", "large": "larger than", ".": "not a regular file"} {
		if _, err := File(filepath.Join(dir, name), subject); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want %q", name, err, want)
		}
	}
}

// TestRealCosign collects what both generations of cosign leave in a registry.
func TestRealCosign(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	dir := t.TempDir()
	l, err := images.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := images.NewLayer(images.Gzip, []images.File{{Name: "a", Body: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := l.Put("v1", images.Image{Layers: []images.Layer{layer}, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Push(t, dir, "v1", "app:v1")
	run := func(program string, args ...string) {
		t.Helper()
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "COSIGN_PASSWORD=pw", "HOME="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", program, args, err, out)
		}
	}
	image := r.Host + "/app@" + desc.Digest.String()
	run("cosign3", "generate-key-pair")
	run("cosign3", "signing-config", "create", "--out", "sc.json")
	run("cosign3", "sign", "-y", "--key", "cosign.key", "--signing-config", "sc.json", "--allow-http-registry", image)
	run("cosign2", "sign", "-y", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", image)
	found, err := Collect(t.Context(), repository(t, r.Host, "app"), nil, desc.Digest)
	if err != nil || len(found.Problems) > 0 || len(found.Items) != 2 || found.Items[0].Format != trust.CosignSimple || found.Items[1].Format != trust.SigstoreBundle {
		t.Errorf("found is %s, %v", describe(found), err)
	}
}
