package unpack

import (
	"errors"
	"fmt"
	"io"
)

// Limits bound what one layer may cost. A field that is zero stands for its
// default, which is generous: no image that was made to be run comes near it.
type Limits struct {
	Entries     int64 `json:"entries,omitempty"`     // headers in the archive
	Size        int64 `json:"size,omitempty"`        // bytes of the uncompressed archive, and of all files with their holes
	Ratio       int64 `json:"ratio,omitempty"`       // expanded bytes for each byte of the blob, once Floor is exceeded
	Floor       int64 `json:"floor,omitempty"`       // expanded bytes from which Ratio counts
	Window      int64 `json:"window,omitempty"`      // bytes of zstd's window, which the decoder must keep in memory
	PathLength  int   `json:"pathLength,omitempty"`  // bytes of a name or of a link's target
	Depth       int   `json:"depth,omitempty"`       // directories above an entry
	Xattrs      int   `json:"xattrs,omitempty"`      // bytes of one entry's extended attributes
	Directories int64 `json:"directories,omitempty"` // bytes of memory for the names of all directories
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// DefaultLimits are the limits that stand in for fields that are zero.
func DefaultLimits() Limits {
	return Limits{
		Entries:     4 << 20,
		Size:        128 * gib,
		Ratio:       100,
		Floor:       gib,
		Window:      128 * mib,
		PathLength:  4095, // PATH_MAX without its NUL
		Depth:       512,
		Xattrs:      256 * kib,
		Directories: 256 * mib,
	}
}

// MaxSize is the limit of a layer's size, and thus of each file's.
func (l Limits) MaxSize() int64 { return l.orDefault().Size }

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ set, def *int64 }{
		{&l.Entries, &d.Entries}, {&l.Size, &d.Size}, {&l.Ratio, &d.Ratio}, {&l.Floor, &d.Floor},
		{&l.Window, &d.Window}, {&l.Directories, &d.Directories},
	} {
		if *f.set == 0 {
			*f.set = *f.def
		}
	}
	for _, f := range []struct{ set, def *int }{
		{&l.PathLength, &d.PathLength}, {&l.Depth, &d.Depth}, {&l.Xattrs, &d.Xattrs},
	} {
		if *f.set == 0 {
			*f.set = *f.def
		}
	}
	return l
}

// LimitError says which limit a layer exceeds.
type LimitError struct {
	Limit string // the field of Limits, as its JSON name
	Max   int64
}

func (e *LimitError) Error() string {
	what := map[string]string{
		"entries":     "the layer has more than %d entries",
		"size":        "the layer expands to more than %d bytes",
		"ratio":       "the layer expands to more than %d times its compressed size",
		"window":      "the layer's zstd window is larger than %d bytes",
		"pathLength":  "the name is longer than %d bytes",
		"depth":       "the name is more than %d directories deep",
		"xattrs":      "the extended attributes are larger than %d bytes",
		"directories": "the names of the layer's directories need more than %d bytes of memory",
	}[e.Limit]
	return fmt.Sprintf(what+" (limit %q)", e.Max, e.Limit)
}

// expand accounts for n bytes that out, the total so far, already contains.
func (l *Limits) expand(out, in int64) error {
	if out > l.Size || out < 0 {
		return &LimitError{Limit: "size", Max: l.Size}
	}
	if out > l.Floor && out/l.Ratio > in {
		return &LimitError{Limit: "ratio", Max: l.Ratio}
	}
	return nil
}

// counter counts what passes through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) count() int64 { return c.n }

// drain reads to the end, or until more than limit bytes have passed in all.
func (c *counter) drain(buf []byte, limit int64) error {
	for {
		if c.n > limit {
			return &LimitError{Limit: "size", Max: limit}
		}
		if _, err := c.Read(buf); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
