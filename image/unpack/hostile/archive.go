// Package hostile is test data: archives that no honest tool writes, made to
// reach outside of the directory that a layer is unpacked into, or to exhaust
// the one who unpacks it. Only tests import it.
package hostile

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// Archive is a tar archive that is being written. Its nodes belong to the
// caller of the test, so that it unpacks without root.
type Archive struct{ buf bytes.Buffer }

// Bytes ends the archive.
func (a *Archive) Bytes() []byte {
	return append(bytes.Clone(a.buf.Bytes()), make([]byte, 1024)...)
}

// Open returns the archive as it is, without its end.
func (a *Archive) Open() []byte { return bytes.Clone(a.buf.Bytes()) }

// Add writes an entry as archive/tar would.
func (a *Archive) Add(h tar.Header, body string) *Archive {
	h.Size = int64(len(body))
	if h.Uid == 0 && h.Gid == 0 {
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
	}
	if h.ModTime.IsZero() {
		h.ModTime = time.Unix(1700000000, 0)
	}
	w := tar.NewWriter(&a.buf)
	err := w.WriteHeader(&h)
	if err == nil {
		_, err = w.Write([]byte(body))
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		//nolint:forbidigo // a mistake in a test, which ends by it
		panic(fmt.Sprintf("write entry %.80q: %v", h.Name, err))
	}
	return a
}

func (a *Archive) File(name, body string) *Archive {
	return a.Add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body)
}

func (a *Archive) Dir(name string) *Archive {
	return a.Add(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, "")
}

func (a *Archive) Symlink(name, target string) *Archive {
	return a.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "")
}

func (a *Archive) Link(name, target string) *Archive {
	return a.Add(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o777}, "")
}

func (a *Archive) FIFO(name string) *Archive {
	return a.Add(tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o600}, "")
}

// Raw writes a header byte by byte, with whatever archive/tar would refuse.
// The size may promise more than body holds.
func (a *Archive) Raw(name string, flag byte, link string, size int64, body string) *Archive {
	var b [512]byte
	copy(b[0:100], name)
	copy(b[100:108], "0000644\x00")
	copy(b[108:116], fmt.Sprintf("%07o\x00", os.Getuid()&0o7777777))
	copy(b[116:124], fmt.Sprintf("%07o\x00", os.Getgid()&0o7777777))
	copy(b[124:136], number(size))
	copy(b[136:148], "14524350000\x00")
	b[156] = flag
	copy(b[157:257], link)
	copy(b[257:265], "ustar\x0000")
	return a.header(b, body)
}

// Sparse writes a file in the old GNU format: it has the real size, and its
// content lies at the offset.
func (a *Archive) Sparse(name string, realSize, offset int64, body string) *Archive {
	var b [512]byte
	copy(b[0:100], name)
	copy(b[100:108], "0000644\x00")
	copy(b[108:116], fmt.Sprintf("%07o\x00", os.Getuid()&0o7777777))
	copy(b[116:124], fmt.Sprintf("%07o\x00", os.Getgid()&0o7777777))
	copy(b[124:136], number(int64(len(body))))
	copy(b[136:148], "14524350000\x00")
	b[156] = tar.TypeGNUSparse
	copy(b[257:265], "ustar  \x00")
	copy(b[386:398], number(offset))
	copy(b[398:410], number(int64(len(body))))
	copy(b[483:495], number(realSize))
	return a.header(b, body)
}

// Records writes a pax header for the next entry, as it is.
func (a *Archive) Records(keysAndValues ...string) *Archive {
	var body strings.Builder
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		rest := " " + keysAndValues[i] + "=" + keysAndValues[i+1] + "\n"
		size := len(rest)
		for size != len(rest)+len(fmt.Sprint(size)) {
			size = len(rest) + len(fmt.Sprint(size))
		}
		fmt.Fprintf(&body, "%d%s", size, rest)
	}
	return a.Raw("PaxHeaders/x", tar.TypeXHeader, "", int64(body.Len()), body.String())
}

func (a *Archive) header(b [512]byte, body string) *Archive {
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	a.buf.Write(b[:])
	a.buf.WriteString(body)
	a.buf.Write(make([]byte, -len(body)&511))
	return a
}

// number is octal as far as that goes, and base 256 beyond.
func number(n int64) []byte {
	if n >= 0 && n < 1<<33 {
		return fmt.Appendf(nil, "%011o\x00", n)
	}
	b := make([]byte, 12)
	for i := 11; i > 0; i-- {
		b[i] = byte(n)
		n >>= 8
	}
	b[0] = 0x80
	if n < 0 {
		b[0] = 0xff
	}
	return b
}
