package pull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/rkt-fetch/archive"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/tests/images"
	"github.com/rkt/rkt/tests/registrytest"
)

// trusting loads a policy that wants a key for everything of a host.
func trusting(t *testing.T, host, kind string, key []byte) *trust.Policy {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "trust.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "key")
	rule := fmt.Sprintf(`{"rktKind":"trust","rktVersion":"v1","rules":[{"match":[%q],"keys":[{"type":%q,"path":%q}]}]}`, host+"/**", kind, keyFile)
	for path, body := range map[string][]byte{keyFile: key, filepath.Join(dir, "trust.d/rule.json"): []byte(rule)} {
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := trust.LoadPolicy("", dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPolicyComesBeforeContent(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	p := registrytest.NewProxy(t, r)
	a := makeLayer(t, images.Gzip, "a", 100_000)
	dir, desc := put(t, image("amd64", a), image("arm64", a))
	r.Push(t, dir, "v1", "team/app:v1")
	name := p.Host + "/team/app:v1"
	signer, stranger := registrytest.NewSigner(t), registrytest.NewSigner(t)
	c := newClient(t)
	c.policy = trusting(t, p.Host, "cosign", signer.Public)
	refused := func(want string) {
		t.Helper()
		p.Take()
		_, err := c.fetch(name, Update)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error is %v, want %q", err, want)
		}
		asked, _ := p.Take()
		for _, request := range asked {
			if strings.Contains(request, a.DiffID.Encoded()) || strings.Contains(request, digest.FromBytes(a.Blob).Encoded()) {
				t.Errorf("content of an image that is not trusted was asked for: %s", request)
			}
		}
		if left := c.left(); len(left) != 0 {
			t.Errorf("of an image that is not trusted %q is in the store", left)
		}
	}
	refused("is not trusted")
	stranger.Sign(t, r, p.Host+"/team/app", desc.Digest, 0)
	refused("is not trusted")
	signer.Sign(t, r, p.Host+"/team/app", desc.Digest, 300<<10)
	refused("(left out of its signatures: signature 1 under the tag sha256-" + desc.Digest.Encoded() + ".sig is larger than 262144 bytes)")
	signer.Sign(t, r, p.Host+"/team/other", desc.Digest, 0) // pushed to the other, too
	refused("is not trusted")
	signer.Sign(t, r, p.Host+"/team/app", desc.Digest, 0)
	img := c.must(name, New, true)
	if img.Evidence == "" {
		t.Error("no evidence is kept")
	}
	p.Take()
	c.must(name, Update, false)
	if asked, _ := p.Take(); len(asked) != 1 {
		t.Errorf("a trusted image without change was asked for by %q", asked)
	}
	c.policy = trusting(t, p.Host, "cosign", stranger.Public)
	for _, when := range []Policy{New, Never, Update} {
		if _, err := c.fetch(name, when); err == nil || !strings.Contains(err.Error(), "is not trusted") {
			t.Errorf("after the key was taken out of the policy, %s gives %v", when, err)
		}
	}
}

// TestSignedLater fetches without the policy, signs, and fetches again.
func TestSignedLater(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	p := registrytest.NewProxy(t, r)
	dir, desc := put(t, image("amd64", makeLayer(t, images.Gzip, "a", 100_000)))
	r.Push(t, dir, "v1", "app:v1")
	name := p.Host + "/app:v1"
	c := newClient(t)
	if img := c.must(name, New, true); img.Evidence != "" {
		t.Errorf("evidence of an image without signature: %s", img.Evidence)
	}
	signer := registrytest.NewSigner(t)
	c.policy = trusting(t, p.Host, "cosign", signer.Public)
	if _, err := c.fetch(name, Update); err == nil || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("without signature: %v", err)
	}
	signer.Sign(t, r, p.Host+"/app", desc.Digest, 0)
	p.Take()
	if img := c.must(name, Update, false); img.Evidence == "" {
		t.Error("the new signature is not kept")
	}
	if asked, blobs := p.Take(); blobs > 10_000 {
		t.Errorf("for a signature %d bytes were read: %q", blobs, asked)
	}
	c.must(name, Never, false)
}

// TestHostileContent serves an image whose parts are not what they should be.
func TestHostileContent(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	a, b := makeLayer(t, images.Gzip, "a", 100_000), makeLayer(t, images.Gzip, "b", 100_000)
	dir, _ := put(t, image("amd64", a, b))
	r.Push(t, dir, "v1", "app:v1")
	wrong := b
	wrong.DiffID = a.DiffID
	odd, _ := put(t, image("amd64", wrong))
	r.Push(t, odd, "v1", "wrong-diffid:v1")
	isBlob := func(r *http.Request, l images.Layer) bool {
		return strings.HasSuffix(r.URL.Path, digest.FromBytes(l.Blob).String())
	}
	for _, tc := range []struct {
		name, image string
		change      func(w http.ResponseWriter, r *http.Request) bool
		wantErr     string
		partial     bool // something may be kept for later
	}{
		{name: "altered layer", image: "app:v1", change: func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r, a) {
				return false
			}
			altered := append([]byte(nil), a.Blob...)
			altered[len(altered)/2] ^= 1
			_, _ = w.Write(altered)
			return true
		}, wantErr: "gives something else: blob " + digest.FromBytes(a.Blob).String() + " does not match its descriptor", partial: true},
		{name: "layer is gone", image: "app:v1", change: func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r, b) {
				http.NotFound(w, r)
				return true
			}
			return false
		}, wantErr: "has no blob " + digest.FromBytes(b.Blob).String(), partial: true},
		{name: "diffID of another layer", image: "wrong-diffid:v1", wantErr: "the layer is not the promised one", partial: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := registrytest.NewProxy(t, r)
			p.Change = tc.change
			c := newClient(t)
			_, err := c.fetch(p.Host+"/"+tc.image, New)
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, want %q", err, tc.wantErr)
			}
			if all, err := c.store().Images(); err != nil || len(all) != 0 {
				t.Errorf("the store names %v, %v", all, err)
			}
			for _, entry := range c.left() {
				if strings.HasPrefix(entry, "layers/") {
					t.Errorf("%s is left over", entry)
				}
			}
		})
	}
}

