package registrytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PutBlob uploads a blob of a repository.
func (r *Registry) PutBlob(t testing.TB, repository, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	base := "http://" + r.Open(t)
	header := r.send(t, http.MethodPost, base+"/v2/"+repository+"/blobs/uploads/", "", nil, http.StatusAccepted)
	to, err := url.Parse(header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	query := to.Query()
	query.Set("digest", desc.Digest.String())
	to.RawQuery = query.Encode()
	r.send(t, http.MethodPut, base+to.RequestURI(), "application/octet-stream", data, http.StatusCreated)
	return desc
}

// PutManifest uploads a document under a tag or, if that is "", its digest.
func (r *Registry) PutManifest(t testing.TB, repository, tag, mediaType string, body any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if tag == "" {
		tag = desc.Digest.String()
	}
	r.send(t, http.MethodPut, "http://"+r.Open(t)+"/v2/"+repository+"/manifests/"+tag, mediaType, data, http.StatusCreated)
	return desc
}

func (r *Registry) send(t testing.TB, method, to, mediaType string, body []byte, want int) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		t.Fatalf("%s %s: the registry answers %s", method, to, resp.Status)
	}
	return resp.Header
}

// Signer signs as 'cosign sign' of version 2 does.
type Signer struct {
	Public []byte // PEM
	key    *ecdsa.PrivateKey
}

// NewSigner makes a key pair.
func NewSigner(t testing.TB) *Signer {
	t.Helper()
	s := &Signer{key: newKey(t)}
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s.Public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return s
}

// Sign adds a signature of an image to a registry, for the name by which its
// users will ask for it. pad makes the payload larger.
func (s *Signer) Sign(t testing.TB, r *Registry, name string, image digest.Digest, pad int) {
	t.Helper()
	_, repository, _ := strings.Cut(name, "/")
	payload, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"identity": map[string]string{"docker-reference": name},
			"image":    map[string]string{"docker-manifest-digest": image.String()},
			"type":     "cosign container image signature",
		},
		"optional": map[string]string{"pad": strings.Repeat("x", pad)},
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	layer := r.PutBlob(t, repository, "application/vnd.dev.cosign.simplesigning.v1+json", payload)
	layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)}
	r.PutManifest(t, repository, fmt.Sprintf("sha256-%s.sig", image.Encoded()), ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.PutBlob(t, repository, ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{layer},
	})
}
