// Package sandbox unpacks layers in a child process that has nothing to lose:
// the same program, started as "rkt-fetch unpack", which gives up all that
// unpacking does not need before it reads the first byte of the layer.
//
// The child has
//
//   - two descriptors, both opened by the parent: the blob, to read (0), and
//     the directory to unpack into (3), which becomes its root directory;
//   - namespaces of its own, empty ones, for network, processes and IPC;
//   - the capabilities that make files of any owner and mode, and no others;
//     no_new_privs;
//   - by Landlock, where the kernel has it, the rights to create, write and
//     remove below that directory, and none to execute or read;
//   - bounds on its memory, on the size of its files and on its descriptors;
//   - no environment, and no life without its parent.
//
// Its answer is one line of JSON. The parent believes it, because whoever could
// forge it could as well write any other layer into the directory; that the
// blob is the right one was verified when it was stored.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/unpack"
)

const (
	// Verb is the command of rkt-fetch that must call Serve.
	Verb = "unpack"

	targetFD = 3
	// The child's work directory when it merges: Rootfs is there already.
	Rootfs  = "rootfs"
	staging = "layer"

	maxAnswer = 64 << 10
	maxStderr = 4 << 10
)

// Request is what the child is told.
type Request struct {
	MediaType string        `json:"mediaType,omitempty"`
	Size      int64         `json:"size,omitempty"` // of the blob, 0 when unknown
	DiffID    digest.Digest `json:"diffID,omitempty"`
	Limits    unpack.Limits `json:"limits"`
	// Merge makes the target a work directory: the layer is merged onto the
	// directory Rootfs in it.
	Merge bool `json:"merge,omitempty"`
}

// Result is what the child has done.
type Result struct {
	Stats unpack.Stats `json:"stats"`
	// Landlock is the version of Landlock that confined the child; 0 when the
	// kernel has none that allows hard links between directories (Linux 5.19).
	Landlock int `json:"landlock"`
}

// answer is the line that the child writes.
type answer struct {
	Result
	Error   string             `json:"error,omitempty"`
	Limit   *unpack.LimitError `json:"limit,omitempty"`
	Damaged bool               `json:"damaged,omitempty"`
	DiffID  bool               `json:"diffID,omitempty"` // is not the promised one
}

// Layer unpacks a blob into the directory target, for overlayfs, and verifies
// that it is the layer with this diffID. The error says all that is to be
// said; it wraps what unpack.Layer's would. When it fails, target holds a part
// of the layer.
func Layer(ctx context.Context, blob io.Reader, mediaType string, diffID digest.Digest, target string) error {
	_, err := Run(ctx, blob, target, Request{MediaType: mediaType, DiffID: diffID})
	return err
}

// Run is Layer with everything that can be said. If the blob is an *os.File,
// the child reads it itself, from where its offset is.
func Run(ctx context.Context, blob io.Reader, target string, r Request) (Result, error) {
	result, err := run(ctx, blob, target, r)
	if err != nil {
		return result, fmt.Errorf("unpack layer %s: %w", r.DiffID, err)
	}
	return result, nil
}

func run(ctx context.Context, blob io.Reader, target string, r Request) (Result, error) {
	dir, err := os.OpenFile(target, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Result{}, err
	}
	defer dir.Close()
	request, err := json.Marshal(r)
	if err != nil {
		return Result{}, err
	}
	source := &source{Reader: blob}
	stdout, stderr := &head{most: maxAnswer}, &head{most: maxStderr}
	cmd := Command(ctx, Verb, string(request))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = source, stdout, stderr
	if file, ok := blob.(*os.File); ok {
		cmd.Stdin = file
	}
	cmd.ExtraFiles = []*os.File{dir}

	// The child dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case source.err != nil:
		return Result{}, fmt.Errorf("read the layer: %w", source.err)
	}
	return judge(stdout.Bytes(), stderr.Bytes(), err)
}

// judge makes of the child's answer, or of its silence, what Layer returns.
func judge(stdout, stderr []byte, exit error) (Result, error) {
	var a answer
	if err := json.Unmarshal(stdout, &a); err != nil {
		why := "it ended without an answer"
		if exit != nil {
			why = exit.Error()
		}
		if first, _, _ := strings.Cut(strings.TrimSpace(string(stderr)), "\n"); first != "" {
			why += fmt.Sprintf(", and said %.300q", first)
		}
		return Result{}, fmt.Errorf("the unpacking process failed: %s", why)
	}
	if a.Error == "" && exit != nil {
		return Result{}, fmt.Errorf("the unpacking process failed: %w", exit)
	}
	if a.Error == "" {
		return a.Result, nil
	}
	e := &failure{text: a.Error}
	switch {
	case a.Limit != nil:
		e.kind = a.Limit
	case a.DiffID:
		e.kind = unpack.ErrDiffID
	case a.Damaged:
		e.kind = unpack.ErrDamaged
	}
	return a.Result, e
}

// failure is an error of the child, as text and as what the text is about.
type failure struct {
	text string
	kind error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.kind }

// Command prepares the child that runs this program with the arguments. It
// marks all descriptors of this process close-on-exec, so that the child gets
// none that somebody forgot.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = "rkt-fetch"
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC
	}
	// Linux 5.11; before, Go's own care has to do.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	return cmd
}

// source remembers the error of the reader that the child is fed from, which
// knows better than the child why the layer ended early.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// head keeps the beginning of what is written.
type head struct {
	bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), h.most-h.Len())])
	return len(p), nil
}
