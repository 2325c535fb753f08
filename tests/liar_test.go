package tests

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// lies are the ways in which a registry can be wrong. Each handler gets the
// real registry's handler and answers as it likes.
func lies() map[string]func(honest http.Handler) http.Handler {
	return map[string]func(http.Handler) http.Handler{
		"honest": func(h http.Handler) http.Handler { return h },
		// Any request gets what is no answer of a registry.
		"garbage": func(http.Handler) http.Handler {
			return answer(func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>welcome to this wireless network</html>") })
		},
		// No answer ever comes.
		"stall": func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		},
		// The body of a blob stops half-way and nothing more ever comes.
		"stall-blob": func(h http.Handler) http.Handler {
			return onLayers(h, func(w http.ResponseWriter, r *http.Request, body []byte) {
				if r.Header.Get("Range") == "" {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					_, _ = w.Write(body[:len(body)/2])
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
		},
		// Every connection breaks off in the middle of a blob, without progress.
		"broken": func(h http.Handler) http.Handler {
			return onLayers(h, func(w http.ResponseWriter, _ *http.Request, body []byte) {
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				_, _ = w.Write(body[:min(len(body)/2, 1024)])
				panic(http.ErrAbortHandler)
			})
		},
		// A shorter blob than the manifest promises, sent as if it were whole.
		"short": func(h http.Handler) http.Handler {
			return onLayers(h, func(w http.ResponseWriter, _ *http.Request, body []byte) { _, _ = w.Write(body[:len(body)/2]) })
		},
		// A longer one.
		"long": func(h http.Handler) http.Handler {
			return onLayers(h, func(w http.ResponseWriter, _ *http.Request, body []byte) {
				_, _ = w.Write(append(body, bytes.Repeat([]byte{0}, 1<<20)...))
			})
		},
		// One of the same size with a bit turned.
		"wrong": func(h http.Handler) http.Handler {
			return onLayers(h, func(w http.ResponseWriter, _ *http.Request, body []byte) { _, _ = w.Write(turnBit(body)) })
		},
		// The configuration with a bit turned.
		"wrong-config": func(h http.Handler) http.Handler {
			return onBodies(h, isConfig, func(w http.ResponseWriter, _ *http.Request, body []byte) { _, _ = w.Write(turnBit(body)) })
		},
		// The manifest with one byte more, under the digest of the real one.
		"wrong-manifest": func(h http.Handler) http.Handler {
			return onBodies(h, isManifest, func(w http.ResponseWriter, _ *http.Request, body []byte) { _, _ = w.Write(append(body, ' ')) })
		},
		// A manifest without end.
		"endless-manifest": func(h http.Handler) http.Handler {
			return onBodies(h, isManifest, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
				spaces := bytes.Repeat([]byte{' '}, 1<<20)
				for range 1 << 12 {
					if _, err := w.Write(spaces); err != nil {
						return
					}
				}
			})
		},
		// A manifest for another image than was asked for.
		"no-json-manifest": func(h http.Handler) http.Handler {
			return onBodies(h, isManifest, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
				w.Header().Del("Docker-Content-Digest")
				_, _ = io.WriteString(w, `{"schemaVersion":2,"layers":"none"`)
			})
		},
		"loop": func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			})
		},
		"error": func(http.Handler) http.Handler {
			return answer(func(w http.ResponseWriter) { http.Error(w, "out of order", http.StatusInternalServerError) })
		},
		// The first two requests of each kind fail, as those of a busy registry.
		"busy": func(h http.Handler) http.Handler {
			var seen sync.Map
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				count, _ := seen.LoadOrStore(r.Method+r.URL.Path, new(atomic.Int64))
				if n, ok := count.(*atomic.Int64); ok && n.Add(1) <= 2 {
					w.Header().Set("Retry-After", "0")
					http.Error(w, "busy", http.StatusServiceUnavailable)
					return
				}
				h.ServeHTTP(w, r)
			})
		},
		// Each connection breaks off once it has sent 256 KiB: who resumes gets there.
		"flaky": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(&limited{ResponseWriter: w, left: 256 << 10}, r)
			})
		},
		// 2 MiB a second.
		"slow": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&slow{w}, r) })
		},
	}
}

func answer(f func(http.ResponseWriter)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { f(w) })
}

func turnBit(body []byte) []byte {
	turned := bytes.Clone(body)
	turned[len(turned)/2] ^= 1
	return turned
}

