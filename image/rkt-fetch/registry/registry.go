// Package registry reads images from registries by the OCI distribution
// specification (https://github.com/opencontainers/distribution-spec).
//
// The protocol (paths, authentication, referrers) is regclient's; this package
// adds what a fetch needs on top: mirrors in order, retries with one back-off,
// resuming a blob at any byte, bounds on everything, and errors that are
// sentences. It verifies nothing about blobs: that is the store's writer's
// job, which also knows bytes of earlier runs.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	regconfig "github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/ref"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/internal/insecure"
)

const (
	hub       = "docker.io"
	hubServer = "registry-1.docker.io"

	// attempts is how often something is tried again without progress.
	attempts     = 5
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 5 * time.Second
	maxBackoff   = time.Minute // also when a server asks for more
)

// Credential is what a registry is shown when it asks who we are. Empty
// fields are not there; the zero value is an anonymous user.
type Credential struct {
	User, Password string
	IdentityToken  string // traded for access tokens at the registry's token server
	BearerToken    string // shown as it is
	Source         string // where it comes from, for messages
}

// Options of a Source.
type Options struct {
	Ref       reference.Reference
	Config    *config.Config
	Insecure  insecure.Options
	Transport *transport.Transport
	// Credentials are those for Hosts; one that is missing is anonymous.
	Credentials map[string]Credential
	Note        func(line string) // told of retries
}

// Source is the repository of one image, at its registry and its mirrors. It is
// a source.Source.
type Source struct {
	opts      Options
	wire      *wire
	hosts     []*regconfig.Host
	client    *reg.Reg
	endpoints []endpoint // mirrors in order, the registry itself last
	backoff   time.Duration
}

// endpoint is one place where the repository may be found.
type endpoint struct {
	host   string // as in image names and configuration
	server string // as in URLs
	path   string // repository
	cred   Credential
	plain  bool
}

// Hosts lists the registry of an image and its mirrors, for which credentials
// may be needed.
func Hosts(ref reference.Reference, conf *config.Config) []string {
	var hosts []string
	for _, ep := range endpoints(ref, conf) {
		hosts = append(hosts, ep.host)
	}
	return hosts
}

func endpoints(ref reference.Reference, conf *config.Config) []endpoint {
	var list []endpoint
	for _, mirror := range conf.Registry(ref.Host).Mirrors {
		host, prefix, _ := strings.Cut(mirror, "/")
		path := ref.Path
		if prefix != "" {
			path = prefix + "/" + path
		}
		list = append(list, endpoint{host: host, path: path})
	}
	return append(list, endpoint{host: ref.Host, path: ref.Path})
}

// New finds out how the registry and its mirrors are to be asked. Only with
// --insecure-options=http it contacts them, to learn which speaks plain HTTP.
func New(ctx context.Context, opts Options) *Source {
	s := &Source{opts: opts, wire: &wire{next: opts.Transport}, backoff: firstBackoff}
	s.endpoints = endpoints(opts.Ref, opts.Config)
	for i := range s.endpoints {
		ep := &s.endpoints[i]
		s.prepare(ctx, ep)
		s.hosts = append(s.hosts, ep.settings())
	}
	s.client = s.connect()
	return s
}

// connect makes a client that remembers nothing.
func (s *Source) connect() *reg.Reg {
	return reg.New(
		reg.WithConfigHosts(s.hosts),
		reg.WithHTTPClient(&http.Client{Transport: s.wire}),
		reg.WithUserAgent("rkt-fetch"),
		reg.WithSlog(slog.New(slog.DiscardHandler)),
		reg.WithManifestMax(source.MaxDocument, source.MaxDocument),
		// One try and one more with a token; all patience is in retry.
		reg.WithRetryLimit(1),
		reg.WithDelay(time.Millisecond, time.Millisecond),
	)
}

// String implements source.Source.
func (s *Source) String() string { return "registry " + s.opts.Ref.Host }

func (s *Source) prepare(ctx context.Context, ep *endpoint) {
	ep.server = ep.host
	if ep.host == hub {
		ep.server = hubServer
	}
	ep.cred = s.opts.Credentials[ep.host]
	if s.opts.Insecure.Has(insecure.HTTP) {
		ep.plain = s.speaksPlain(ctx, ep.server)
	}
}

// speaksPlain reports whether a server must be asked by plain HTTP: it answers
// so where TLS was tried, or cannot be reached there but can by plain HTTP.
func (s *Source) speaksPlain(ctx context.Context, server string) bool {
	probe := func(scheme string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+server+"/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := s.opts.Transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	err := probe("https")
	var failed *transport.Error
	if err == nil || !errors.As(err, &failed) {
		return false
	}
	return failed.PlainHTTP || !failed.TLS && probe("http") == nil
}

func (ep endpoint) settings() *regconfig.Host {
	tls := regconfig.TLSEnabled
	if ep.plain {
		tls = regconfig.TLSDisabled
	}
	return &regconfig.Host{
		Name:          ep.host,
		Hostname:      ep.server,
		TLS:           tls,
		User:          ep.cred.User,
		Pass:          ep.cred.Password,
		Token:         ep.cred.IdentityToken,
		ReqConcurrent: 64,
	}
}

func (ep endpoint) ref() ref.Ref {
	return ref.Ref{Scheme: "reg", Registry: ep.host, Repository: ep.path}
}

// retry asks one endpoint after the other until one answers, and starts over
// after a pause when trying again may help. What all have refused is final.
// With direct only the registry itself is asked.
func (s *Source) retry(ctx context.Context, direct bool, ask func(ep endpoint) error) error {
	endpoints := s.endpoints
	if direct {
		endpoints = endpoints[len(endpoints)-1:]
	}
	for attempt := 1; ; attempt++ {
		var last error
		var again *Failure // what the registry itself has the last word on
		for _, ep := range endpoints {
			err := ask(ep)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			last, again = err, nil
			var failure *Failure
			if errors.As(err, &failure) {
				if failure.Progress {
					attempt = 1
				}
				if failure.Transient {
					again = failure
				}
			}
		}
		if again == nil || attempt >= attempts {
			if again != nil {
				return fmt.Errorf("%w (tried %d times)", last, attempt)
			}
			return last
		}
		pause := min(s.backoff<<(attempt-1), lastBackoff)
		pause = max(pause, min(again.RetryAfter, maxBackoff))
		s.opts.Note(fmt.Sprintf("%v; trying again in %s", again, pause.Round(time.Millisecond)))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
