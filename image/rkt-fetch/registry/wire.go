package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/regclient/regclient/types/errs"

	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
)

// maxComplaint is how much of an error's body is read for its message.
const maxComplaint = 16 << 10

// call is one thing asked of one endpoint, which may take several requests, one
// after the other: without and with a token, through redirects, page by page. It carries
// what regclient has no word for to the wire below it, and brings back why
// something failed.
type call struct {
	ep    endpoint
	wire  *wire
	since int   // failures of token servers before it
	limit int64 // bytes of a body
	most  int   // requests
	types []string
	blob  *blobCall // nil for documents

	requests int
	status   int // of the last answer that was an error, else 0
	message  string
	after    time.Duration
	broken   error // why the last request had no answer that could be used
	refused  error // what the wire itself refused, ever
	worst    int   // the highest status seen, for answers that regclient hides
}

// blobCall asks for the bytes of a blob from an offset on.
type blobCall struct {
	size   int64
	offset int64 // where we would like to continue
	start  int64 // where the server's answer starts
}

type callKey struct{}

func (c *call) in(ctx context.Context) context.Context {
	c.since, _ = c.wire.tokenFailure(0)
	return context.WithValue(transport.WithLimit(ctx, c.limit), callKey{}, c)
}

// wire is the http.RoundTripper below regclient.
type wire struct {
	next http.RoundTripper

	mu       sync.Mutex
	failures int   // of token servers
	failed   error // the last one
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	c, ok := req.Context().Value(callKey{}).(*call)
	if !ok {
		return w.token(req)
	}
	out, err := c.outgoing(req)
	if err == nil {
		var resp *http.Response
		if resp, err = w.next.RoundTrip(out); err == nil {
			if err = c.incoming(req, resp); err == nil {
				return resp, nil
			}
			_ = resp.Body.Close()
		}
	}
	c.broken = err
	var refused *Failure
	if errors.As(err, &refused) {
		c.refused = refused
	}
	return nil, fmt.Errorf("%w%.0w", err, errs.ErrNotRetryable)
}

// token makes a request to a token server, for which regclient does not use our
// context. It then takes any failure for a no, so the reason is kept here.
func (w *wire) token(req *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(req)
	failed := err
	if err == nil && resp.StatusCode >= 500 {
		failed = &Failure{What: fmt.Sprintf("token server %s fails (%d %s)", req.URL.Host, resp.StatusCode, http.StatusText(resp.StatusCode)), Transient: true}
	}
	if failed != nil {
		w.mu.Lock()
		w.failures++
		w.failed = failed
		w.mu.Unlock()
	}
	return resp, err
}

// tokenFailure is why a token server failed since a number of failures.
func (w *wire) tokenFailure(since int) (now int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures > since {
		err = w.failed
	}
	return w.failures, err
}

func (c *call) outgoing(req *http.Request) (*http.Request, error) {
	if c.requests++; c.requests > c.most {
		return nil, &Failure{What: fmt.Sprintf("registry %s answers without end, after %d requests", c.ep.host, c.most)}
	}
	own := req.URL.Host == c.ep.server
	if !own && req.Response == nil {
		// The link to a next page, for instance.
		return nil, &Failure{What: fmt.Sprintf("registry %s points to another host, %s", c.ep.host, req.URL.Host)}
	}
	bearer := own && c.ep.cred.BearerToken != ""
	if c.blob == nil && !bearer {
		return req, nil
	}
	req = req.Clone(req.Context())
	if bearer && req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+c.ep.cred.BearerToken)
	}
	if c.blob != nil && c.blob.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", c.blob.offset))
	}
	return req, nil
}

func (c *call) incoming(req *http.Request, resp *http.Response) error {
	status := resp.StatusCode
	failed := status >= 400
	c.status, c.message, c.after, c.broken = 0, "", 0, nil
	if failed {
		c.status, c.worst = status, max(c.worst, status)
	}
	after := resp.Header.Get("Retry-After")
	resp.Header.Del("Retry-After") // regclient would obey without bounds
	switch {
	case failed:
		complaint, err := io.ReadAll(io.LimitReader(resp.Body, maxComplaint))
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(complaint))
		if err != nil {
			return err
		}
		c.message, c.after = complaintOf(resp.Header, complaint), retryAfter(after)
		return nil
	case status >= 300:
		return nil
	case c.blob != nil:
		return c.blob.check(c.ep, resp)
	case req.Method == http.MethodGet:
		return c.checkType(resp)
	}
	return nil
}

// check turns an answer to a request for a range into the whole answer that
// regclient expects, and refuses one that contradicts the manifest.
func (b *blobCall) check(ep endpoint, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK: // the range was ignored
		b.start = 0
	case http.StatusPartialContent:
		first, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || first != b.offset {
			return &Failure{What: fmt.Sprintf("registry %s answers a request for bytes from %d with the range %q", ep.host, b.offset, transport.OneLine(resp.Header.Get("Content-Range")))}
		}
		if total >= 0 && total != b.size {
			return b.lies(ep, total)
		}
		b.start = first
		resp.StatusCode, resp.Status = http.StatusOK, "200 OK"
	default:
		return &Failure{What: fmt.Sprintf("registry %s answers a request for a blob with status %d", ep.host, resp.StatusCode)}
	}
	if resp.ContentLength >= 0 && resp.ContentLength != b.size-b.start {
		return b.lies(ep, b.start+resp.ContentLength)
	}
	return nil
}

func (b *blobCall) lies(ep endpoint, size int64) error {
	return &Failure{What: fmt.Sprintf("registry %s says it has %d bytes, its manifest says %d", ep.host, size, b.size)}
}

// contentRange reads "bytes FIRST-LAST/TOTAL"; an unknown total is -1.
func contentRange(s string) (first, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, all, slash := strings.Cut(s, "/")
	from, to, dash := strings.Cut(span, "-")
	if !ok || !slash || !dash {
		return 0, 0, false
	}
	first, err := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if err != nil || err2 != nil || first < 0 || last < first {
		return 0, 0, false
	}
	if all == "*" {
		return first, -1, true
	}
	total, err = strconv.ParseInt(all, 10, 64)
	if err != nil || total <= last {
		return 0, 0, false
	}
	return first, total, true
}

// checkType refuses what is not one of the documents asked for, such as the
// login page of a network that wants to be paid.
func (c *call) checkType(resp *http.Response) error {
	name, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		name = resp.Header.Get("Content-Type")
	}
	if strings.HasPrefix(name, source.DockerSchema1) {
		return &Failure{What: fmt.Sprintf("registry %s has it only as a Docker schema 1 manifest, a format that cannot be verified and was given up in 2017; push the image again with a current tool", c.ep.host)}
	}
	for _, known := range c.types {
		if name == known {
			return nil
		}
	}
	return &Failure{What: fmt.Sprintf("registry %s answers with content of type %q, which is not an image", c.ep.host, transport.OneLine(name))}
}

// complaintOf is the first message of the errors that a registry lists.
func complaintOf(header http.Header, body []byte) string {
	var list struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &list); err == nil && len(list.Errors) > 0 {
		if message := transport.OneLine(list.Errors[0].Message); message != "" {
			return message
		}
		return transport.OneLine(list.Errors[0].Code)
	}
	if strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		return transport.OneLine(string(body))
	}
	return ""
}

func retryAfter(s string) time.Duration {
	if seconds, err := strconv.ParseInt(s, 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return time.Until(at)
	}
	return 0
}
