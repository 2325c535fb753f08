package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/internal/insecure"
)

// rogue is a server that does what no real registry will do.
type rogue struct {
	*httptest.Server
	host string

	mu    sync.Mutex
	asked []*http.Request
	sent  int64
}

func newRogue(t *testing.T, handler func(w http.ResponseWriter, r *http.Request, nth int)) *rogue {
	t.Helper()
	s := &rogue{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, r)
		nth := len(s.asked)
		s.mu.Unlock()
		handler(&counted{w, s}, r, nth)
	}))
	// Handlers that stall end when their client is gone.
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

func (s *rogue) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.asked...)
}

type counted struct {
	http.ResponseWriter
	s *rogue
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.s.mu.Lock()
	c.s.sent += int64(n)
	c.s.mu.Unlock()
	return n, err
}

func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// cut ends the connection without a word.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

func stallUntilGone(r *http.Request) { <-r.Context().Done() }

func content(n int) []byte {
	data := make([]byte, n)
	state := uint32(7)
	for i := range data {
		state = state*1664525 + 1013904223
		data[i] = byte(state >> 24)
	}
	return data
}

// quick opens a Source that loses no time between attempts.
func quick(t *testing.T, s setup) *Source {
	t.Helper()
	if s.stall == 0 {
		s.stall = 5 * time.Second
	}
	if s.insecure == 0 {
		s.insecure = insecure.HTTP
	}
	src := open(t, s)
	src.backoff = time.Millisecond
	return src
}

