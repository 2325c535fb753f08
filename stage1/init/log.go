package main

import (
	"bytes"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/control"
)

const logName = pod.LogFile

// maxLog is the size at which a log becomes log.1, and the older one goes. So
// an app's logs take at most twice that.
const maxLog = 16 << 20

// maxLine bounds a line in memory; longer ones are logged in parts.
const maxLine = 16 << 10

// logFile is an app's log in the format of the container runtime interface:
// "<RFC 3339 time> <stream> <F|P> <text>", P for a part of a line. The file is
// made with the first line. A log that cannot be written is given up: the app
// must not suffer.
type logFile struct {
	mu   sync.Mutex
	name string // relative to the pod directory
	f    *os.File
	size int64
	dead bool
}

func (l *logFile) append(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return
	}
	if l.f != nil && l.size+int64(len(line)) > maxLog {
		l.f.Close()
		l.f = nil
		_ = unix.Renameat(control.PodFD, l.name, control.PodFD, l.name+".1")
	}
	if l.f == nil {
		f, err := createAt(l.name, unix.O_APPEND)
		if err != nil {
			l.dead = true
			return
		}
		l.f, l.size = f, 0
	}
	n, err := l.f.Write(line)
	l.size += int64(n)
	l.dead = err != nil
}

// logStream cuts one stream of an app into lines.
type logStream struct {
	file   *logFile
	stream string
	line   []byte // what came after the last newline
}

func (s *logStream) write(data []byte) {
	now := time.Now().UTC()
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			s.line = append(s.line, data...)
			for len(s.line) >= maxLine {
				s.entry(now, "P", s.line[:maxLine])
				s.line = append(s.line[:0], s.line[maxLine:]...)
			}
			return
		}
		s.line = append(s.line, data[:i]...)
		for len(s.line) > maxLine {
			s.entry(now, "P", s.line[:maxLine])
			s.line = append(s.line[:0], s.line[maxLine:]...)
		}
		s.entry(now, "F", s.line)
		s.line = s.line[:0]
		data = data[i+1:]
	}
}

func (s *logStream) entry(now time.Time, tag string, text []byte) {
	line := make([]byte, 0, len(text)+64)
	line = now.AppendFormat(line, "2006-01-02T15:04:05.000000000Z07:00")
	line = append(line, ' ')
	line = append(line, s.stream...)
	line = append(line, ' ')
	line = append(line, tag...)
	line = append(line, ' ')
	line = append(line, text...)
	s.file.append(append(line, '\n'))
}

// close logs what did not end with a newline.
func (s *logStream) close() {
	if len(s.line) > 0 {
		s.entry(time.Now().UTC(), "P", s.line)
	}
}
