// Package registrytest runs the distribution's real registry for tests: plain
// or with TLS, open or with passwords or a token server.
//
// Only tests import it. It needs the package docker-registry, and skopeo to
// fill registries; a test that lacks them is skipped with that reason.
package registrytest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Options of a registry. The zero value is plain HTTP, open for everybody.
type Options struct {
	TLS   *CA               // serve TLS with a certificate of this authority
	Users map[string]string // passwords by user: HTTP basic authentication
	Token *TokenServer      // or tokens of this server
	Dir   string            // storage, shared by registries; "" is a new one
}

// Registry is a running registry.
type Registry struct {
	Host string // "127.0.0.1:PORT"
	Dir  string

	t       testing.TB
	command *exec.Cmd
	stopped sync.Once
	open    *Registry // the same storage without TLS and authentication
}

// Start runs a registry until the test ends.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	program := need(t, "docker-registry")
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r := &Registry{Dir: o.Dir, t: t}
	if o.TLS == nil && o.Users == nil && o.Token == nil {
		r.open = r
	}
	work := t.TempDir()
	env := []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + o.Dir, "OTEL_TRACES_EXPORTER=none"}
	scheme := "http"
	if o.TLS != nil {
		scheme = "https"
		cert, key := o.TLS.Issue(t, "127.0.0.1")
		env = append(env, "REGISTRY_HTTP_TLS_CERTIFICATE="+cert, "REGISTRY_HTTP_TLS_KEY="+key)
	}
	if o.Users != nil {
		env = append(env, "REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM=test",
			"REGISTRY_AUTH_HTPASSWD_PATH="+htpasswd(t, work, o.Users))
	}
	if o.Token != nil {
		env = append(env, "REGISTRY_AUTH=token", "REGISTRY_AUTH_TOKEN_REALM="+o.Token.URL+"/token",
			"REGISTRY_AUTH_TOKEN_SERVICE="+tokenService, "REGISTRY_AUTH_TOKEN_ISSUER="+tokenIssuer,
			"REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE="+o.Token.bundle)
	}
	conf := filepath.Join(work, "config.yml")
	if err := os.WriteFile(conf, []byte("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {}}\nhttp: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Host = freePort(t)
	command := exec.Command(program, "serve", conf)
	command.Env = append(append(os.Environ(), env...), "REGISTRY_HTTP_ADDR="+r.Host)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	r.command = command
	t.Cleanup(r.Stop)
	if !answers(scheme + "://" + r.Host + "/v2/") {
		t.Fatalf("the registry at %s does not come up: %s", r.Host, log.String())
	}
	return r
}

// Stop ends the registry before the test does.
func (r *Registry) Stop() {
	r.stopped.Do(func() {
		_ = r.command.Process.Kill()
		_ = r.command.Wait()
	})
}

// Push copies an image of an OCI layout, all platforms of it, into the
// registry's storage, unchanged or with flags of skopeo copy.
func (r *Registry) Push(t testing.TB, layout, tag, name string, flags ...string) {
	t.Helper()
	host := r.Open(t)
	args := append([]string{"copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"}, flags...)
	if len(flags) == 0 {
		args = append(args, "--all", "--preserve-digests")
	}
	args = append(args, "oci:"+layout+":"+tag, "docker://"+host+"/"+name)
	command := exec.Command(need(t, "skopeo"), args...)
	home := t.TempDir()
	command.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("skopeo %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// Open returns the address at which the same storage is served by plain HTTP,
// to everybody.
func (r *Registry) Open(t testing.TB) string {
	t.Helper()
	if r.open == nil {
		r.open = Start(r.t, Options{Dir: r.Dir})
	}
	return r.open.Host
}

func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s: %v", program, err)
	}
	return path
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// answers waits until somebody speaks HTTP or TLS there.
func answers(url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := &http.Client{Timeout: time.Second}
	for ctx.Err() == nil {
		resp, err := client.Get(url)
		if err == nil {
			_ = resp.Body.Close()
			return true
		}
		if strings.Contains(err.Error(), "certificate") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func htpasswd(t testing.TB, dir string, users map[string]string) string {
	t.Helper()
	var lines strings.Builder
	for user, password := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", user, hash)
	}
	path := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
