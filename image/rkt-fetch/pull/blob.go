package pull

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/store"
)

// silent is a Track for what is too small to be shown.
type silent struct{}

func (silent) At(int64)   {}
func (silent) Unpacking() {}
func (silent) Done()      {}

// blob makes sure that a blob is in the store.
func (f *fetch) blob(ctx context.Context, desc ocispec.Descriptor, track Track) error {
	if ok, err := f.lease.HasBlob(desc); err != nil || ok {
		return err
	}
	for direct := false; ; direct = true {
		sink := &sink{lease: f.lease, desc: desc, track: track}
		resumed, err := f.copy(ctx, sink, direct)
		if err == nil {
			return nil
		}
		// Bytes of an earlier run may have been damaged by a power cut, or been
		// a lie already then; those of a mirror may be the mirror's fault.
		if direct || !errors.Is(err, store.ErrMismatch) {
			return err
		}
		f.Progress.Note(fmt.Sprintf("%v; it is fetched again from its start (%d bytes of it were kept from earlier)", err, resumed))
	}
}

// copy makes one attempt, which itself may take many requests.
func (f *fetch) copy(ctx context.Context, s *sink, direct bool) (resumed int64, err error) {
	notice := f.notice("blob", s.desc.Digest)
	err = s.open()
	notice.Stop()
	if err != nil {
		return 0, err
	}
	resumed = s.w.Offset()
	err = f.origin.Blob(ctx, s.desc, s, direct)
	if err == nil {
		err = s.w.Commit()
	}
	if errors.Is(err, store.ErrMismatch) {
		err = fmt.Errorf("%s gives something else: %w", f.origin, err)
	}
	if isFull(err) || isFull(context.Cause(ctx)) {
		// What cannot be finished would only keep the disk full.
		s.w.Discard()
	}
	if closed := s.w.Close(); err == nil {
		err = closed
	}
	return resumed, err
}

// sink is a source.Sink into the store.
type sink struct {
	lease *store.Lease
	desc  ocispec.Descriptor
	track Track
	w     *store.Writer
}

func (s *sink) open() (err error) {
	s.w, err = s.lease.Writer(s.desc)
	if err == nil {
		s.track.At(s.w.Offset())
	}
	return err
}

func (s *sink) Offset() int64 { return s.w.Offset() }

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.track.At(s.w.Offset())
	return n, err
}

func (s *sink) Restart() error {
	s.w.Discard()
	return s.open()
}
