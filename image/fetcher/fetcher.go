// Package fetcher has rkt-fetch bring images into the store. It is what rkt
// itself knows of fetching: a command line, a line of JSON, an exit code.
//
// It links nothing that touches the network or untrusted bytes, and prints
// nothing: progress and errors are rkt-fetch's own to print.
package fetcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/internal/program"
)

// ErrSaid says that the image is not there and that rkt-fetch has told the
// caller why, on standard error: there is nothing to add.
var ErrSaid = errors.New("the image could not be fetched")

// Options of one fetch. What is empty is rkt-fetch's default.
type Options struct {
	Dir          string
	SystemConfig string
	LocalConfig  string
	UserConfig   string
	Insecure     insecure.Options
	PullPolicy   string // never, new or update
	Platform     string // os/arch[/variant]
	Signature    string // file
	Name         string // in the store, instead of the image's own
	Quiet        bool   // no progress
	Image        string
}

// Result is what rkt-fetch did.
type Result struct {
	Name    string        `json:"name"`
	Digest  digest.Digest `json:"digest"`
	Fetched bool          `json:"fetched"` // not all of it was there already
}

const (
	said      = 254 // the exit code with which rkt-fetch has printed an error
	maxResult = 64 << 10
	// grace is how long an rkt-fetch that was told to end may take.
	grace = 10 * time.Second
)

// Run returns when the image is in the store, or ErrSaid. Meanwhile SIGINT,
// SIGTERM and SIGHUP go to rkt-fetch, which ends by them; it also ends with
// ctx and with the caller's death.
func Run(ctx context.Context, o Options) (Result, error) {
	path, err := program.Find("rkt-fetch")
	if err != nil {
		return Result{}, fmt.Errorf("fetch %q: %w", o.Image, err)
	}
	return run(ctx, path, o)
}

func run(ctx context.Context, path string, o Options) (Result, error) {
	out := &limited{left: maxResult}
	cmd := exec.CommandContext(ctx, path, o.args()...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	// The kernel sends Pdeathsig when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("fetch %q: %w", o.Image, err)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	return o.result(out.kept.Bytes(), err)
}

func (o Options) args() []string {
	args := []string{"fetch"}
	for _, f := range []struct{ name, value string }{
		{"dir", o.Dir}, {"system-config", o.SystemConfig}, {"local-config", o.LocalConfig}, {"user-config", o.UserConfig},
		{"insecure-options", o.Insecure.String()}, {"pull-policy", o.PullPolicy}, {"platform", o.Platform},
		{"signature", o.Signature}, {"name", o.Name},
	} {
		if f.value != "" {
			args = append(args, "--"+f.name+"="+f.value)
		}
	}
	if o.Quiet {
		args = append(args, "--quiet")
	}
	return append(args, "--", o.Image)
}

func (o Options) result(line []byte, err error) (Result, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == said {
		return Result{}, ErrSaid
	}
	if err != nil {
		return Result{}, fmt.Errorf("fetch %q: rkt-fetch does not work: %w", o.Image, err)
	}
	var r Result
	if err := json.Unmarshal(line, &r); err != nil || r.Name == "" || r.Digest.Validate() != nil {
		return Result{}, fmt.Errorf("fetch %q: rkt-fetch gave an answer of another version; install rkt's programs together", o.Image)
	}
	return r, nil
}

// limited keeps an answer of bounded size. The buffer is not embedded: its
// ReadFrom would go around the limit.
type limited struct {
	kept bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("it answers without end")
	}
	return l.kept.Write(p)
}