func TestBlobAgainstRogues(t *testing.T) {
	blob := content(3 << 20)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	serve := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	}
	// part sends the beginning of what is asked for and goes.
	part := func(w http.ResponseWriter, r *http.Request, n int) {
		serve(&cutting{ResponseWriter: w, left: n}, r)
	}
	for _, tc := range []struct {
		name     string
		handler  func(w http.ResponseWriter, r *http.Request, nth int)
		start    int // bytes that an earlier run left
		wantErr  string
		mostSent int64 // 0: not compared
		stall    time.Duration
	}{
		{name: "honest", handler: func(w http.ResponseWriter, r *http.Request, _ int) { serve(w, r) }, mostSent: desc.Size},
		{name: "continued", start: 2 << 20, handler: func(w http.ResponseWriter, r *http.Request, _ int) { serve(w, r) }, mostSent: desc.Size - 2<<20},
		{name: "cut twice", handler: func(w http.ResponseWriter, r *http.Request, nth int) {
			if nth <= 2 {
				part(w, r, 1<<20)
				return
			}
			serve(w, r)
		}, mostSent: desc.Size + 2<<20},
		{name: "cut more often than it is tried, but with progress", handler: func(w http.ResponseWriter, r *http.Request, nth int) {
			part(w, r, 1<<20+4096)
		}},
		{name: "cut without progress", handler: func(w http.ResponseWriter, r *http.Request, nth int) { part(w, r, 10) }, wantErr: "ends the connection early (tried 5 times)"},
		{name: "ignores ranges", start: 1 << 20, handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			r.Header.Del("Range")
			serve(w, r)
		}, mostSent: desc.Size},
		{name: "refuses ranges", start: 1 << 20, handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			if r.Header.Get("Range") != "" {
				http.Error(w, "no", http.StatusRequestedRangeNotSatisfiable)
				return
			}
			serve(w, r)
		}},
		{name: "another range", start: 1 << 20, handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			r.Header.Set("Range", "bytes=5-")
			serve(w, r)
		}, wantErr: "with the range \"bytes 5-3145727/3145728\""},
		{name: "another total", start: 1 << 20, handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Range", "bytes 1048576-1048577/1048578")
			w.WriteHeader(http.StatusPartialContent)
		}, wantErr: "says it has 1048578 bytes, its manifest says 3145728"},
		{name: "says it is smaller", handler: func(w http.ResponseWriter, r *http.Request, _ int) { _, _ = w.Write(blob[:1000]) }, wantErr: "says it has 1000 bytes, its manifest says 3145728"},
		{name: "says it is larger", handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Length", "9999999999")
			w.WriteHeader(http.StatusOK)
		}, wantErr: "says it has 9999999999 bytes"},
		{name: "sends less", handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			flush(w)
			_, _ = w.Write(blob[:1000])
		}, wantErr: fmt.Sprintf("ends blob %s after 1000 of 3145728 bytes", desc.Digest)},
		{name: "sends more", handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			flush(w)
			_, _ = w.Write(blob)
			_, _ = w.Write(blob)
		}, wantErr: "sends more than the 3145728 bytes"},
		{name: "is silent", stall: 100 * time.Millisecond, handler: func(w http.ResponseWriter, r *http.Request, _ int) { stallUntilGone(r) }, wantErr: "sends next to nothing for 100ms"},
		{name: "falls silent", stall: 100 * time.Millisecond, handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			_, _ = w.Write(blob[:100])
			flush(w)
			stallUntilGone(r)
		}, wantErr: "host"},
		{name: "drips", stall: 100 * time.Millisecond, handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			for i := 0; r.Context().Err() == nil; i++ {
				_, _ = w.Write(blob[i : i+1])
				flush(w)
				time.Sleep(10 * time.Millisecond)
			}
		}, wantErr: "sends next to nothing"},
		{name: "fails and recovers", handler: func(w http.ResponseWriter, r *http.Request, nth int) {
			if nth < 4 {
				http.Error(w, "oh", http.StatusInternalServerError)
				return
			}
			serve(w, r)
		}},
		{name: "fails for good", handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Error(w, "the \x1b[31mdisk\n is full", http.StatusServiceUnavailable)
		}, wantErr: "fails to answer for blob " + desc.Digest.String() + " (503 Service Unavailable, the [31mdisk is full) (tried 5 times)"},
		{name: "has no such blob", handler: func(w http.ResponseWriter, r *http.Request, _ int) { http.NotFound(w, r) }, wantErr: "has no blob " + desc.Digest.String()},
		{name: "not HTTP", handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH\r\n\r\n")
				_ = conn.Close()
			}
		}, wantErr: "something that is not HTTP"},
		{name: "endless header", handler: func(w http.ResponseWriter, r *http.Request, _ int) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
				for err == nil {
					_, err = io.WriteString(conn, "X: "+strings.Repeat("x", 8000)+"\r\n")
				}
			}
		}, wantErr: "not HTTP"},
		{name: "redirects in a circle", handler: func(w http.ResponseWriter, r *http.Request, _ int) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, wantErr: "redirects"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newRogue(t, tc.handler)
			s := quick(t, setup{ref: server.host + "/app:v1", stall: tc.stall})
			got := &memory{}
			_, _ = got.Write(blob[:tc.start])
			err := s.Blob(t.Context(), desc, got, false)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) || strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Errorf("error is %q, want one line with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.data, blob) {
				t.Error("the blob is not what it was")
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if tc.mostSent > 0 && server.sent > tc.mostSent {
				t.Errorf("%d bytes were sent, want at most %d", server.sent, tc.mostSent)
			}
		})
	}
}