var (
	blobPath     = regexp.MustCompile(`/blobs/sha256:[0-9a-f]{64}$`)
	manifestPath = regexp.MustCompile(`/manifests/[^/]+$`)
)

func isManifest(r *http.Request, _ []byte) bool { return manifestPath.MatchString(r.URL.Path) }
func isConfig(r *http.Request, body []byte) bool {
	return blobPath.MatchString(r.URL.Path) && bytes.HasPrefix(body, []byte("{"))
}
func isLayer(r *http.Request, body []byte) bool {
	return blobPath.MatchString(r.URL.Path) && !bytes.HasPrefix(body, []byte("{"))
}

func onLayers(h http.Handler, f func(http.ResponseWriter, *http.Request, []byte)) http.Handler {
	return onBodies(h, isLayer, f)
}

// onBodies answers GET requests whose honest body is chosen with f instead.
func onBodies(h http.Handler, chosen func(*http.Request, []byte) bool, f func(http.ResponseWriter, *http.Request, []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h.ServeHTTP(w, r)
			return
		}
		held := &held{header: http.Header{}, status: http.StatusOK}
		h.ServeHTTP(held, r)
		maps.Copy(w.Header(), held.header)
		if held.status < 300 && held.body.Len() > 0 && chosen(r, held.body.Bytes()) {
			w.Header().Del("Content-Length")
			f(w, r, held.body.Bytes())
			return
		}
		w.WriteHeader(held.status)
		_, _ = w.Write(held.body.Bytes())
	})
}

// held keeps an answer instead of sending it.
type held struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *held) Header() http.Header         { return h.header }
func (h *held) WriteHeader(status int)      { h.status = status }
func (h *held) Write(p []byte) (int, error) { return h.body.Write(p) }

// limited breaks the connection off after some bytes.
type limited struct {
	http.ResponseWriter
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n, err := l.ResponseWriter.Write(p[:min(len(p), l.left)])
	l.left -= n
	if l.left == 0 && n < len(p) {
		_ = http.NewResponseController(l.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

type slow struct{ http.ResponseWriter }

func (s *slow) Write(p []byte) (int, error) {
	sent := 0
	for part := range slices.Chunk(p, 32<<10) {
		time.Sleep(time.Duration(len(part)) * time.Second / (2 << 20))
		n, err := s.ResponseWriter.Write(part)
		sent += n
		if err != nil {
			return sent, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
	}
	return sent, nil
}

// cmdLiar starts a plain HTTP registry that hands on to another one and lies.
// The variable NAME becomes its address; $WORK/NAME.log lists the requests and
// how many bytes each answer had. Naming it again changes the lie.
func cmdLiar(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) != 3, "liar NAME REGISTRY-NAME LIE")
	s, name := of(ts), args[0]
	honest := s.reg[args[1]]
	if honest == nil || honest.tls {
		ts.Fatalf("%q is no plain registry", args[1])
	}
	lie := lies()[args[2]]
	if lie == nil {
		ts.Fatalf("lie %q is unknown, choose from %v", args[2], slices.Sorted(maps.Keys(lies())))
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: honest.address})
	proxy.ErrorLog = nil
	address := "127.0.0.1:0"
	if old := s.reg[name]; old != nil {
		old.stop()
		address = "127.0.0.1:" + strings.TrimPrefix(old.address, "localhost:")
	}
	listener, err := net.Listen("tcp", address)
	ts.Check(err)
	log, err := os.Create(filepath.Join(s.work, name+".log"))
	ts.Check(err)
	server := &http.Server{Handler: logged(log, lie(proxy)), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	ts.Check(err)
	r := &registry{address: "localhost:" + port, stop: func() { _ = server.Close(); <-done; _ = log.Close() }}
	s.reg[name] = r
	ts.Setenv(name, r.address)
}

// logged writes a line for each request: method, path, range, bytes sent.
func logged(log io.Writer, h http.Handler) http.Handler {
	var lock sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := &counted{ResponseWriter: w}
		defer func() {
			lock.Lock()
			defer lock.Unlock()
			_, _ = fmt.Fprintf(log, "%s %s range=%q sent=%d\n", r.Method, r.URL.Path, r.Header.Get("Range"), counted.sent)
		}()
		h.ServeHTTP(counted, r)
	})
}

type counted struct {
	http.ResponseWriter
	sent int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.sent += int64(n)
	return n, err
}

func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }
