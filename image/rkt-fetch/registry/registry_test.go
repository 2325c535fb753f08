package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/tests/images"
	"github.com/rkt/rkt/tests/registrytest"
)

// layout writes an image of one random-looking layer into an OCI layout.
func layout(t *testing.T, size int) (dir string, manifest, layer ocispec.Descriptor) {
	t.Helper()
	dir = t.TempDir()
	l, err := images.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, size)
	state := uint32(1)
	for i := range body {
		state = state*1664525 + 1013904223
		body[i] = byte(state >> 24)
	}
	packed, err := images.NewLayer(images.Uncompressed, []images.File{{Name: "data", Body: string(body)}})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err = l.Put("v1", images.Image{Layers: []images.Layer{packed}, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, manifest, ocispec.Descriptor{Digest: digest.FromBytes(packed.Blob), Size: int64(len(packed.Blob))}
}

// configured writes configuration files and loads them.
func configured(t *testing.T, files map[string]string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type setup struct {
	ref      string
	conf     map[string]string
	insecure insecure.Options
	cred     map[string]Credential
	stall    time.Duration
	notes    *[]string
	base     context.Context
}

func open(t *testing.T, s setup) *Source {
	t.Helper()
	ref, err := reference.Parse(s.ref)
	if err != nil {
		t.Fatal(err)
	}
	conf := configured(t, s.conf)
	if s.base == nil {
		s.base = t.Context()
	}
	tr := transport.New(transport.Options{Base: s.base, Config: conf, Insecure: s.insecure, Stall: s.stall})
	t.Cleanup(tr.CloseIdleConnections)
	return New(t.Context(), Options{
		Ref: ref, Config: conf, Insecure: s.insecure, Transport: tr,
		Credentials: s.cred,
		Note: func(line string) {
			t.Log(line)
			if s.notes != nil {
				*s.notes = append(*s.notes, line)
			}
		},
	})
}

// fetchAll reads manifest and layer through a Source.
func fetchAll(ctx context.Context, s *Source, layer ocispec.Descriptor) error {
	doc, err := s.Manifest(ctx, "v1")
	if err != nil {
		return err
	}
	if got := digest.FromBytes(doc.Body); got != doc.Descriptor.Digest {
		return fmt.Errorf("the document has digest %s, its descriptor says %s", got, doc.Descriptor.Digest)
	}
	data, err := s.Document(ctx, layer)
	if err != nil {
		return err
	}
	if got := digest.FromBytes(data); got != layer.Digest {
		return fmt.Errorf("the blob has digest %s, not %s", got, layer.Digest)
	}
	return nil
}

func TestRealRegistry(t *testing.T) {
	dir, manifest, layer := layout(t, 200<<10)
	ca := registrytest.NewCA(t)
	tokens := registrytest.NewTokenServer(t, "alice", "secret")
	user := Credential{User: "alice", Password: "secret", Source: "the test"}
	wrong := Credential{User: "alice", Password: "wrong", Source: "the test"}
	trustCA := func(host string) map[string]string {
		return map[string]string{"registry.d/r.json": fmt.Sprintf(`{"rktKind":"registry","rktVersion":"v1","registries":[%q],"ca":%q}`, host, ca.File)}
	}
	users := map[string]string{"alice": "secret"}
	for _, tc := range []struct {
		name     string
		start    registrytest.Options
		insecure insecure.Options
		cred     Credential
		ca       bool
		wantErr  string
	}{
		{name: "plain", insecure: insecure.HTTP},
		{name: "plain is refused", wantErr: "plain HTTP, which is not allowed without --insecure-options=http"},
		{name: "plain is refused with tls", insecure: insecure.TLS, wantErr: "--insecure-options=http"},
		{name: "TLS", start: registrytest.Options{TLS: ca}, ca: true},
		{name: "TLS though http is allowed", start: registrytest.Options{TLS: ca}, ca: true, insecure: insecure.HTTP},
		{name: "TLS unverified", start: registrytest.Options{TLS: ca}, insecure: insecure.TLS},
		{name: "TLS of a stranger", start: registrytest.Options{TLS: ca}, wantErr: "registry.d (field \"ca\")"},
		{name: "TLS of a stranger though http is allowed", start: registrytest.Options{TLS: ca}, insecure: insecure.HTTP, wantErr: "--insecure-options=tls"},
		{name: "basic", start: registrytest.Options{TLS: ca, Users: users}, ca: true, cred: user},
		{name: "basic over plain HTTP", start: registrytest.Options{Users: users}, insecure: insecure.HTTP, cred: user},
		{name: "basic without credentials", start: registrytest.Options{TLS: ca, Users: users}, ca: true, wantErr: "no credentials are configured"},
		{name: "basic with wrong password", start: registrytest.Options{TLS: ca, Users: users}, ca: true, cred: wrong, wantErr: "does not accept user \"alice\" from the test"},
		{name: "token", start: registrytest.Options{Token: tokens}, insecure: insecure.HTTP, cred: user},
		{name: "token without credentials", start: registrytest.Options{Token: tokens}, insecure: insecure.HTTP, wantErr: "no credentials are configured"},
		{name: "token with wrong password", start: registrytest.Options{Token: tokens}, insecure: insecure.HTTP, cred: wrong, wantErr: "does not accept user"},
		{name: "token server without TLS", start: registrytest.Options{TLS: ca, Token: tokens}, ca: true, cred: user, wantErr: "sends us on to plain HTTP"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.Start(t, tc.start)
			r.Push(t, dir, "v1", "team/app:v1")
			var conf map[string]string
			if tc.ca {
				conf = trustCA(r.Host)
			}
			began := time.Now()
			s := open(t, setup{ref: r.Host + "/team/app:v1", conf: conf, insecure: tc.insecure, cred: map[string]Credential{r.Host: tc.cred}})
			err := fetchAll(t.Context(), s, layer)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %s, what is refused for good must not be tried again", took)
			}
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error is %v, want one with %q", err, tc.wantErr)
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tc.start.Token != nil && tokens.Issued() == 0 {
				t.Error("no token was given out")
			}
			head, err := s.Head(t.Context())
			if err != nil || head != manifest.Digest {
				t.Errorf("HEAD gives %q, %v, want %s", head, err, manifest.Digest)
			}
			if _, err := s.Manifest(t.Context(), "v2"); !NotFound(err) || !strings.Contains(err.Error(), "has no image team/app:v2") {
				t.Errorf("a tag that is not there gives %v", err)
			}
			list, err := s.Referrers(t.Context(), manifest.Digest, "application/vnd.dev.sigstore.bundle.v0.3+json")
			if err != nil || len(list) != 0 {
				t.Errorf("referrers of an image without any: %v, %v", list, err)
			}
		})
	}
}

