package stage0

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	imagespecs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/store"
)

// world is a data directory and a configuration, with a stage1 that has
// nothing to do.
func world(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	return Config{
		Dir: filepath.Join(dir, "data"), SystemConfig: filepath.Join(dir, "usr"), LocalConfig: filepath.Join(dir, "etc"),
		Stage1: pod.Stage1{Flavour: "native", Path: "/bin/true", Init: "/bin/true"},
	}
}

// addImage puts an image with one layer into the store.
func addImage(t testing.TB, c Config, name string, cfg ocispec.ImageConfig) store.Image {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(c.Dir)
	must(err)
	lease, err := s.Lease()
	must(err)
	defer lease.Close()
	diffID := digest.FromString("layer of " + name)
	layer, err := lease.Layer(diffID)
	must(err)
	if !layer.Done() {
		must(os.Chmod(layer.Path(), 0o711))
		must(layer.Commit())
	}
	must(layer.Close())
	put := func(mediaType string, v any) ocispec.Descriptor {
		t.Helper()
		data, err := json.Marshal(v)
		must(err)
		desc, err := s.PutBlob(mediaType, data)
		must(err)
		return desc
	}
	img := store.Image{Name: name, Manifest: put(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: imagespecs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put(ocispec.MediaTypeImageConfig, ocispec.Image{
			Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: cfg,
			RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		}),
		Layers: []ocispec.Descriptor{put(ocispec.MediaTypeImageLayer, "layer of "+name)},
	})}
	must(s.Put(img))
	return img
}

