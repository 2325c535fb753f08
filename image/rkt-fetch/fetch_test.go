package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/rkt-fetch/pull"
	"github.com/rkt/rkt/store"
	"github.com/rkt/rkt/tests/images"
	"github.com/rkt/rkt/tests/registrytest"
)

// built is rkt-fetch as it is shipped, built once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rkt-fetch-test")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "rkt-fetch")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build rkt-fetch: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := built(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// user runs rkt-fetch with a store and a configuration of its own.
type user struct {
	t   *testing.T
	dir string // store in dir/data, configuration in dir/local
	env []string
}

func newUser(t *testing.T) *user {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the files of layers belong to root, and unpacking is confined by namespaces")
	}
	u := &user{t: t, dir: t.TempDir()}
	u.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.dir}
	return u
}

func (u *user) write(name, body string, mode os.FileMode) string {
	u.t.Helper()
	path := filepath.Join(u.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(body), mode)
	}
	if err != nil {
		u.t.Fatal(err)
	}
	return path
}

func (u *user) command(args ...string) *exec.Cmd {
	u.t.Helper()
	path, err := built()
	if err != nil {
		u.t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"fetch", "--dir=" + filepath.Join(u.dir, "data"), "--local-config=" + filepath.Join(u.dir, "local")}, args...)...)
	cmd.Env = u.env
	return cmd
}

// run returns the result, or what was said on standard error.
func (u *user) run(args ...string) (pull.Result, string) {
	u.t.Helper()
	cmd := u.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() != failure || stdout.Len() > 0 {
			u.t.Errorf("exit code is %d, standard output %q; want %d and nothing", exit.ExitCode(), stdout.String(), failure)
		}
		return pull.Result{}, stderr.String()
	}
	if err != nil {
		u.t.Fatal(err)
	}
	var r pull.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || strings.Count(stdout.String(), "\n") != 1 {
		u.t.Errorf("standard output is %q, want one line of JSON: %v", stdout.String(), err)
	}
	return r, stderr.String()
}

func (u *user) must(args ...string) pull.Result {
	u.t.Helper()
	r, said := u.run(args...)
	if r.Name == "" {
		u.t.Fatalf("rkt-fetch %q: %s", args, said)
	}
	return r
}

// refused wants a failure of one sentence.
func (u *user) refused(want string, args ...string) {
	u.t.Helper()
	r, said := u.run(args...)
	lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
	if r.Name != "" || !strings.Contains(lines[len(lines)-1], want) {
		u.t.Errorf("rkt-fetch %q gives %+v and says %q, want %q", args, r, said, want)
	}
}

// whole wants an image to be in the store with everything.
func (u *user) whole(name string) {
	u.t.Helper()
	s, err := store.Open(filepath.Join(u.dir, "data"))
	if err != nil {
		u.t.Fatal(err)
	}
	img, err := s.Get(name)
	if err != nil {
		u.t.Fatal(err)
	}
	m, err := s.Manifest(img)
	if err != nil {
		u.t.Fatal(err)
	}
	cfg, err := s.Config(m)
	if err != nil {
		u.t.Fatal(err)
	}
	root, err := s.Root(cfg)
	if err != nil {
		u.t.Fatal(err)
	}
	for i, lower := range root.Lower {
		// Lower is uppermost first; file "N" is in layer N.
		name := fmt.Sprint(len(root.Lower) - 1 - i)
		if data, err := os.ReadFile(filepath.Join(lower, name)); err != nil || len(data) == 0 {
			u.t.Errorf("layer %s is not whole: %v", name, err)
		}
	}
	for _, desc := range m.Layers {
		r, err := s.OpenBlob(desc)
		if err != nil {
			u.t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			u.t.Error(err)
		}
		_ = r.Close()
	}
}

// layout writes an image of layers, each with a file of its number.
func layout(t *testing.T, layers, size int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := images.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	img := images.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range layers {
		body := make([]byte, size)
		for k := range body {
			body[k] = byte(random.Uint32())
		}
		layer, err := images.NewLayer(images.Gzip, []images.File{{Name: fmt.Sprint(i), Body: string(body)}})
		if err != nil {
			t.Fatal(err)
		}
		img.Layers = append(img.Layers, layer)
	}
	if _, err := l.Put("v1", img); err != nil {
		t.Fatal(err)
	}
	return dir
}