func TestDocumentsAreWhatWasAskedFor(t *testing.T) {
	dir, manifest, _ := layout(t, 100)
	r := registrytest.Start(t, registrytest.Options{})
	r.Push(t, dir, "v1", "app:v1")
	s := open(t, setup{ref: r.Host + "/app:v1", insecure: insecure.HTTP})
	doc, err := s.Manifest(t.Context(), manifest.Digest.String())
	if err != nil || doc.Descriptor.Digest != manifest.Digest || doc.Descriptor.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("by digest: %+v, %v", doc.Descriptor, err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", manifest.Digest.Encoded()))
	if err != nil || !bytes.Equal(doc.Body, want) {
		t.Errorf("the document is %s, %v, not %s", doc.Body, err, want)
	}
}

func TestUnreachableRegistry(t *testing.T) {
	var notes []string
	s := open(t, setup{ref: "127.0.0.1:1/app:v1", notes: &notes})
	s.backoff = 10 * time.Millisecond
	_, err := s.Manifest(t.Context(), "v1")
	if err == nil || !strings.Contains(err.Error(), "host 127.0.0.1:1 refuses connections") {
		t.Errorf("error is %v", err)
	}
	if len(notes) != attempts-1 {
		t.Errorf("there are %d notes of retries, want %d: %q", len(notes), attempts-1, notes)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	s.backoff = time.Minute
	time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
	began := time.Now()
	if _, err := s.Manifest(ctx, "v1"); !errors.Is(err, stop) || time.Since(began) > time.Second {
		t.Errorf("a cancelled request ends with %v after %s", err, time.Since(began))
	}
}
