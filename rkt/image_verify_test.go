package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/store"
)

const signedImage = "127.0.0.1:5000/team/app:1"

// storeSigned puts the image that the recorded signatures are of into a store,
// with cosign's signature of it, and returns the store's directory and the
// digest of its layer.
func storeSigned(t *testing.T) (dir string, layer digest.Digest) {
	t.Helper()
	dir = t.TempDir()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	golden := func(name string) []byte {
		data, err := os.ReadFile(goldenKeys + name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		desc, err := s.PutBlob(mediaType, data)
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	archive := tar.NewReader(bytes.NewReader(golden("archive.tar")))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(header.Name, "blobs/sha256/") && header.Size > 0 {
			data, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			put("application/octet-stream", data)
		}
	}
	manifest := put(ocispec.MediaTypeImageManifest, golden("manifest.json"))
	evidence, err := trust.Marshal([]trust.Evidence{{
		Format: trust.CosignSimple, Subject: manifest.Digest,
		Payload: golden("cosign2-default.payload"), Signature: golden("cosign2-default.sig"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	kept := put(trust.MediaType, evidence)
	if err := s.Put(store.Image{Name: signedImage, Manifest: manifest, Evidence: kept.Digest}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Manifest(store.Image{Manifest: manifest})
	if err != nil {
		t.Fatal(err)
	}
	return dir, m.Layers[0].Digest
}

func rktVerify(t *testing.T, dir, config string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot(nil)
	root.SetArgs(append([]string{"--dir=" + dir, "--local-config=" + config, "--system-config=", "image", "verify"}, args...))
	root.SetOut(&out)
	root.SetErr(io.Discard)
	err := root.Execute()
	return out.String(), err
}

func TestImageVerify(t *testing.T) {
	dir, layer := storeSigned(t)
	config := t.TempDir()
	expect := func(out string, err error, wantOut, wantErr string) {
		t.Helper()
		if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("error %v, want one sentence with %q", err, wantErr)
		}
		if !strings.Contains(out, wantOut) {
			t.Errorf("output has no %q:\n%s", wantOut, out)
		}
	}
	out, err := rktVerify(t, dir, config, signedImage)
	expect(out, err, "no rule of the trust policy matches it", "trust the key of who made it with 'rkt trust --prefix=127.0.0.1:5000/team/app KEYFILE'")

	if _, _, err := rktTrust(t, config, "--prefix=127.0.0.1:5000/team", "--skip-fingerprint-review", goldenKeys+"cosign-default.pub"); err != nil {
		t.Fatal(err)
	}
	out, err = rktVerify(t, dir, config, signedImage)
	expect(out, err, "  trusted: signed by sha256:", "")
	expect(out, err, "signature 1 (cosign-simple) is good", "")
	expect(out, err, "  intact: 4 blobs, ", "")
	id := digest.FromBytes(mustRead(t, goldenKeys+"manifest.json")).String()
	out, err = rktVerify(t, dir, config, "--format=json", signedImage, id[:20])
	expect(out, err, `"trusted":true`, "")
	var views []verifyView
	if err := json.Unmarshal([]byte(out), &views); err != nil || len(views) != 2 || len(views[1].Blobs) != 4 || !views[1].Intact || len(views[1].Keys) != 1 || len(views[1].Steps) == 0 {
		t.Errorf("JSON is %+v, %v", views, err)
	}

	blob := filepath.Join(dir, "images", "blobs", "sha256", layer.Encoded())
	data := mustRead(t, blob)
	data[len(data)-1] ^= 1
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = rktVerify(t, dir, config, signedImage)
	expect(out, err, "damaged layer: ", "fetch it again with 'rkt fetch "+signedImage+"'")
	out, err = rktVerify(t, dir, config, signedImage, signedImage)
	expect(out, err, layer.String(), "2 of 2 images are damaged or not trusted")
	_, err = rktVerify(t, dir, config, "missing")
	expect("", err, "", "missing")
	_, err = rktVerify(t, dir, config)
	expect("", err, "", "requires at least 1 arg")
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
