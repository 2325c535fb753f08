package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/regclient/regclient/types/errs"

	"github.com/rkt/rkt/image/rkt-fetch/transport"
)

// Failure is why a registry did not give what it was asked for, in one
// sentence.
type Failure struct {
	What       string
	Status     int           // of HTTP, if that was it
	Transient  bool          // trying again may help
	Progress   bool          // some of it came before it failed
	RetryAfter time.Duration // as the registry asked
	Err        error
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return f.What
	}
	return fmt.Sprintf("%s: %v", f.What, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// NotFound reports whether an error says that a registry does not have what
// was asked for.
func NotFound(err error) bool {
	var failure *Failure
	return errors.As(err, &failure) && failure.Status == http.StatusNotFound
}

// failure finds the sentence for an error of regclient. what is the thing
// asked for: "image team/app:1".
func (c *call) failure(what string, err error) error {
	if known := knownFailure(err); known != nil {
		return known
	}
	if c.status == http.StatusUnauthorized {
		if _, failed := c.wire.tokenFailure(c.since); failed != nil {
			if known := knownFailure(failed); known != nil {
				return known
			}
			return failed
		}
	}
	switch {
	case strings.Contains(err.Error(), "stopped after 10 redirects"):
		return &Failure{What: fmt.Sprintf("registry %s redirects without end", c.ep.host)}
	case errors.Is(err, errs.ErrHTTPRedirectRefused):
		return &Failure{What: fmt.Sprintf("registry %s sends us on to plain HTTP or to this machine itself, which is refused for %s", c.ep.host, what)}
	case c.status != 0:
		return c.refusal(what)
	case c.broken != nil:
		return c.broken
	case errors.Is(err, errs.ErrDigestMismatch):
		return &Failure{What: fmt.Sprintf("registry %s answers with a document that does not have the digest of %s", c.ep.host, what)}
	case errors.Is(err, errs.ErrSizeLimitExceeded):
		return &Failure{What: fmt.Sprintf("registry %s answers with more than the allowed %d bytes for %s", c.ep.host, c.limit, what)}
	}
	return &Failure{What: fmt.Sprintf("registry %s answers with something that is not %s", c.ep.host, what), Err: errors.New(transport.OneLine(err.Error()))}
}

// knownFailure is what our own code has said already, if it is that.
func knownFailure(err error) error {
	var failure *Failure
	if errors.As(err, &failure) {
		return failure
	}
	var broken *transport.Error
	if errors.As(err, &broken) {
		return &Failure{What: broken.Error(), Transient: broken.Transient}
	}
	return nil
}

// refusal words an HTTP status.
func (c *call) refusal(what string) error {
	status := fmt.Sprintf("%d %s", c.status, http.StatusText(c.status))
	if c.message != "" {
		status += ", " + c.message
	}
	f := &Failure{Status: c.status, RetryAfter: c.after}
	switch {
	case c.status == http.StatusNotFound:
		f.What = fmt.Sprintf("registry %s has no %s (%s)", c.ep.host, what, status)
	case c.status == http.StatusUnauthorized || c.status == http.StatusForbidden:
		f.What = fmt.Sprintf("registry %s refuses access to %s (%s); %s", c.ep.host, what, status, c.ep.cred.advice(c.ep.host))
	case c.status == http.StatusTooManyRequests:
		f.What = fmt.Sprintf("registry %s wants to be asked less often for %s (%s)", c.ep.host, what, status)
		f.Transient = true
	case c.status >= 500 || c.status == http.StatusRequestTimeout:
		f.What = fmt.Sprintf("registry %s fails to answer for %s (%s)", c.ep.host, what, status)
		f.Transient = c.status != http.StatusNotImplemented
	default:
		f.What = fmt.Sprintf("registry %s refuses to answer for %s (%s)", c.ep.host, what, status)
	}
	return f
}

func (cred Credential) advice(host string) string {
	switch {
	case cred.User != "":
		return fmt.Sprintf("it does not accept user %q from %s", cred.User, cred.Source)
	case cred.IdentityToken != "" || cred.BearerToken != "":
		return fmt.Sprintf("it does not accept the token from %s", cred.Source)
	}
	return fmt.Sprintf("no credentials are configured for it, add a file for %q to auth.d or log in with \"docker login\"", host)
}