// TestDamagedPartial continues a blob whose beginning is not what it should be.
func TestDamagedPartial(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	a := makeLayer(t, images.Gzip, "a", 100_000)
	dir, _ := put(t, image("amd64", a))
	r.Push(t, dir, "v1", "app:v1")
	c := newClient(t)
	c.store()
	partial := filepath.Join(c.dir, "partial", "sha256-"+digest.FromBytes(a.Blob).Encoded())
	if err := os.WriteFile(partial, make([]byte, 50_000), 0o640); err != nil {
		t.Fatal(err)
	}
	img := c.must(r.Host+"/app:v1", New, true)
	if c.read(img, "a") == "" {
		t.Error("the image is not whole")
	}
	if lines := c.notes.all(); !strings.Contains(lines, "it is fetched again from its start (50000 bytes of it were kept from earlier)") {
		t.Errorf("notes are %q", lines)
	}
}

// TestCancelKeepsWhatWasLoaded stops in the middle of a layer and goes on.
func TestCancelKeepsWhatWasLoaded(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	p := registrytest.NewProxy(t, r)
	a := makeLayer(t, images.Gzip, "a", 4<<20)
	dir, _ := put(t, image("amd64", a))
	r.Push(t, dir, "v1", "app:v1")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	p.Rate = 1 << 20
	steps := 0
	p.Pause = func() {
		if steps++; steps == 3 {
			cancel(stop)
		}
		time.Sleep(20 * time.Millisecond)
	}
	c := newClient(t)
	if _, err := Fetch(ctx, c.options(p.Host+"/app:v1", New)); !errors.Is(err, stop) {
		t.Fatalf("it ended with %v", err)
	}
	p.Take()
	img := c.must(p.Host+"/app:v1", New, true)
	if _, blobs := p.Take(); blobs > int64(len(a.Blob))-1<<20 {
		t.Errorf("%d bytes were read again of %d", blobs, len(a.Blob))
	}
	if c.read(img, "a") == "" {
		t.Error("the image is not whole")
	}
}