// cutting goes after some bytes of the body.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	n, _ := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		flush(c.ResponseWriter)
		cut(c.ResponseWriter)
		return n, errors.New("cut")
	}
	return n, nil
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestManifestAgainstRogues(t *testing.T) {
	manifest := `{"schemaVersion":2,"config":{},"layers":[]}`
	answer := func(kind, body string) func(http.ResponseWriter, *http.Request, int) {
		return func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, tc := range []struct {
		name, tag string
		handler   func(w http.ResponseWriter, r *http.Request, nth int)
		wantErr   string
	}{
		{"honest", "v1", answer(ocispec.MediaTypeImageManifest+"; charset=utf-8", manifest), ""},
		{"login page", "v1", answer("text/html", "<html>pay first</html>"), `answers with content of type "text/html", which is not an image`},
		{"no type", "v1", answer("", manifest), "which is not an image"},
		{"schema 1", "v1", answer("application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`), "Docker schema 1"},
		{"not JSON", "v1", answer(ocispec.MediaTypeImageManifest, "{"), "something that is not image app:v1"},
		{"another digest", digest.FromString("other").String(), answer(ocispec.MediaTypeImageManifest, manifest), "does not have the digest of image app@" + digest.FromString("other").String()},
		{"contradicts its header", "v1", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Docker-Content-Digest", digest.FromString("other").String())
			answer(ocispec.MediaTypeImageManifest, manifest)(w, r, n)
		}, "does not have the digest"},
		{"too large", "v1", answer(ocispec.MediaTypeImageManifest, manifest+strings.Repeat(" ", source.MaxDocument)), "more than the allowed"},
		{"endless", "v1", func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, "more than the allowed"},
		{"redirect to plain HTTP", "v1", func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, "ftp://example.org/x", http.StatusFound)
		}, "host example.org"},
		{"impatient", "v1", func(w http.ResponseWriter, r *http.Request, nth int) {
			if nth == 1 {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "", http.StatusTooManyRequests)
				return
			}
			answer(ocispec.MediaTypeImageManifest, manifest)(w, r, nth)
		}, ""},
		{"teapot", "v1", func(w http.ResponseWriter, r *http.Request, _ int) { w.WriteHeader(http.StatusTeapot) }, "refuses to answer for image app:v1 (418 I'm a teapot)"},
		{"moved away", "v1", func(w http.ResponseWriter, r *http.Request, _ int) { w.WriteHeader(http.StatusMovedPermanently) }, "image app:v1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newRogue(t, tc.handler)
			s := quick(t, setup{ref: server.host + "/app:v1"})
			began := time.Now()
			doc, err := s.Manifest(t.Context(), tc.tag)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) || strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Errorf("error is %q, want one line with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || string(doc.Body) != manifest {
				t.Errorf("document is %q, %v", doc.Body, err)
			}
			if tc.name == "impatient" && time.Since(began) < time.Second {
				t.Error("the time that the registry asked for was not waited")
			}
		})
	}
}

func TestHead(t *testing.T) {
	other := digest.FromString("x")
	for _, tc := range []struct {
		name    string
		handler func(w http.ResponseWriter, r *http.Request, nth int)
		want    digest.Digest
		wantErr string
	}{
		{"says it", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", other.String())
		}, other, ""},
		{"does not say", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		}, "", ""},
		{"says nonsense", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", "sha256:../../x")
		}, "", ""},
		{"no type", func(http.ResponseWriter, *http.Request, int) {}, "", ""},
		{"knows no HEAD", func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusMethodNotAllowed) }, "", ""},
		{"not there", func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusNotFound) }, "", "has no image app:v1 (404 Not Found)"},
		{"fails", func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusBadGateway) }, "", "502 Bad Gateway"},
		{"cuts", func(w http.ResponseWriter, _ *http.Request, _ int) { cut(w) }, "", "ends the connection early"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newRogue(t, tc.handler)
			got, err := quick(t, setup{ref: server.host + "/app:v1"}).Head(t.Context())
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) || got != tc.want {
				t.Errorf("got %q, %v, want %q, %q", got, err, tc.want, tc.wantErr)
			}
		})
	}
}

