package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/rkt-fetch/archive"
	"github.com/rkt/rkt/image/rkt-fetch/credential"
	"github.com/rkt/rkt/image/rkt-fetch/evidence"
	"github.com/rkt/rkt/image/rkt-fetch/pull"
	"github.com/rkt/rkt/image/rkt-fetch/registry"
	"github.com/rkt/rkt/image/rkt-fetch/sandbox"
	"github.com/rkt/rkt/image/rkt-fetch/source"
	"github.com/rkt/rkt/image/rkt-fetch/transport"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/store"
)

const (
	// stallEnv and timeoutEnv change how long a server may be silent and how
	// long a whole fetch may take, as durations like "30s".
	stallEnv   = "RKT_FETCH_STALL"
	timeoutEnv = "RKT_FETCH_TIMEOUT"

	defaultTimeout = 24 * time.Hour
)

// fetchOptions are the flags of "rkt-fetch fetch".
type fetchOptions struct {
	dir, systemConfig, localConfig, userConfig string
	insecure                                   insecure.Options
	pullPolicy, platform, signature, name      string
	quiet                                      bool
	image                                      string
}

func parseFetch(args []string) (fetchOptions, error) {
	var o fetchOptions
	flags := flag.NewFlagSet("rkt-fetch fetch", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.dir, "dir", "", "")
	flags.StringVar(&o.systemConfig, "system-config", "", "")
	flags.StringVar(&o.localConfig, "local-config", "", "")
	flags.StringVar(&o.userConfig, "user-config", "", "")
	flags.Var(&o.insecure, "insecure-options", "")
	flags.StringVar(&o.pullPolicy, "pull-policy", string(pull.Update), "")
	flags.StringVar(&o.platform, "platform", "", "")
	flags.StringVar(&o.signature, "signature", "", "")
	flags.StringVar(&o.name, "name", "", "")
	flags.BoolVar(&o.quiet, "quiet", false, "")
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("rkt-fetch fetch: %w", err)
	}
	if flags.NArg() != 1 {
		return o, errors.New("rkt-fetch fetch: it takes one image")
	}
	o.image = flags.Arg(0)
	return o, nil
}

// runFetch prints one line of JSON, a pull.Result.
func runFetch(args []string) error {
	o, err := parseFetch(args)
	if err != nil {
		return err
	}
	stall, err := durationOf(stallEnv, transport.DefaultStall)
	if err != nil {
		return err
	}
	timeout, err := durationOf(timeoutEnv, defaultTimeout)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(fmt.Sprintf("fetch %q", o.image))
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("fetch %q: it takes longer than %s (%s); what was loaded is kept for the next try", o.image, timeout, timeoutEnv))
	defer cancel()
	t, err := newTask(o, stall)
	if err != nil {
		return err
	}
	progress := newProgress(os.Stderr, o.quiet)
	t.options.Progress = progress
	result, err := pull.Fetch(ctx, t.options)
	progress.close()
	if err != nil {
		return err
	}
	line, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}

func durationOf(name string, otherwise time.Duration) (time.Duration, error) {
	value := os.Getenv(name)
	if value == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("environment variable %s is %q, which is not a duration like \"30s\"", name, value)
	}
	return d, nil
}

// task is one fetch, made of flags and configuration.
type task struct {
	flags   fetchOptions
	stall   time.Duration
	conf    *config.Config
	options pull.Options
}

func newTask(o fetchOptions, stall time.Duration) (*task, error) {
	ref, err := reference.Parse(o.image)
	if err != nil {
		return nil, err
	}
	t := &task{flags: o, stall: stall}
	if t.conf, err = config.Load(o.systemConfig, o.localConfig, o.userConfig); err != nil {
		return nil, err
	}
	t.options = pull.Options{
		Ref: ref, Name: o.name, Platform: source.Machine(),
		Unpack: sandbox.Layer, Unpacks: runtime.GOMAXPROCS(0),
	}
	if t.options.Dir, err = t.conf.DataDir(o.dir); err != nil {
		return nil, err
	}
	if t.options.When, err = pull.ParsePolicy(o.pullPolicy); err != nil {
		return nil, err
	}
	if o.platform != "" {
		if t.options.Platform, err = source.ParsePlatform(o.platform); err != nil {
			return nil, err
		}
	}
	if !o.insecure.Has(insecure.Image) {
		if t.options.Trust, err = trust.LoadPolicy(o.systemConfig, o.localConfig); err != nil {
			return nil, err
		}
	}
	if t.options.Store, err = store.Open(t.options.Dir); err != nil {
		return nil, err
	}
	if ref.IsLocal() {
		t.options.Open = t.openArchive
	} else {
		t.options.Open = t.openRegistry
	}
	return t, nil
}

// openArchive opens a local image, with the signature that the user names or
// that lies beside it.
func (t *task) openArchive(ctx context.Context) (pull.Origin, error) {
	var o archive.Options
	if path := t.archiveSignature(); path != "" {
		signature, err := evidence.ReadFile(path)
		if err != nil {
			return nil, err
		}
		o.Signature = signature
	}
	if err := confine(t.options.Dir); err != nil {
		return nil, err
	}
	o.Temp = filepath.Join(t.options.Dir, "partial")
	s, err := archive.Open(ctx, t.options.Ref, o)
	if err != nil {
		return nil, err
	}
	return pull.Archive{Source: s}, nil
}

func (t *task) archiveSignature() string {
	if t.flags.signature != "" {
		return t.flags.signature
	}
	_, path, _ := strings.Cut(t.options.Ref.Local, ":")
	path += ".asc"
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// openRegistry finds credentials while helpers still can do what they need,
// gives up what is not needed, and only then goes to the network.
func (t *task) openRegistry(ctx context.Context) (pull.Origin, error) {
	found := map[string]registry.Credential{}
	finder := credential.Finder{Config: t.conf, Docker: credential.DockerConfig(os.Getenv)}
	for _, host := range registry.Hosts(t.options.Ref, t.conf) {
		cred, err := finder.Find(ctx, host)
		if err != nil {
			return nil, err
		}
		found[host] = cred
	}
	if err := confine(t.options.Dir); err != nil {
		return nil, err
	}
	wire := transport.New(transport.Options{Base: ctx, Config: t.conf, Insecure: t.flags.insecure, Stall: t.stall})
	s := registry.New(ctx, registry.Options{
		Ref: t.options.Ref, Config: t.conf, Insecure: t.flags.insecure, Transport: wire,
		Credentials: found, Note: t.options.Progress.Note,
	})
	origin := pull.Registry{Source: s, Signature: t.flags.signature}
	if base := t.conf.Registry(t.options.Ref.Host).Lookaside; base != "" {
		origin.Lookaside = &evidence.Lookaside{Base: base, Path: t.options.Ref.Path, Client: &http.Client{Transport: wire}}
	}
	return origin, nil
}
