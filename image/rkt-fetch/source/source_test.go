package source

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const hex64 = "4e388ab32b10dc8dbc7e28144f552830adc74787c1e2c0824032078a79f227fb"

func desc(mediaType string, size int) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":%d}`, mediaType, hex64, size)
}

func manifest(config string, layers ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, config, strings.Join(layers, ","))
}

func TestManifest(t *testing.T) {
	config, layer := desc(ocispec.MediaTypeImageConfig, 10), desc(ocispec.MediaTypeImageLayerGzip, 10)
	good := manifest(config, layer)
	many := make([]string, maxLayers+1)
	for i := range many {
		many[i] = layer
	}
	for _, tc := range []struct{ name, mediaType, body, wantErr string }{
		{"OCI", ocispec.MediaTypeImageManifest, good, ""},
		{"Docker", DockerManifest, manifest(desc(DockerConfig, 10), desc("application/vnd.docker.image.rootfs.diff.tar.gzip", 5)), ""},
		{"foreign layer", DockerManifest, manifest(desc(DockerConfig, 10), desc("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 5)), ""},
		{"no layers", ocispec.MediaTypeImageManifest, manifest(config), ""},
		{"not JSON", ocispec.MediaTypeImageManifest, "<html>", "not JSON"},
		{"an array", ocispec.MediaTypeImageManifest, "[]", "not JSON of the right form"},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[]}`, "Docker schema 1"},
		{"schema 1 as schema 2", DockerManifest, `{"schemaVersion":1,"fsLayers":[]}`, "Docker schema 1"},
		{"no schema", ocispec.MediaTypeImageManifest, `{"config":` + config + `}`, "schema version is 0"},
		{"both forms", ocispec.MediaTypeImageManifest, strings.Replace(good, `"config"`, `"manifests":[],"config"`, 1), "as an index and as a manifest"},
		{"index as manifest", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"manifests":[]}`, "is not that"},
		{"two media types", ocispec.MediaTypeImageManifest, strings.Replace(good, `"config"`, `"mediaType":"application/x","config"`, 1), "calls itself"},
		{"other media type", "application/json", good, "not one of an image"},
		{"artifact", ocispec.MediaTypeImageManifest, manifest(desc("application/vnd.cncf.helm.config.v1+json", 5), layer), "helm"},
		{"layer of another type", ocispec.MediaTypeImageManifest, manifest(config, desc("application/wasm", 5)), `layer 1: its media type "application/wasm"`},
		{"encrypted layer", ocispec.MediaTypeImageManifest, manifest(config, layer, desc(ocispec.MediaTypeImageLayerGzip+"+encrypted", 5)), "layer 2"},
		{"negative size", ocispec.MediaTypeImageManifest, manifest(config, desc(ocispec.MediaTypeImageLayer, -1)), "size of -1"},
		{"enormous size", ocispec.MediaTypeImageManifest, manifest(config, desc(ocispec.MediaTypeImageLayer, maxBlob+1)), "layer 1: its size"},
		{"large configuration", ocispec.MediaTypeImageManifest, manifest(desc(ocispec.MediaTypeImageConfig, MaxDocument+1), layer), "configuration: its size"},
		{"digest with path", ocispec.MediaTypeImageManifest, strings.Replace(good, hex64, "../../etc/passwd", 1), "not a sha256"},
		{"weak digest", ocispec.MediaTypeImageManifest, strings.Replace(good, "sha256:"+hex64, "md5:d41d8cd98f00b204e9800998ecf8427e", 1), "not a sha256"},
		{"two sizes of a blob", ocispec.MediaTypeImageManifest, manifest(config, layer, desc(ocispec.MediaTypeImageLayerGzip, 11)), "two sizes"},
		{"too many layers", ocispec.MediaTypeImageManifest, manifest(config, many...), "more than the 500"},
		{"too large", ocispec.MediaTypeImageManifest, good + strings.Repeat(" ", MaxDocument), "more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewDocument(tc.mediaType, []byte(tc.body)).Manifest()
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("error is %v, want %q", err, tc.wantErr)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	entry := func(platform string) string {
		if platform == "" {
			return desc(ocispec.MediaTypeImageManifest, 10)
		}
		p := strings.Split(platform+"//", "/")
		return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":10,"platform":{"os":%q,"architecture":%q,"variant":%q}}`,
			ocispec.MediaTypeImageManifest, hex64, p[0], p[1], p[2])
	}
	for _, tc := range []struct {
		name, wanted string
		entries      []string
		want         string
		wantErr      string
	}{
		{"exact", "linux/arm64", []string{"linux/amd64", "linux/arm64"}, "linux/arm64", ""},
		{"variant of an older CPU", "linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm64"}, "linux/arm/v6", ""},
		{"not of a newer CPU", "linux/arm/v6", []string{"linux/arm/v7"}, "", "only for linux/arm/v7"},
		{"default variant", "linux/arm64", []string{"linux/arm64/v8"}, "linux/arm64/v8", ""},
		{"none", "linux/s390x", []string{"linux/amd64", "windows/amd64", "unknown/unknown"}, "", "nothing for linux/s390x, only for linux/amd64, windows/amd64; choose"},
		{"attestation is no image", "linux/amd64", []string{"unknown/unknown"}, "", "nothing for linux/amd64"},
		{"one without platform", "linux/amd64", []string{""}, "", ""},
		{"two without platform", "linux/amd64", []string{"", ""}, "", "nothing for linux/amd64"},
		{"empty", "linux/amd64", nil, "", "nothing for linux/amd64"},
		{"hostile text", "linux/amd64", []string{"li\x1b[31mnux/x\n"}, "", `li\x1b[31mnux/x\n`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var entries []string
			for _, e := range tc.entries {
				entries = append(entries, entry(e))
			}
			index, err := NewDocument(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`)).Index()
			if strings.Contains(tc.name, "hostile") { // \x is no JSON
				index, err = ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Platform: &ocispec.Platform{OS: "li\x1b[31mnux", Architecture: "x\n"}}}}, nil
			}
			if err != nil {
				t.Fatal(err)
			}
			wanted, err := ParsePlatform(tc.wanted)
			if err != nil {
				t.Fatal(err)
			}
			got, err := wanted.Choose(index)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error is %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tc.want != "" && describe(got.Platform) != tc.want {
				t.Errorf("chosen is %s, want %s", describe(got.Platform), tc.want)
			}
		})
	}
}

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]string{"linux/amd64": "linux/amd64", "linux/aarch64": "linux/arm64", "linux/arm/7": "linux/arm/v7", "Linux/AMD64": "linux/amd64"} {
		if p, err := ParsePlatform(in); err != nil || p.String() != want {
			t.Errorf("%q is %s, %v, want %s", in, p, err, want)
		}
	}
	for _, in := range []string{"", "linux", "local", "linux/", "a/b/c/d", "linux/amd64,osver=1", "linux/a b", "linux/../x"} {
		if p, err := ParsePlatform(in); err == nil {
			t.Errorf("%q was read as %s", in, p)
		}
	}
}

func TestConfig(t *testing.T) {
	m := ocispec.Manifest{Layers: make([]ocispec.Descriptor, 1)}
	wanted, err := ParsePlatform("linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, body, wantErr string }{
		{"good", `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:` + hex64 + `"]}}`, ""},
		{"silent about its platform", `{"rootfs":{"type":"layers","diff_ids":["sha256:` + hex64 + `"]}}`, ""},
		{"other platform", `{"os":"linux","architecture":"arm64","rootfs":{"type":"layers","diff_ids":["sha256:` + hex64 + `"]}}`, "for linux/arm64, not for linux/amd64"},
		{"fewer layers", `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`, "lists 0 layers, its manifest 1"},
		{"no rootfs", `{"os":"linux","architecture":"amd64"}`, "rootfs"},
		{"bad diffID", `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:../x"]}}`, "layer 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var cfg ocispec.Image
			if err := json.Unmarshal([]byte(tc.body), &cfg); err != nil {
				t.Fatal(err)
			}
			err := Config(cfg, m, wanted)
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("error is %v, want %q", err, tc.wantErr)
			}
		})
	}
}

func FuzzDocument(f *testing.F) {
	f.Add(ocispec.MediaTypeImageManifest, []byte(manifest(desc(ocispec.MediaTypeImageConfig, 10), desc(ocispec.MediaTypeImageLayerGzip, 10))))
	f.Add(DockerIndex, []byte(`{"schemaVersion":2,"manifests":[`+desc(DockerManifest, 5)+`]}`))
	f.Fuzz(func(t *testing.T, mediaType string, body []byte) {
		d := NewDocument(mediaType, body)
		m, errM := d.Manifest()
		index, errI := d.Index()
		if errM == nil && errI == nil {
			t.Error("it is a manifest and an index")
		}
		if errI == nil {
			if got, err := Machine().Choose(index); err == nil && CheckDescriptor(got, MaxDocument) != nil {
				t.Errorf("chosen is %+v", got)
			}
		}
		for _, layer := range m.Layers {
			if CheckDescriptor(layer, maxBlob) != nil {
				t.Errorf("layer %+v was let through", layer)
			}
		}
	})
}
