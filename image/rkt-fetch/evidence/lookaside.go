package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/rkt-fetch/transport"
	"github.com/rkt/rkt/image/trust"
)

// maxLookaside is how many signatures of one image are read. A server that
// answers every question would otherwise be asked without end.
const maxLookaside = 32

// Lookaside is a tree of OpenPGP simple signatures beside a registry, at
// BASE/PATH@sha256=HEX/signature-N.
type Lookaside struct {
	Base   string // https://… or file:///…
	Path   string // of the repository, without its host
	Client *http.Client
}

func (l *Lookaside) collect(ctx context.Context, subject digest.Digest) Found {
	var found Found
	for n := 1; ; n++ {
		place := fmt.Sprintf("%s/%s@%s=%s/signature-%d", l.Base, l.Path, subject.Algorithm(), subject.Encoded(), n)
		if n > maxLookaside {
			found.leaveOut("signature %s and those after it are left out, more than %d are not read", place, maxLookaside)
			return found
		}
		data, err := l.read(ctx, place)
		if errors.Is(err, fs.ErrNotExist) {
			return found
		}
		if err != nil {
			found.leaveOut("signature %s %v", place, err)
			return found
		}
		found.Items = append(found.Items, trust.Evidence{Format: trust.OpenPGPSimple, Subject: subject, Signature: data})
	}
}

// read returns fs.ErrNotExist where there is no signature.
func (l *Lookaside) read(ctx context.Context, place string) ([]byte, error) {
	if path, ok := strings.CutPrefix(place, "file://"); ok {
		plain, err := url.PathUnescape(path)
		if err != nil {
			return nil, fmt.Errorf("cannot be read: %w", err)
		}
		return readFile(plain)
	}
	req, err := http.NewRequestWithContext(transport.WithLimit(ctx, maxItem+1), http.MethodGet, place, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot be asked for: %w", err)
	}
	resp, err := l.Client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return bounded(resp.Body)
	case http.StatusNotFound, http.StatusGone:
		return nil, fs.ErrNotExist
	}
	return nil, fmt.Errorf("cannot be read: host %s answers %d %s", req.URL.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	return bounded(f)
}

func bounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxItem+1))
	if len(data) > maxItem {
		return nil, fmt.Errorf("is larger than %d bytes", maxItem)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return data, nil
}

// File reads a signature that the user gives for an image in a registry: a
// Sigstore bundle or an OpenPGP simple signature.
func File(path string, subject digest.Digest) (trust.Evidence, error) {
	data, err := ReadFile(path)
	if err != nil {
		return trust.Evidence{}, err
	}
	format := trust.OpenPGPSimple
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		format = trust.SigstoreBundle
	}
	return trust.Evidence{Format: format, Subject: subject, Signature: data}, nil
}

// ReadFile reads a signature file, bounded.
func ReadFile(path string) ([]byte, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("does not exist")
	}
	if err != nil {
		return nil, fmt.Errorf("signature file %q %w", path, err)
	}
	return data, nil
}