const anyImage = "--insecure-options=image,http"

func TestSentences(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	r.Push(t, layout(t, 1, 1000), "v1", "app:v1")
	u := newUser(t)
	name := r.Host + "/app:v1"
	u.refused("it takes one image", anyImage)
	u.refused("flag provided but not defined: -nonsense", "--nonsense", name)
	u.refused("image name \"UPPER\"", anyImage, "UPPER")
	u.refused(`pull policy "always" is unknown, choose never, new or update`, anyImage, "--pull-policy=always", name)
	u.refused(`platform "amd64" is not OS/ARCHITECTURE`, anyImage, "--platform=amd64", name)
	u.refused("insecure option \"nothing\" is unknown", "--insecure-options=nothing", name)
	u.refused("answers in plain HTTP, which is not allowed without --insecure-options=http", name)
	u.refused("is not trusted", "--insecure-options=http", name)
	u.refused("has no image app:v2 (404 Not Found", anyImage, r.Host+"/app:v2")
	u.refused("forbids to fetch it", anyImage, "--pull-policy=never", name)
	u.refused("no such file or directory", anyImage, "/nonexistent/image.tar")
	u.refused("signature file \"/nonexistent.sig\" does not exist", "--insecure-options=http", "--signature=/nonexistent.sig", name)
	u.write("local/registry.d/x.json", `{"rktKind":"registry","rktVersion":"v1","registry":["x"]}`, 0o644)
	u.refused("local/registry.d/x.json\": field \"registry\" is unknown", anyImage, name)
	if err := os.RemoveAll(filepath.Join(u.dir, "local")); err != nil {
		t.Fatal(err)
	}
	u.env = append(u.env, stallEnv+"=soon")
	u.refused("environment variable RKT_FETCH_STALL is \"soon\"", anyImage, name)
}

func TestOutput(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	r.Push(t, layout(t, 2, 1000), "v1", "app:v1")
	u := newUser(t)
	result, said := u.run(anyImage, r.Host+"/app:v1")
	if !result.Fetched || result.Name != r.Host+"/app:v1" || strings.Count(said, "\n") != 2 || !strings.Contains(said, "layer ") {
		t.Errorf("result is %+v, standard error %q, want a line for each of two layers", result, said)
	}
	if again, said := u.run(anyImage, r.Host+"/app:v1"); again.Fetched || said != "" || again.Digest != result.Digest {
		t.Errorf("fetched again: %+v, %q", again, said)
	}
	if named, said := u.run(anyImage, "--quiet", "--name=own.example/it:1", r.Host+"/app:v1"); named.Name != "own.example/it:1" || said != "" {
		t.Errorf("under a name: %+v, %q", named, said)
	}
	u.whole("own.example/it:1")
	t.Run("terminal", func(t *testing.T) {
		if _, err := exec.LookPath("script"); err != nil {
			t.Skipf("needs script, for a terminal: %v", err)
		}
		u := newUser(t)
		cmd := u.command(anyImage, r.Host+"/app:v1")
		screen := exec.Command("script", "--quiet", "--return", "--command", "stty cols 100 rows 40; "+strings.Join(cmd.Args, " "), filepath.Join(u.dir, "typescript"))
		screen.Env = append(u.env, "TERM=xterm")
		screen.Stdin = strings.NewReader("")
		out, err := screen.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "done") || !strings.Contains(string(out), `"fetched":true`) {
			t.Errorf("on a terminal: %v, %q", err, out)
		}
	})
}

