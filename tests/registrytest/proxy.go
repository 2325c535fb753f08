package registrytest

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Proxy stands before a registry and counts what goes through it.
type Proxy struct {
	Host string
	// Change, if set, may answer in place of the registry (true), or change
	// the request. It is set before the first request.
	Change func(w http.ResponseWriter, r *http.Request) bool
	// Pause is called whenever Rate more bytes of blobs went through.
	Rate  int64
	Pause func()

	mu       sync.Mutex
	requests []string
	blobs    int64
	passed   int64
}

// NewProxy starts a proxy before a registry that speaks plain HTTP.
func NewProxy(t testing.TB, to *Registry) *Proxy {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: to.Open(t)}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	p := &Proxy{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r.Method+" "+r.URL.Path)
		p.mu.Unlock()
		if p.Change != nil && p.Change(w, r) {
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			w = &throttle{w, p}
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	p.Host = strings.TrimPrefix(server.URL, "http://")
	return p
}

// Take returns the requests since the last call, without those to find out
// whether this is a registry, and the bytes of blobs that went through.
func (p *Proxy) Take() (requests []string, blobs int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		if !strings.HasSuffix(r, " /v2/") {
			requests = append(requests, r)
		}
	}
	blobs = p.blobs
	p.requests, p.blobs = nil, 0
	return requests, blobs
}

type throttle struct {
	http.ResponseWriter
	p *Proxy
}

func (w *throttle) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *throttle) Write(data []byte) (int, error) {
	n, err := w.ResponseWriter.Write(data)
	w.p.mu.Lock()
	before := w.p.passed
	w.p.passed += int64(n)
	w.p.blobs += int64(n)
	pause := w.p.Rate > 0 && before/w.p.Rate != w.p.passed/w.p.Rate
	w.p.mu.Unlock()
	if pause {
		w.p.Pause()
	}
	return n, err
}
