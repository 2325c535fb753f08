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
	"strings"
	"syscall"
	"time"
)

// errStalled is the cause with which a watch cancels.
var errStalled = errors.New("stalled")

// Error is why a host could not be asked, as the end of a sentence that
// begins with it. Transient says that trying again may help.
type Error struct {
	Host      string
	What      string
	Transient bool
	PlainHTTP bool  // it answers in plain HTTP where TLS was tried
	TLS       bool  // it speaks TLS, in a way that is not accepted
	Err       error // detail, or nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("host %s %s", e.Host, e.What)
	}
	return fmt.Sprintf("host %s %s: %v", e.Host, e.What, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

const certificateHint = "name its CA in a file of registry.d (field \"ca\"), or accept any certificate with --insecure-options=tls"

// explain finds the sentence for an error of net/http. cause is why the
// context of the request ended, or nil; proxy is the one that was asked, or "".
func explain(host, proxy string, err, cause error, stall time.Duration) error {
	if errors.Is(cause, errStalled) {
		return &Error{Host: host, What: fmt.Sprintf("sends next to nothing for %s", stall), Transient: true}
	}
	if cause != nil {
		return cause
	}
	if e := explainTLS(host, err); e != nil {
		e.TLS = !e.PlainHTTP
		return e
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return &Error{Host: host, What: fmt.Sprintf("cannot be asked through proxy %s", proxy), Transient: true, Err: errors.New(OneLine(op.Err.Error()))}
	case errors.As(err, &dns) && dns.IsNotFound:
		return &Error{Host: host, What: "has a name that cannot be resolved"}
	case errors.As(err, &dns):
		return &Error{Host: host, What: "has a name that cannot be resolved now", Transient: true, Err: errors.New(OneLine(dns.Err))}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Host: host, What: "refuses connections", Transient: true}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE):
		return &Error{Host: host, What: "ends the connection early", Transient: true}
	case isTimeout(err):
		return &Error{Host: host, What: "does not answer in time", Transient: true}
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "malformed MIME header"),
		strings.Contains(err.Error(), "invalid header"), strings.Contains(err.Error(), "malformed chunked"), strings.Contains(err.Error(), "response headers exceeded"):
		return &Error{Host: host, What: "answers with something that is not HTTP"}
	}
	what := "cannot be asked"
	if proxy != "" {
		// A proxy's refusal to connect has no type of its own.
		what += " through proxy " + proxy
	}
	return &Error{Host: host, What: what, Transient: true, Err: errors.New(OneLine(err.Error()))}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// explainTLS returns nil for what is not about TLS.
func explainTLS(host string, err error) *Error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var op *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return &Error{Host: host, What: "answers in plain HTTP, which is not allowed without --insecure-options=http", PlainHTTP: true}
	case errors.As(err, &unknown):
		return &Error{Host: host, What: "has a certificate of an authority that is not trusted; " + certificateHint}
	case errors.As(err, &name):
		return &Error{Host: host, What: "has a certificate that is not for this name; ask it under a name in its certificate, or accept any certificate with --insecure-options=tls"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &Error{Host: host, What: "has a certificate that is expired or not yet valid; renew it, check this machine's clock, or accept any certificate with --insecure-options=tls"}
	case errors.As(err, &verify):
		return &Error{Host: host, What: "has a certificate that cannot be verified; " + certificateHint, Err: errors.New(OneLine(verify.Err.Error()))}
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate"):
		return &Error{Host: host, What: "asks for a client certificate that it accepts; name one in a file of registry.d (fields \"clientCertificate\" and \"clientKey\")"}
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"):
		return &Error{Host: host, What: "ends the TLS handshake", Err: errors.New(OneLine(op.Err.Error()))}
	case errors.As(err, &record):
		return &Error{Host: host, What: "does not speak TLS"}
	}
	return nil
}

// OneLine makes text of a server fit for an error: one bounded line without
// control characters.
func OneLine(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func byteCount(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