// accept lets images run that are not signed; without patterns, none may.
func accept(t testing.TB, c Config, patterns ...string) {
	t.Helper()
	file := filepath.Join(c.LocalConfig, "trust.d", "test.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	rules := []map[string]any{}
	if len(patterns) > 0 {
		rules = append(rules, map[string]any{"match": patterns, "accept": "unsigned"})
	}
	data, err := json.Marshal(map[string]any{"rktKind": "trust", "rktVersion": "v1", "rules": rules})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// podsLeft counts the pods at all places.
func podsLeft(t *testing.T, c Config) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.Dir, "pods", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

const web, db = "reg.example/web:1", "reg.example/db:1"

func TestPrepare(t *testing.T) {
	c := world(t)
	c.Insecure = insecure.Paths
	accept(t, c, "reg.example/*")
	img := addImage(t, c, web, ocispec.ImageConfig{
		Entrypoint: []string{"/web"}, Cmd: []string{"serve"}, Env: []string{"A=image"}, User: "7:8", WorkingDir: "/srv", StopSignal: "3",
		Labels: map[string]string{"org.example.capabilities": "all"},
	})
	addImage(t, c, db, ocispec.ImageConfig{Cmd: []string{"/db"}})
	uuidFile := filepath.Join(t.TempDir(), "uuid")
	uuid, err := Prepare(context.Background(), c, Options{
		Env: []string{"B=set"}, UUIDFile: uuidFile,
		Apps: []App{
			{Image: web, Args: []string{"x"}},
			{Image: "sha256:" + addImage(t, c, db, ocispec.ImageConfig{Cmd: []string{"/db"}}).Manifest.Digest.Encoded()[:10], Name: "second", User: "nobody", Groups: []uint32{5}, CapsRetain: []string{"kill"}, ReadOnly: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if saved, err := os.ReadFile(uuidFile); err != nil || string(saved) != uuid+"\n" {
		t.Errorf("UUID file: %q, %v", saved, err)
	}
	p, err := Find(c, uuid[:8])
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Phase != pod.Prepared || info.Err != nil {
		t.Fatalf("%+v, %v", info, err)
	}
	layer := filepath.Join(c.Dir, "layers", digest.FromString("layer of "+web).Encoded())
	want := pod.App{
		Name: "web", Lower: []string{layer}, User: "7:8", StopSignal: "SIGQUIT", StopTimeout: 10,
		Image: pod.Image{Name: web, Digest: img.Manifest.Digest.String(), Trust: "accepted unsigned by rule " + c.LocalConfig + "/trust.d/test.json#1"},
	}
	m := info.Manifest
	if diff := cmp.Diff(want, m.Apps[0]); diff != "" {
		t.Error(diff)
	}
	if a := m.Apps[1]; a.Name != "second" || a.User != "nobody" || a.Image.Name != db || len(a.SupplementaryGroups) != 1 {
		t.Errorf("%+v", a)
	}
	if m.Hostname != "rkt-"+uuid || m.Net != "none" || strings.Join(m.Insecure, ",") != "paths" || m.Stage1 != c.Stage1 {
		t.Errorf("%+v", m)
	}
	first, second := readSpec(t, p, "web"), readSpec(t, p, "second")
	if diff := cmp.Diff([]string{"A=image", "B=set", defaultPath}, first.Process.Env); diff != "" {
		t.Error(diff)
	}
	if strings.Join(first.Process.Args, " ") != "/web x" || first.Process.Cwd != "/srv" || first.Process.User.UID != 7 || first.Process.User.GID != 8 || first.Hostname != m.Hostname {
		t.Errorf("%+v", first.Process)
	}
	if diff := cmp.Diff(defaultCaps(), first.Process.Capabilities.Bounding); diff != "" {
		t.Errorf("a label changed something: %s", diff)
	}
	if strings.Join(second.Process.Capabilities.Bounding, ",") != "CAP_KILL" || !second.Root.Readonly || strings.Join(second.Process.Args, " ") != "/db" {
		t.Errorf("%+v", second.Process)
	}
	if len(first.Linux.MaskedPaths) != 0 || first.Linux.Seccomp == nil {
		t.Errorf("%+v", first.Linux)
	}
	upper, err := os.Stat(filepath.Join(p.Dir(), "apps", "web", "upper"))
	if err != nil || upper.Mode().Perm() != 0o711 {
		t.Errorf("upper: %v, %v", upper.Mode(), err)
	}
	one, err := os.ReadFile(filepath.Join(p.Dir(), "apps", "web", pod.FilterFile))
	if err != nil || len(one) == 0 {
		t.Error(err)
	}
	other, err := os.ReadFile(filepath.Join(p.Dir(), "apps", "second", pod.FilterFile))
	if err != nil || string(one) == string(other) {
		t.Errorf("the filter does not depend on the capabilities (%v)", err)
	}
}

func readSpec(t *testing.T, p *pod.Pod, app string) *specs.Spec {
	t.Helper()
	data, err := p.ReadFile("apps/"+app+"/"+pod.ConfigFile, maxConfig)
	if err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		t.Fatal(err)
	}
	return &spec
}

func TestPrepareRefuses(t *testing.T) {
	c := world(t)
	accept(t, c, "reg.example/web")
	addImage(t, c, web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	addImage(t, c, "reg.example/unsigned:1", ocispec.ImageConfig{Cmd: []string{"/x"}})
	addImage(t, c, "reg.example/idle:1", ocispec.ImageConfig{})
	free := c
	free.Insecure = insecure.Image
	full := App{Image: web}
	tests := []struct {
		name string
		c    Config
		o    Options
		err  string
	}{
		{"no image", c, Options{}, "at least one image"},
		{"missing image", c, Options{Pull: PullNever, Apps: []App{{Image: "reg.example/none"}}}, "rkt fetch reg.example/none"},
		{"bad reference", c, Options{Apps: []App{{Image: "UPPER"}}}, "UPPER"},
		{"unknown ID", c, Options{Apps: []App{{Image: "sha256:0000"}}}, "is not in the store"},
		{"not trusted", c, Options{Apps: []App{{Image: "reg.example/unsigned:1"}}}, "is not trusted"},
		{"nothing to execute", free, Options{Apps: []App{{Image: "reg.example/idle:1"}}}, `app "idle": there is nothing to execute`},
		{"same name", c, Options{Apps: []App{full, full}}, `multiple apps with name "web"`},
		{"bad name", c, Options{Apps: []App{{Image: web, Name: "../x"}}}, "app name"},
		{"bad network", c, Options{Net: "bridge", Apps: []App{full}}, "choose from none, host"},
		{"bad policy", c, Options{Pull: "always", Apps: []App{full}}, "choose from never, new, update"},
		{"two interactive apps", c, Options{Interactive: true, Apps: []App{full, {Image: web, Name: "b"}}}, "one image"},
		{"UUID file", c, Options{UUIDFile: "/proc/nowhere/uuid", Apps: []App{full}}, "/proc/nowhere/uuid"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Prepare(context.Background(), test.c, test.o)
			refuses(t, "Prepare", err, test.err)
			if n := podsLeft(t, c); n != 0 {
				t.Errorf("%d pods are left", n)
			}
		})
	}
}

// TestPreparedIsJudgedAgain prepares a pod and takes the trust away.
func TestPreparedIsJudgedAgain(t *testing.T) {
	c := world(t)
	accept(t, c, "reg.example/web")
	addImage(t, c, web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	uuid, err := Prepare(context.Background(), c, Options{Apps: []App{{Image: web}}})
	if err != nil {
		t.Fatal(err)
	}
	accept(t, c)
	refuses(t, "RunPrepared", RunPrepared(c, uuid, PreparedOptions{}), "is not trusted")
	// The policy counts, not the name in the store.
	s, err := store.Open(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(web); err != nil {
		t.Fatal(err)
	}
	refuses(t, "RunPrepared", RunPrepared(c, uuid, PreparedOptions{}), "is not trusted")
	list, err := List(c)
	if err != nil || len(list) != 1 || list[0].Phase != pod.Prepared {
		t.Errorf("the pod is not prepared any more: %+v, %v", list, err)
	}
	accept(t, c, "reg.example/web")
	given := c
	given.Insecure = insecure.Seccomp
	refuses(t, "RunPrepared", RunPrepared(given, uuid, PreparedOptions{}), "without --insecure-options=seccomp")
	refuses(t, "RunPrepared", RunPrepared(c, uuid, PreparedOptions{Net: "bridge"}), "choose from")
	refuses(t, "RunPrepared", RunPrepared(c, uuid, PreparedOptions{Hostname: "-"}), "hostname")
	// A program that cannot be executed ends the pod's only life.
	p, err := Find(c, uuid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m, err := p.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m.Stage1.Path = "/nowhere/stage1"
	if err := p.ReplaceManifest(m); err != nil {
		t.Fatal(err)
	}
	refuses(t, "RunPrepared", RunPrepared(c, uuid, PreparedOptions{Hostname: "new"}), `start stage1 "/nowhere/stage1"`)
	if m, err = p.Manifest(); err != nil || m.Hostname != "new" || readSpec(t, p, "web").Hostname != "new" {
		t.Errorf("the hostname has not been changed (%v)", err)
	}
	refuses(t, "RunPrepared", RunPrepared(c, uuid, PreparedOptions{}), "it is exited; a pod runs only once")
}

func TestRunLeavesNothingWhenItFails(t *testing.T) {
	c := world(t)
	c.Stage1.Path, c.Insecure = "/nowhere/stage1", insecure.Image
	addImage(t, c, web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	file := filepath.Join(t.TempDir(), "uuid")
	refuses(t, "Run", Run(context.Background(), c, Options{UUIDFile: file, Apps: []App{{Image: web}}}), "start stage1")
	if n := podsLeft(t, c); n != 0 {
		t.Errorf("%d pods are left", n)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the UUID file is left (%v)", err)
	}
}

// TestImagesInUse collects images while pods refer to them.
func TestImagesInUse(t *testing.T) {
	c := world(t)
	c.Insecure = insecure.Image
	used := addImage(t, c, web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	unused := addImage(t, c, db, ocispec.ImageConfig{Cmd: []string{"/db"}})
	uuid, err := Prepare(context.Background(), c, Options{Apps: []App{{Image: web}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Remove(web), s.Remove(db)); err != nil {
		t.Fatal(err)
	}
	collect := func() error {
		_, err := s.GC(func() (store.InUse, error) { return InUse(c.Dir) }, store.GCOptions{})
		return err
	}
	if err := collect(); err != nil {
		t.Fatal(err)
	}
	if !s.HasBlob(used.Manifest.Digest, 0) || s.HasBlob(unused.Manifest.Digest, 0) {
		t.Error("not what the pod needs is left")
	}
	p, err := Find(c, uuid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := os.Truncate(filepath.Join(p.Dir(), pod.ManifestFile), 0); err != nil {
		t.Fatal(err)
	}
	refuses(t, "GC with a prepared pod that cannot be read", collect(), "rkt rm "+uuid)
	if _, err := Remove(context.Background(), c, uuid); err != nil {
		t.Fatal(err)
	}
	if err := collect(); err != nil {
		t.Fatal(err)
	}
	if s.HasBlob(used.Manifest.Digest, 0) {
		t.Error("nobody needs it any more")
	}
}

func BenchmarkPrepare(b *testing.B) {
	dir := b.TempDir()
	c := Config{Dir: dir, Stage1: pod.Stage1{Flavour: "native", Path: "/bin/true", Init: "/bin/true"}, Insecure: insecure.Image}
	addImage(b, c, web, ocispec.ImageConfig{Cmd: []string{"/web"}})
	for b.Loop() {
		p, _, err := prepare(context.Background(), c, Options{Apps: []App{{Image: web}}})
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(p.Move(pod.InRun), p.Close()); err != nil {
			b.Fatal(err)
		}
	}
}
