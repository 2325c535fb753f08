package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/tests/registrytest"
)

func registryConfig(t *testing.T, body string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "registry.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "registry.d/r.json"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, tr *Transport, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestCertificates(t *testing.T) {
	ca, stranger := registrytest.NewCA(t), registrytest.NewCA(t)
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	start := func(conf *tls.Config) string {
		s := httptest.NewUnstartedServer(hello)
		s.Config.ErrorLog = nil
		s.TLS = conf
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	good := start(ca.ServerConfig(t, "127.0.0.1"))
	otherName := start(ca.ServerConfig(t, "reg.example"))
	certFile, keyFile := ca.IssueUntil(t, time.Now().Add(-time.Hour), "127.0.0.1")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	expired := start(&tls.Config{Certificates: []tls.Certificate{pair}})
	wantsClient := ca.ServerConfig(t, "127.0.0.1")
	wantsClient.ClientAuth, wantsClient.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	mutual := start(wantsClient)
	old := ca.ServerConfig(t, "127.0.0.1")
	old.MaxVersion = tls.VersionTLS11
	outdated := start(old)
	clientCert, clientKey := ca.Issue(t, "client")
	strangeCert, strangeKey := stranger.Issue(t, "client")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, url, fields string
		insecure          insecure.Options
		wantErr           string
	}{
		{"own CA", good, fmt.Sprintf(`"ca":%q`, ca.File), 0, ""},
		{"no CA", good, "", 0, "an authority that is not trusted; name its CA in a file of registry.d"},
		{"another CA", good, fmt.Sprintf(`"ca":%q`, stranger.File), 0, "not trusted"},
		{"unverified", good, "", insecure.TLS, ""},
		{"http does not mean unverified", good, "", insecure.HTTP, "not trusted"},
		{"another name", otherName, fmt.Sprintf(`"ca":%q`, ca.File), 0, "a certificate that is not for this name"},
		{"expired", expired, fmt.Sprintf(`"ca":%q`, ca.File), 0, "expired or not yet valid"},
		{"old TLS", outdated, fmt.Sprintf(`"ca":%q`, ca.File), 0, "ends the TLS handshake"},
		{"client certificate", mutual, fmt.Sprintf(`"ca":%q,"clientCertificate":%q,"clientKey":%q`, ca.File, clientCert, clientKey), 0, ""},
		{"no client certificate", mutual, fmt.Sprintf(`"ca":%q`, ca.File), 0, `fields "clientCertificate" and "clientKey"`},
		{"client certificate of a stranger", mutual, fmt.Sprintf(`"ca":%q,"clientCertificate":%q,"clientKey":%q`, ca.File, strangeCert, strangeKey), 0, `"clientCertificate"`},
		{"key of another certificate", mutual, fmt.Sprintf(`"clientCertificate":%q,"clientKey":%q`, clientCert, strangeKey), 0, "private key does not match"},
		{"missing CA file", good, `"ca":"/nonexistent/ca.pem"`, 0, `read CA file "/nonexistent/ca.pem": no such file`},
		{"empty CA file", good, fmt.Sprintf(`"ca":%q`, empty), 0, "no PEM certificate"},
		{"plain HTTP", strings.Replace(good, "https:", "http:", 1), "", 0, "--insecure-options=http"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := strings.TrimPrefix(strings.TrimPrefix(tc.url, "https://"), "http://")
			fields := tc.fields
			if fields != "" {
				fields = "," + fields
			}
			conf := registryConfig(t, fmt.Sprintf(`{"rktKind":"registry","rktVersion":"v1","registries":[%q]%s}`, host, fields))
			tr := New(Options{Base: t.Context(), Config: conf, Insecure: tc.insecure})
			defer tr.CloseIdleConnections()
			body, err := get(t, tr, tc.url)
			if tc.wantErr == "" {
				if err != nil || body != "hello" {
					t.Errorf("got %q, %v", body, err)
				}
				return
			}
			var failed *Error
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), tc.wantErr) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error is %v, want one line with %q", err, tc.wantErr)
			}
			if failed.Transient {
				t.Errorf("%q is said to be worth another try", err)
			}
		})
	}
}

// TestSlowConsumer holds that silence is only counted while somebody waits.
func TestSlowConsumer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
	}))
	defer server.Close()
	tr := New(Options{Base: t.Context(), Config: &config.Config{}, Insecure: insecure.HTTP, Stall: 100 * time.Millisecond})
	req, err := http.NewRequestWithContext(WithLimit(t.Context(), 2<<20), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	time.Sleep(300 * time.Millisecond)
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != 1<<20 {
		t.Errorf("%d bytes were read, %v", n, err)
	}
}

func TestBaseEndsRequests(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	stop := errors.New("stopped")
	base, cancel := context.WithCancelCause(t.Context())
	tr := New(Options{Base: base, Config: &config.Config{}, Insecure: insecure.HTTP, Stall: time.Minute})
	time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
	if _, err := get(t, tr, server.URL); !errors.Is(err, stop) {
		t.Errorf("the request ended with %v", err)
	}
}

func TestBodiesAreLimited(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, DefaultLimit+1))
	}))
	defer server.Close()
	tr := New(Options{Base: t.Context(), Config: &config.Config{}, Insecure: insecure.HTTP})
	if _, err := get(t, tr, server.URL); err == nil || !strings.Contains(err.Error(), "more than the allowed 1 MiB") {
		t.Errorf("error is %v", err)
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\nb\x1b[0m\u2028c")
	f.Add(strings.Repeat("é", 300))
	f.Fuzz(func(t *testing.T, s string) {
		got := OneLine(s)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\t\x00\x1b\u2028\u2029\u009b") || len(got) > 210 {
			t.Errorf("%q became %q", s, got)
		}
	})
}