func TestReferrersAreBounded(t *testing.T) {
	subject := digest.FromString("image")
	page := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`
	t.Run("endless pages", func(t *testing.T) {
		server := newRogue(t, func(w http.ResponseWriter, r *http.Request, nth int) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Link", fmt.Sprintf(`<%s?n=%d>; rel="next"`, r.URL.Path, nth))
			_, _ = io.WriteString(w, page)
		})
		s := quick(t, setup{ref: server.host + "/app:v1"})
		if _, err := s.Referrers(t.Context(), subject, "x/y"); err == nil || !strings.Contains(err.Error(), "without end") {
			t.Errorf("error is %v", err)
		}
		if n := len(server.requests()); n > 2*maxRequests {
			t.Errorf("%d requests were made", n)
		}
	})
	t.Run("next page elsewhere", func(t *testing.T) {
		other := newRogue(t, func(http.ResponseWriter, *http.Request, int) {})
		server := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Link", `<`+other.URL+`/v2/x>; rel="next"`)
			_, _ = io.WriteString(w, page)
		})
		s := quick(t, setup{ref: server.host + "/app:v1"})
		if _, err := s.Referrers(t.Context(), subject, "x/y"); err == nil || !strings.Contains(err.Error(), "points to another host") {
			t.Errorf("error is %v", err)
		}
		if n := len(other.requests()); n != 0 {
			t.Errorf("the other host was asked %d times", n)
		}
	})
	t.Run("failure is not absence", func(t *testing.T) {
		server := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				http.Error(w, "", http.StatusBadGateway)
				return
			}
			http.NotFound(w, r)
		})
		s := quick(t, setup{ref: server.host + "/app:v1"})
		if _, err := s.Referrers(t.Context(), subject, "x/y"); err == nil || !strings.Contains(err.Error(), "502") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestMirrors(t *testing.T) {
	blob := content(5000)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	serve := func(w http.ResponseWriter, r *http.Request, _ int) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := gone.Addr().String()
	_ = gone.Close()
	for _, tc := range []struct {
		name         string
		mirror       func(w http.ResponseWriter, r *http.Request, nth int)
		direct       bool
		wantMirror   int
		wantUpstream int
	}{
		{"has it", serve, false, 1, 0},
		{"does not have it", func(w http.ResponseWriter, r *http.Request, _ int) { http.NotFound(w, r) }, false, 1, 1},
		{"fails", func(w http.ResponseWriter, r *http.Request, _ int) { http.Error(w, "", 500) }, false, 1, 1},
		{"cuts", func(w http.ResponseWriter, r *http.Request, nth int) {
			serve(&cutting{ResponseWriter: w, left: 100}, r, nth)
		}, false, 1, 1},
		{"must not be asked", serve, true, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mirror, upstream := newRogue(t, tc.mirror), newRogue(t, serve)
			conf := map[string]string{"registry.d/r.json": fmt.Sprintf(
				`{"rktKind":"registry","rktVersion":"v1","registries":[%q],"mirrors":[%q,%q]}`, upstream.host, down, mirror.host+"/cache/x")}
			s := quick(t, setup{ref: upstream.host + "/app:v1", conf: conf})
			got := &memory{}
			if err := s.Blob(t.Context(), desc, got, tc.direct); err != nil || !bytes.Equal(got.data, blob) {
				t.Fatalf("the blob was not read: %v", err)
			}
			if m, u := len(mirror.requests()), len(upstream.requests()); m != tc.wantMirror || u != tc.wantUpstream {
				t.Errorf("mirror and registry were asked %d and %d times, want %d and %d", m, u, tc.wantMirror, tc.wantUpstream)
			}
			for _, r := range mirror.requests() {
				if want := "/v2/cache/x/app/blobs/" + desc.Digest.String(); r.URL.Path != want {
					t.Errorf("the mirror was asked for %q, want %q", r.URL.Path, want)
				}
			}
		})
	}
}

func TestTokenServerThatStalls(t *testing.T) {
	tokens := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) { stallUntilGone(r) })
	server := newRogue(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+tokens.URL+`/token",service="x"`)
		http.Error(w, "", http.StatusUnauthorized)
	})
	s := quick(t, setup{ref: server.host + "/app:v1", stall: 50 * time.Millisecond})
	if _, err := s.Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "host "+tokens.host+" sends next to nothing") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s = quick(t, setup{ref: server.host + "/app:v1", stall: time.Minute, base: ctx})
	began := time.Now()
	if _, err := s.Manifest(ctx, "v1"); err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("a cancelled wait for a token ends with %v after %s", err, time.Since(began))
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 0-0/*")
	f.Fuzz(func(t *testing.T, s string) {
		first, total, ok := contentRange(s)
		if ok && (first < 0 || total >= 0 && total <= first) {
			t.Errorf("%q is read as %d of %d", s, first, total)
		}
	})
}
