package pod

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxLogLine bounds a line of a log. init writes at most 16 KiB of text and a
// short head.
const maxLogLine = 64 << 10

// LogEntry is one line of a log, in the format of the container runtime
// interface: "TIME STREAM TAG TEXT", the time as of RFC 3339.
type LogEntry struct {
	Time    time.Time
	Stream  string // "stdout" or "stderr"
	Partial bool   // Text is not the end of the app's line (tag P, not F)
	Text    []byte
}

// ParseLogEntry reads a line without its line feed. Text is a part of it.
func ParseLogEntry(line []byte) (LogEntry, error) {
	when, rest, _ := bytes.Cut(line, []byte(" "))
	stream, rest, _ := bytes.Cut(rest, []byte(" "))
	tag, text, found := bytes.Cut(rest, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(when))
	e := LogEntry{Time: at, Stream: string(stream), Partial: string(tag) == "P", Text: text}
	if err != nil || !found || (e.Stream != "stdout" && e.Stream != "stderr") || (!e.Partial && string(tag) != "F") {
		return LogEntry{}, fmt.Errorf("read log: %.60q is not a line of a log", line)
	}
	return e, nil
}

// Log reads what an app has written, the older file first, and goes on with a
// file that takes the place of the one being read. The lines of a log that is
// written on may be read as they come: see Wait.
type Log struct {
	pod     *Pod
	name    string // of the younger file, relative to the pod
	files   []*os.File
	line    *bufio.Reader
	pending []byte
	drained bool // the file being read was put aside, and nothing can be added to it
}

// Log opens the log of an app. An app that has written nothing has an empty
// one. The pod must stay open as long as the Log is used.
func (p *Pod) Log(app string) (*Log, error) {
	l := &Log{pod: p, name: AppsDir + "/" + app + "/" + LogFile}
	for {
		older, err := p.openLog(l.name + ".1")
		if err != nil {
			return nil, err
		}
		younger, err := p.openLog(l.name)
		if err != nil {
			return nil, errors.Join(err, closeAll(older))
		}
		if same, err := p.isFile(older, l.name+".1"); err != nil || !same {
			if err := errors.Join(err, closeAll(older, younger)); err != nil {
				return nil, err
			}
			continue // put aside in between
		}
		for _, f := range []*os.File{older, younger} {
			if f != nil {
				l.files = append(l.files, f)
			}
		}
		return l, nil
	}
}

// Close closes the log's files.
func (l *Log) Close() error { return closeAll(l.files...) }

func closeAll(files ...*os.File) error {
	var errs []error
	for _, f := range files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// openLog opens a log file; there may be none.
func (p *Pod) openLog(name string) (*os.File, error) {
	fd, err := unix.Openat(p.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, p.pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// isFile reports whether a name still stands for an open file, or, for nil,
// still for none.
func (p *Pod) isFile(f *os.File, name string) (bool, error) {
	var named, open unix.Stat_t
	err := unix.Fstatat(p.fd(), name, &named, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return f == nil, nil
	}
	if err != nil {
		return false, p.pathError("stat", name, err)
	}
	if f == nil {
		return false, nil
	}
	if err := unix.Fstat(int(f.Fd()), &open); err != nil {
		return false, p.pathError("stat", name, err)
	}
	return named.Dev == open.Dev && named.Ino == open.Ino, nil
}

// Next gives the next line, without its line feed, until the next call. With
// io.EOF there is none yet; it may be called again.
func (l *Log) Next() ([]byte, error) {
	for {
		if l.line != nil {
			line, err := l.read()
			if !errors.Is(err, io.EOF) {
				return line, err
			}
		}
		more, err := l.advance()
		if err != nil {
			return nil, err
		}
		if !more {
			return nil, io.EOF
		}
	}
}

// read gives the next line of the file being read.
func (l *Log) read() ([]byte, error) {
	if len(l.pending) > 0 && l.pending[len(l.pending)-1] == '\n' {
		l.pending = l.pending[:0]
	}
	for {
		part, err := l.line.ReadSlice('\n')
		l.pending = append(l.pending, part...)
		if len(l.pending) > maxLogLine {
			return nil, fmt.Errorf("read log %q: a line is longer than %d bytes", l.name, maxLogLine)
		}
		if err == nil {
			return l.pending[:len(l.pending)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// advance goes on to the next file when nothing can be added to this one any
// more. It reports whether reading may give something.
func (l *Log) advance() (bool, error) {
	switch {
	case l.line == nil && len(l.files) > 0:
		l.line = bufio.NewReader(l.files[0])
		return true, nil
	case len(l.files) > 1 || l.drained:
		if err := l.files[0].Close(); err != nil {
			return false, err
		}
		l.files, l.line, l.drained = l.files[1:], nil, false
		l.pending = l.pending[:0]
		return true, nil
	case len(l.files) == 0:
		f, err := l.pod.openLog(l.name)
		if err != nil || f == nil {
			return false, err
		}
		l.files = append(l.files, f)
		return true, nil
	}
	same, err := l.pod.isFile(l.files[0], l.name)
	if err == nil && !same {
		l.drained = true // once what was written before that has been read
		return true, nil
	}
	return false, err
}

// Wait waits until there may be more to read, or until ctx ends.
func (l *Log) Wait(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	watch := os.NewFile(uintptr(fd), "inotify")
	defer watch.Close()
	// Through the descriptor: the pod may have been moved.
	dir := fmt.Sprintf("/proc/self/fd/%d/%s", l.pod.fd(), l.name[:len(l.name)-len(LogFile)-1])
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF); err != nil {
		return &os.PathError{Op: "watch", Path: dir, Err: err}
	}
	if l.grown() {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = watch.SetReadDeadline(time.Unix(1, 0)) })()
	var events [4096]byte
	_, err = watch.Read(events[:])
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// grown reports whether something was written before the watch began.
func (l *Log) grown() bool {
	if len(l.files) == 0 {
		same, err := l.pod.isFile(nil, l.name)
		return err != nil || !same
	}
	f := l.files[0]
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return true
	}
	info, err := f.Stat()
	if err != nil || info.Size() != at {
		return true
	}
	same, err := l.pod.isFile(f, l.name)
	return err != nil || !same
}