func TestArchives(t *testing.T) {
	a := makeLayer(t, images.Gzip, "a", 100_000)
	dir, desc := put(t, image("amd64", a))
	c := newClient(t)
	name := "oci:" + dir + ":v1"
	if img := c.must(name, New, true); img.Manifest.Digest != desc.Digest || c.read(img, "a") == "" {
		t.Errorf("the store has %s, want %s", img.Manifest.Digest, desc.Digest)
	}
	c.must(name, New, false)
	c.must(name, Never, false)
	l, err := images.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Put("v1", image("amd64", a, makeLayer(t, images.Zstd, "b", 1000))); err != nil {
		t.Fatal(err)
	}
	if img := c.must(name, New, true); c.read(img, "b") == "" {
		t.Error("a changed layout was not read again")
	}
	o := c.options(name, New)
	o.Name = "own.example/name"
	if r, err := Fetch(t.Context(), o); err != nil || r.Name != "own.example/name:latest" {
		t.Errorf("under another name: %+v, %v", r, err)
	}
	o.Name = "own.example/Name"
	if r, err := Fetch(t.Context(), o); err == nil || !strings.Contains(err.Error(), "own.example/Name") {
		t.Errorf("under a name that is none: %+v, %v", r, err)
	}
	// It is judged by the name that it is kept under, as at every start.
	o.Name = "reg.example/name"
	o.Trust = trusting(t, "reg.example", "cosign", registrytest.NewSigner(t).Public)
	if _, err := Fetch(t.Context(), o); err == nil || !strings.Contains(err.Error(), `"reg.example/name:latest" is not trusted`) {
		t.Errorf("under a name that needs a signature: %v", err)
	}
	c.policy = trusting(t, "reg.example", "cosign", registrytest.NewSigner(t).Public)
	if _, err := c.fetch(name, New); err == nil || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("without a rule for it: %v", err)
	}
}

// TestSignedArchive has gpg sign an archive, as users do.
func TestSignedArchive(t *testing.T) {
	for _, program := range []string{"gpg", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	c := newClient(t)
	home := t.TempDir()
	run := func(program string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", program, args, err)
		}
		return out
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		_ = cmd.Run()
	})
	run("gpg", "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase=", "--quick-gen-key", "test <test@example.org>", "rsa2048", "sign", "never")
	key := run("gpg", "--batch", "--armor", "--export")
	dir, _ := put(t, image("amd64", makeLayer(t, images.Gzip, "a", 100_000)))
	files := t.TempDir()
	file := filepath.Join(files, "image.tar")
	run("tar", "-C", dir, "-cf", file, ".")
	run("gpg", "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase=", "--armor", "--detach-sign", file)
	signature, err := os.ReadFile(file + ".asc")
	if err != nil {
		t.Fatal(err)
	}
	c.policy = trusting(t, "oci-archive:"+files, "openpgp", key)
	fetch := func(signature []byte) (Result, error) {
		o := c.options("oci-archive:"+file+":v1", Update)
		o.Open = func(ctx context.Context) (Origin, error) {
			s, err := archive.Open(ctx, o.Ref, archive.Options{Temp: filepath.Join(c.dir, "partial"), Signature: signature})
			if err != nil {
				return nil, err
			}
			return Archive{s}, nil
		}
		return Fetch(t.Context(), o)
	}
	if _, err := fetch(nil); err == nil || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("without its signature: %v", err)
	}
	if _, err := fetch(signature[:len(signature)/2]); err == nil {
		t.Error("with half of its signature it was accepted")
	}
	r, err := fetch(signature)
	if err != nil {
		t.Fatal(err)
	}
	if img, err := c.store().Get(r.Name); err != nil || img.Evidence == "" {
		t.Errorf("the store has %+v, %v", img, err)
	}
	if _, err := c.fetch(r.Name, Never); err != nil {
		t.Errorf("offline, after it was fetched: %v", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(signature); err == nil || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("with one more byte than was signed: %v", err)
	}
}
