package registry

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/tests/registrytest"
)

// TestCredentialsStayWithTheirHost has a registry that wants a password, or a
// token, send us to another host, and looks at what that host is told.
func TestCredentialsStayWithTheirHost(t *testing.T) {
	blob := content(1000)
	desc := ocispec.Descriptor{
		Digest: digest.FromBytes(blob), Size: 1000,
		URLs: []string{"http://127.0.0.1:1/foreign"},
	}
	for _, kind := range []string{"basic", "token", "bearer"} {
		t.Run(kind, func(t *testing.T) {
			other := newRogue(t, func(w http.ResponseWriter, r *http.Request, nth int) {
				if nth == 1 && kind == "basic" {
					w.Header().Set("WWW-Authenticate", `Basic realm="give it to me"`)
					http.Error(w, "", http.StatusUnauthorized)
					return
				}
				_, _ = w.Write(blob)
			})
			tokens := registrytest.NewTokenServer(t, "alice", "secret")
			server := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) {
				if r.Header.Get("Authorization") == "" {
					challenge := `Basic realm="x"`
					if kind != "basic" {
						challenge = `Bearer realm="` + tokens.URL + `/token",service="x"`
					}
					w.Header().Set("WWW-Authenticate", challenge)
					http.Error(w, "", http.StatusUnauthorized)
					return
				}
				http.Redirect(w, r, other.URL+"/elsewhere", http.StatusTemporaryRedirect)
			})
			cred := Credential{User: "alice", Password: "secret"}
			if kind == "bearer" {
				cred = Credential{BearerToken: "precious"}
			}
			s := quick(t, setup{ref: server.host + "/app:v1", cred: map[string]Credential{server.host: cred}})
			got, err := s.Document(t.Context(), desc)
			if kind == "basic" {
				if err == nil {
					t.Error("a host that asks for a password it has no right to was satisfied")
				}
			} else if err != nil || !bytes.Equal(got, blob) {
				t.Errorf("the blob was not read: %v", err)
			}
			if len(other.requests()) == 0 {
				t.Error("the other host was not asked")
			}
			for _, r := range other.requests() {
				if a := r.Header.Get("Authorization"); a != "" {
					t.Errorf("the other host was told %q", a)
				}
			}
			for _, a := range tokens.Seen {
				if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:secret")); a != want {
					t.Errorf("the token server was told %q, want %q", a, want)
				}
			}
		})
	}
}

// TestIdentityTokenStaysWithItsServer has a token server redirect the request
// whose body is the token.
func TestIdentityTokenStaysWithItsServer(t *testing.T) {
	other := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) {})
	tokens := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		http.Redirect(w, r, other.URL+"/token", http.StatusTemporaryRedirect)
	})
	server := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+tokens.URL+`/token",service="x"`)
		http.Error(w, "", http.StatusUnauthorized)
	})
	s := quick(t, setup{ref: server.host + "/app:v1", cred: map[string]Credential{server.host: {IdentityToken: "precious"}}})
	if _, err := s.Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "sends a request with credentials on to host "+other.host) {
		t.Errorf("error is %v", err)
	}
	for _, r := range other.requests() {
		if r.Method == http.MethodPost {
			t.Error("the other host was sent the request with the token")
		}
	}
}

// TestRedirectFromTLS goes from https to another https host, which is allowed,
// and to http, which is not.
func TestRedirectFromTLS(t *testing.T) {
	blob := content(1000)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: 1000}
	ca := registrytest.NewCA(t)
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) }))
	other.TLS = ca.ServerConfig(t, "127.0.0.1")
	other.StartTLS()
	defer other.Close()
	plain := newRogue(t, func(w http.ResponseWriter, _ *http.Request, _ int) { _, _ = w.Write(blob) })
	to := ""
	first := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to+"/x", http.StatusTemporaryRedirect)
	}))
	first.TLS = ca.ServerConfig(t, "127.0.0.1")
	first.StartTLS()
	defer first.Close()
	hosts := make([]string, 2)
	for i, server := range []*httptest.Server{first, other} {
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = u.Host
	}
	conf := map[string]string{"registry.d/r.json": fmt.Sprintf(`{"rktKind":"registry","rktVersion":"v1","registries":[%q,%q],"ca":%q}`, hosts[0], hosts[1], ca.File)}
	s := quick(t, setup{ref: hosts[0] + "/app:v1", conf: conf, insecure: insecure.HTTP})
	to = other.URL
	if got, err := s.Document(t.Context(), desc); err != nil || !bytes.Equal(got, blob) {
		t.Errorf("from TLS to TLS: %v", err)
	}
	to = plain.URL
	if _, err := s.Document(t.Context(), desc); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("from TLS to plain HTTP: %v", err)
	}
	if len(plain.requests()) != 0 {
		t.Error("the plain host was asked")
	}
}
