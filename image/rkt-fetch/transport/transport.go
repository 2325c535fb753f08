// Package transport is the HTTP transport of everything that rkt-fetch asks
// of the network: registries, token servers, signature servers.
//
// It holds the rules that no protocol code above it can get around: plain
// HTTP and unverified TLS only when asked for, certificates per host, no
// credentials for a host that they were not meant for, an end to silence, and
// an end to bodies. It never retries and knows nothing of registries.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/internal/insecure"
)

const (
	// DefaultStall is how long a server may send nothing.
	DefaultStall = 30 * time.Second
	// DefaultLimit bounds the body of a response whose request set no other.
	DefaultLimit = 1 << 20

	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	maxHeader        = 256 << 10
	readBuffer       = 64 << 10
	maxPEM           = 4 << 20
)

// Options of a Transport.
type Options struct {
	Base     context.Context // its end ends every request, also those that carry another context
	Config   *config.Config  // certificates per host
	Insecure insecure.Options
	Stall    time.Duration // 0 is DefaultStall
}

// Transport is an http.RoundTripper. Its errors are *Error, except when the
// context of the request or Base ended.
type Transport struct {
	opts Options

	mu    sync.Mutex
	hosts map[string]*http.Transport
}

// New returns a Transport; CloseIdleConnections ends it.
func New(opts Options) *Transport {
	if opts.Stall <= 0 {
		opts.Stall = DefaultStall
	}
	return &Transport{opts: opts, hosts: map[string]*http.Transport{}}
}

type limitKey struct{}

// WithLimit bounds the bodies of responses to requests with this context.
func WithLimit(ctx context.Context, bytes int64) context.Context {
	return context.WithValue(ctx, limitKey{}, bytes)
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	if req.URL.Scheme != "https" && !t.opts.Insecure.Has(insecure.HTTP) {
		return nil, &Error{Host: host, What: "can only be asked by plain HTTP, which is not allowed without --insecure-options=http"}
	}
	origin := first(req)
	away := origin.URL.Host != req.URL.Host || origin.URL.Scheme != req.URL.Scheme
	if away && req.Body != nil && req.Body != http.NoBody {
		// What is posted to a token server is a secret as well.
		return nil, &Error{Host: origin.URL.Host, What: "sends a request with credentials on to host " + host + ", which is refused"}
	}
	inner, err := t.host(host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	detach := context.AfterFunc(t.opts.Base, func() { cancel(context.Cause(t.opts.Base)) })
	watch := newWatch(t.opts.Stall, cancel)
	out := req.Clone(ctx)
	if away {
		// net/http keeps these for other ports and for subdomains of a host.
		out.Header.Del("Authorization")
		out.Header.Del("Cookie")
	}
	watch.resume()
	resp, err := inner.RoundTrip(out)
	watch.pause(0)
	if err != nil {
		err = explain(host, proxyOf(out), err, context.Cause(ctx), t.opts.Stall)
		watch.stop()
		detach()
		cancel(nil)
		return nil, err
	}
	limit, ok := req.Context().Value(limitKey{}).(int64)
	if !ok {
		limit = DefaultLimit
	}
	resp.Body = &body{
		inner: resp.Body, host: host, limit: limit, left: limit, ctx: ctx, watch: watch, stall: t.opts.Stall,
		end: func() { watch.stop(); detach(); cancel(nil) },
	}
	return resp, nil
}

// proxyOf is the host of the proxy that a request goes through, or "".
func proxyOf(req *http.Request) string {
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host
}

// first is the request that a chain of redirects started with.
func first(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// CloseIdleConnections closes what no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, inner := range t.hosts {
		inner.CloseIdleConnections()
	}
}

func (t *Transport) host(host string) (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if inner, ok := t.hosts[host]; ok {
		return inner, nil
	}
	tlsConfig, err := t.tlsConfig(host)
	if err != nil {
		return nil, &Error{Host: host, What: "cannot be asked", Err: err}
	}
	inner := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         readBuffer,
		// Blobs are verified as they were pushed. Left alone, net/http would
		// offer gzip and unpack what a server then compresses on its own.
		DisableCompression: true,
		// HTTP/2 would send all layers through one connection, and with it
		// through one congestion window and one lock.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	t.hosts[host] = inner
	return inner, nil
}

func (t *Transport) tlsConfig(host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.opts.Insecure.Has(insecure.TLS) {
		conf.InsecureSkipVerify = true
	}
	registry := t.opts.Config.Registry(host)
	if registry.CA != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
		pem, err := readPEM(registry.CA)
		if err != nil {
			return nil, fmt.Errorf("read CA file %q: %w", registry.CA, err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA file %q: it holds no PEM certificate", registry.CA)
		}
		conf.RootCAs = pool
	}
	if registry.ClientCertificate != "" {
		certificate, err := readPEM(registry.ClientCertificate)
		if err != nil {
			return nil, fmt.Errorf("read client certificate %q: %w", registry.ClientCertificate, err)
		}
		key, err := readPEM(registry.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("read client key %q: %w", registry.ClientKey, err)
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("use client certificate %q with key %q: %w", registry.ClientCertificate, registry.ClientKey, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPEM {
		return nil, fmt.Errorf("it is larger than %d bytes", maxPEM)
	}
	return data, nil
}
