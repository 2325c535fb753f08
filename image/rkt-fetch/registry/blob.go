package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/types/descriptor"

	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
)

const (
	copyBuffer = 1 << 20
	// progress is how much must come between two failures for the server to
	// be given all attempts again.
	progress = 1 << 20
)

// writeError is the sink's failure, which no retry mends.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// Blob copies a blob into a sink, continuing where the sink is, through any
// number of broken connections. With direct no mirror is asked. A layer that
// claims to be found at foreign URLs is asked of the registry all the same:
// those URLs are never followed.
func (s *Source) Blob(ctx context.Context, desc ocispec.Descriptor, sink source.Sink, direct bool) error {
	buffer := make([]byte, copyBuffer)
	mark := sink.Offset()
	return s.retry(ctx, direct, func(ep endpoint) error {
		if sink.Offset() == desc.Size {
			return nil
		}
		err := s.copyBlob(ctx, ep, desc, sink, buffer)
		var failed writeError
		if errors.As(err, &failed) {
			return failed.error
		}
		var failure *Failure
		if errors.As(err, &failure) && sink.Offset()-mark >= progress {
			failure.Progress = true
			mark = sink.Offset()
		}
		return err
	})
}

func (s *Source) copyBlob(ctx context.Context, ep endpoint, desc ocispec.Descriptor, sink source.Sink, buffer []byte) error {
	what := "blob " + desc.Digest.String()
	b := &blobCall{size: desc.Size, offset: sink.Offset()}
	c := &call{ep: ep, wire: s.wire, limit: desc.Size + 1, most: maxRequests, blob: b}
	resp, err := s.client.BlobGet(c.in(ctx), ep.ref(), descriptor.Descriptor{Digest: desc.Digest})
	if err != nil {
		err = c.failure(what, err)
		var failure *Failure
		if errors.As(err, &failure) && failure.Status == http.StatusRequestedRangeNotSatisfiable {
			if err := sink.Restart(); err != nil {
				return writeError{err}
			}
			failure.Transient = true
		}
		return err
	}
	defer func() { _ = resp.Close() }()
	if b.start != b.offset {
		if err := sink.Restart(); err != nil {
			return writeError{err}
		}
	}
	// regclient's reader would hash what the sink hashes anyway, and fail for
	// a blob that does not start at 0.
	body := resp.Response().Body //nolint:bodyclose // resp.Close does
	for sink.Offset() < desc.Size {
		n, err := body.Read(buffer[:min(copyBuffer, desc.Size-sink.Offset())])
		if n > 0 {
			if _, err := sink.Write(buffer[:n]); err != nil {
				return writeError{err}
			}
		}
		if errors.Is(err, io.EOF) && sink.Offset() < desc.Size {
			err = &transport.Error{Host: ep.host, What: fmt.Sprintf("ends %s after %d of %d bytes", what, sink.Offset(), desc.Size), Transient: true}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return c.failure(what, err)
		}
	}
	if n, _ := body.Read(buffer[:1]); n > 0 {
		return &Failure{What: fmt.Sprintf("registry %s sends more than the %d bytes that its manifest says of %s", ep.host, desc.Size, what)}
	}
	return nil
}

// Document copies a small blob into memory. It is not verified.
func (s *Source) Document(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	m := &memory{}
	if err := s.Blob(ctx, desc, m, false); err != nil {
		return nil, err
	}
	return m.data, nil
}

// memory is a source.Sink. The caller has bounded what goes in.
type memory struct{ data []byte }

func (m *memory) Offset() int64 { return int64(len(m.data)) }

func (m *memory) Write(p []byte) (int, error) {
	m.data = append(m.data, p...)
	return len(p), nil
}

func (m *memory) Restart() error {
	m.data = nil
	return nil
}