// TestCredentialsAndTLS takes credentials from docker's configuration, from a
// helper and from rkt's own, for the real registry with TLS.
func TestCredentialsAndTLS(t *testing.T) {
	ca := registrytest.NewCA(t)
	r := registrytest.Start(t, registrytest.Options{TLS: ca, Users: map[string]string{"alice": "secret"}})
	r.Push(t, layout(t, 1, 1000), "v1", "app:v1")
	name := r.Host + "/app:v1"
	const docker = `{"auths":{%q:{"auth":"YWxpY2U6c2VjcmV0"}}}` // alice:secret
	start := func(t *testing.T) *user {
		u := newUser(t)
		u.write("local/registry.d/r.json", fmt.Sprintf(`{"rktKind":"registry","rktVersion":"v1","registries":[%q],"ca":%q}`, r.Host, ca.File), 0o644)
		return u
	}
	t.Run("none", func(t *testing.T) {
		start(t).refused("no credentials are configured for it", "--insecure-options=image", name)
	})
	t.Run("docker", func(t *testing.T) {
		u := start(t)
		u.write(".docker/config.json", fmt.Sprintf(docker, r.Host), 0o600)
		u.must("--insecure-options=image", name)
	})
	t.Run("DOCKER_CONFIG", func(t *testing.T) {
		u := start(t)
		u.env = append(u.env, "DOCKER_CONFIG="+filepath.Dir(u.write("elsewhere/config.json", fmt.Sprintf(docker, r.Host), 0o600)))
		u.must("--insecure-options=image", name)
	})
	t.Run("own", func(t *testing.T) {
		u := start(t)
		u.write("local/auth.d/a.json", fmt.Sprintf(`{"rktKind":"dockerAuth","rktVersion":"v1","registries":[%q],"credentials":{"user":"alice","password":"secret"}}`, r.Host), 0o600)
		u.write(".docker/config.json", fmt.Sprintf(`{"auths":{%q:{"auth":"Ym9iOndyb25n"}}}`, r.Host), 0o600)
		u.must("--insecure-options=image", name)
	})
	t.Run("helper with all rights", func(t *testing.T) {
		u := start(t)
		u.write(".docker/config.json", fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, r.Host), 0o600)
		u.write("bin/docker-credential-test", "#!/bin/sh\ngrep -e NoNewPrivs -e CapEff /proc/self/status > $HOME/helper-status\n"+
			`echo '{"Username":"alice","Secret":"secret"}'`+"\n", 0o755)
		u.env[0] = "PATH=" + u.dir + "/bin:" + os.Getenv("PATH")
		u.must("--insecure-options=image", name)
		own, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		status, err := os.ReadFile(filepath.Join(u.dir, "helper-status"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			if !strings.Contains(string(own), line) {
				t.Errorf("the helper ran with %q, unlike its caller", line)
			}
		}
	})
}

// TestProxy reaches a registry, whose name only the proxy knows, by the
// environment's proxy.
func TestProxy(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	r.Push(t, layout(t, 1, 1000), "v1", "app:v1")
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		asked = append(asked, req.Method+" "+req.URL.Host)
		mu.Unlock()
		if req.Method == http.MethodConnect || req.URL.Host != "registry.test:5000" {
			http.Error(w, "only plain HTTP to registry.test", http.StatusForbidden)
			return
		}
		out := req.Clone(req.Context())
		out.RequestURI, out.URL.Host = "", r.Host
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for key, values := range resp.Header {
			w.Header()[key] = values
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer proxy.Close()
	u := newUser(t)
	u.env = append(u.env, "HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL)
	u.must(anyImage, "registry.test:5000/app:v1")
	u.whole("registry.test:5000/app:v1")
	if len(asked) == 0 || asked[0] != "CONNECT registry.test:5000" {
		t.Errorf("the proxy was asked %q, want TLS to be tried first", asked)
	}
	proxyHost := strings.TrimPrefix(proxy.URL, "http://")
	u.refused("cannot be asked through proxy "+proxyHost+": Forbidden", "--insecure-options=image", "registry.test:5000/app:v1")
}

// TestRights looks at rkt-fetch while it waits for a registry.
func TestRights(t *testing.T) {
	u := newUser(t)
	reached := make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		once.Do(func() { close(reached) })
		<-r.Context().Done()
	}))
	defer func() { server.CloseClientConnections(); server.Close() }()
	cmd := u.command(anyImage, strings.TrimPrefix(server.URL, "http://")+"/app:v1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	select {
	case <-reached:
	case <-time.After(10 * time.Second):
		t.Fatal("the registry was not asked")
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads are %q, %v", tasks, err)
	}
	var want uint64
	for _, c := range kept {
		want |= 1 << c
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"NoNewPrivs:\t1", fmt.Sprintf("CapPrm:\t%016x", want), fmt.Sprintf("CapEff:\t%016x", want), "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"} {
			if !strings.Contains(string(status), line+"\n") {
				t.Errorf("%s lacks %q", task, line)
			}
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != failure || time.Since(began) > time.Second {
		t.Errorf("after SIGTERM it ended with %v after %s", err, time.Since(began))
	}
	if said := stderr.String(); !strings.Contains(said, "interrupted by SIGTERM") || strings.Count(said, "\n") != 1 {
		t.Errorf("after SIGTERM it said %q", said)
	}
}

