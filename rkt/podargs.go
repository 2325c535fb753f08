package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rkt/rkt/image/fetcher"
	"github.com/rkt/rkt/internal/config"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage0"
)

// stage0 gives what the verbs have to know of the global flags.
func (g *globals) stage0() (stage0.Config, error) {
	c := stage0.Config{SystemConfig: g.systemConfig, LocalConfig: g.localConfig, UserConfig: g.userConfig, Insecure: g.insecure, Debug: g.debug}
	for _, dir := range []*string{&c.SystemConfig, &c.LocalConfig, &c.UserConfig} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return c, fmt.Errorf("make directory %q absolute: %w", *dir, err)
		}
		*dir = abs
	}
	configured := &config.Config{}
	var err error
	if g.dir == "" {
		if configured, err = config.Load(c.SystemConfig, c.LocalConfig, c.UserConfig); err != nil {
			return c, err
		}
	}
	c.Dir, err = configured.DataDir(g.dir)
	return c, err
}

// noArgs refuses arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("takes no arguments, found %q", args[0])
	}
	return nil
}

// rootOnly refuses a verb to others than root before it starts anything.
func rootOnly() error {
	if os.Geteuid() != 0 {
		return errors.New("cannot run as unprivileged user, use root")
	}
	return nil
}

// podFlags are the flags of run and prepare that come before the first image.
type podFlags struct {
	options    stage0.Options
	inheritEnv bool
	envFiles   []string
	pull       string
}

func (o *podFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&o.inheritEnv, "inherit-env", false, "give all apps the environment of the caller, where nothing else sets a variable")
	f.Var(&variables{&o.options.Env}, "set-env", "set an environment variable of all apps")
	f.StringArrayVar(&o.envFiles, "set-env-file", nil, "set the environment variables of a `file`, lines NAME=VALUE, for all apps")
	f.StringVar(&o.pull, "pull-policy", string(stage0.PullNew), "`when` to fetch images: never, new (those not in the store), update")
	f.SetInterspersed(false)
	addAppFlags(f, func() *stage0.App { return nil })
}

// podUsage prints the usage of a verb that has flags of the pod and flags of
// its apps.
func podUsage(cmd *cobra.Command) error {
	ofPod, ofApp := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Value.(*appFlag); ok {
			ofApp.AddFlag(f)
		} else {
			ofPod.AddFlag(f)
		}
	})
	_, err := fmt.Fprintf(cmd.OutOrStderr(), "Usage:\n  %s\n\nFlags of the pod, before the first image:\n%s\nFlags of an app, after its image:\n%s\nGlobal Flags:\n%s",
		cmd.UseLine(), ofPod.FlagUsages(), ofApp.FlagUsages(), cmd.InheritedFlags().FlagUsages())
	return err
}

// complete reads the images and what else the options need.
func (o *podFlags) complete(cmd *cobra.Command, args []string) (err error) {
	if o.options.Apps, err = parseApps(args, cmd.Flags()); err != nil {
		return err
	}
	for _, file := range o.envFiles {
		env, err := stage0.ReadEnvFile(file)
		if err != nil {
			return fmt.Errorf("read environment: %w", err)
		}
		o.options.EnvFile = append(o.options.EnvFile, env...)
	}
	if o.inheritEnv {
		o.options.InheritEnv = os.Environ()
	}
	o.options.Pull = stage0.PullPolicy(o.pull)
	o.options.Term = os.Getenv("TERM")
	return nil
}

// saidBefore keeps an error from being printed that rkt-fetch has printed.
func saidBefore(err error) error {
	if errors.Is(err, fetcher.ErrSaid) {
		return exitCode(failure)
	}
	return err
}

// variables is a flag that collects NAME=VALUE.
type variables struct{ list *[]string }

func (v *variables) Set(s string) (err error) {
	*v.list, err = addVariable(*v.list, s)
	return err
}

func (v *variables) Type() string   { return "name=value" }
func (v *variables) String() string { return "" }

// uuidFlag adds --uuid-file to a verb that takes UUIDs.
func uuidFlag(f *pflag.FlagSet, file *string) {
	f.StringVar(file, "uuid-file", "", "read the UUID from a `file` instead of the command line")
}

// uuids gives the UUIDs of a command line or of a file, at most max of them.
func uuids(args []string, file string, max int) ([]string, error) {
	switch {
	case file != "" && len(args) > 0:
		return nil, errors.New("give either UUIDs or --uuid-file, not both")
	case file != "":
		uuid, err := readUUID(file)
		return []string{uuid}, err
	case len(args) == 0:
		return nil, errNoUUID()
	case len(args) > max:
		return nil, fmt.Errorf("must provide one UUID, found %d", len(args))
	}
	return args, nil
}

func errNoUUID() error {
	return errors.New("must provide the UUID of a pod, or the start of it, see 'rkt list'")
}

func readUUID(file string) (string, error) {
	const limit = 1 << 10
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read UUID: %w", err)
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, limit)
	n, err := f.Read(buf)
	if err != nil && n == 0 {
		return "", fmt.Errorf("read UUID from file %q: it is empty", file)
	}
	uuid := strings.ToLower(strings.TrimSpace(string(buf[:n])))
	if !pod.IsUUID(uuid) {
		return "", fmt.Errorf("read UUID from file %q: %.40q is not a UUID", file, uuid)
	}
	return uuid, nil
}

// many is how many UUIDs a verb takes that takes several.
const many = 1 << 20

// eachUUID does something to several pods; one that fails does not keep it
// from the others. what is the verb, for the summary.
func eachUUID(cmd *cobra.Command, uuids []string, what string, act func(uuid string) error) error {
	if len(uuids) == 1 {
		return act(uuids[0])
	}
	failed := 0
	for _, uuid := range uuids {
		if err := act(uuid); err != nil {
			failed++
			cmd.PrintErrf("%s: %s\n", cmd.CommandPath(), oneLine(err))
		}
	}
	if failed > 0 {
		return fmt.Errorf("failed to %s %d pod(s)", what, failed)
	}
	return nil
}