func TestTimeouts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			<-r.Context().Done()
		}
	}))
	defer func() { server.CloseClientConnections(); server.Close() }()
	name := strings.TrimPrefix(server.URL, "http://") + "/app:v1"
	u := newUser(t)
	u.env = append(u.env, timeoutEnv+"=300ms")
	u.refused("it takes longer than 300ms (RKT_FETCH_TIMEOUT)", anyImage, name)
	u.env = append(u.env[:2], stallEnv+"=50ms")
	u.refused("sends next to nothing for 50ms (tried 5 times)", anyImage, name)
}

// TestKilledAnywhere kills fetches at random moments. In the end the image
// must be whole, and no byte that was on the disk fetched twice.
func TestKilledAnywhere(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{})
	const layers, size = 4, 3 << 20
	r.Push(t, layout(t, layers, size), "v1", "app:v1")
	p := registrytest.NewProxy(t, r)
	p.Rate, p.Pause = 128<<10, func() { time.Sleep(3 * time.Millisecond) }
	u := newUser(t)
	name := p.Host + "/app:v1"
	kills := 0
	for deadline := time.Now().Add(time.Minute); ; {
		if time.Now().After(deadline) {
			t.Fatal("the fetch does not come to an end")
		}
		cmd := u.command(anyImage, "--quiet", name)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Duration(20+rand.IntN(200)) * time.Millisecond):
			_ = cmd.Process.Kill()
			<-done
			kills++
			continue
		}
		break
	}
	_, blobs := p.Take()
	// What was under way when the process was killed is lost: the buffers of
	// sockets on both ends, for each of the connections.
	const lost = 1 << 20
	if most := int64(layers*size + layers*size/100 + (kills+1)*lost); kills == 0 || blobs > most {
		t.Errorf("with %d kills %d bytes were sent, want at most %d", kills, blobs, most)
	}
	t.Logf("%d kills, %d of %d bytes were sent", kills, blobs, layers*size)
	u.whole(name)
	if left, err := filepath.Glob(filepath.Join(u.dir, "data/layers/.tmp-*")); err != nil || len(left) != 0 {
		t.Errorf("%q is left over", left)
	}
	if left, err := filepath.Glob(filepath.Join(u.dir, "data/partial/*")); err != nil || len(left) != 0 {
		t.Errorf("%q is left over", left)
	}
}

// TestFullDisk fetches onto a file system that is too small, and looks at what
// is left of it.
func TestFullDisk(t *testing.T) {
	if os.Getenv("RKT_FETCH_TEST_UNSHARED") == "" {
		u := newUser(t)
		if _, err := exec.LookPath("unshare"); err != nil {
			t.Skipf("needs unshare, for a mount of its own: %v", err)
		}
		cmd := exec.Command("unshare", "--mount", "--propagation=private", os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), "RKT_FETCH_TEST_UNSHARED="+u.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	r := registrytest.Start(t, registrytest.Options{})
	r.Push(t, layout(t, 2, 3<<20), "v1", "app:v1")
	for _, tc := range []struct{ name, size, want string }{
		{"too small for the blobs", "4m", "its layers need 6 MiB and"},
		{"too small for the trees", "9m", "no space left on device; make room in"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := newUser(t)
			data := filepath.Join(u.dir, "data")
			if err := os.Mkdir(data, 0o750); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size="+tc.size); err != nil {
				t.Fatal(err)
			}
			u.refused(tc.want, anyImage, r.Host+"/app:v1")
			for _, pattern := range []string{"layers/*", "layers/.*", "partial/*"} {
				if left, err := filepath.Glob(filepath.Join(data, pattern)); err != nil || len(left) != 0 {
					t.Errorf("%q is left over", left)
				}
			}
			if err := syscall.Mount("", data, "", syscall.MS_REMOUNT, "size=100m"); err != nil {
				t.Fatal(err)
			}
			u.must(anyImage, r.Host+"/app:v1")
			u.whole(r.Host + "/app:v1")
			if err := syscall.Unmount(data, 0); err != nil {
				t.Error(err)
			}
		})
	}
}
