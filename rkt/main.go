//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
//go:debug decoratemappings=0

// Command rkt is stage0: it resolves images in the local store, checks the
// trust policy, prepares pods and becomes them by executing a stage1.
//
// Only this file prints errors and chooses exit codes.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/internal/insecure"
)

// failure is the exit code of everything that rkt itself could not do.
const failure = 254

// globals are the flags that every verb accepts.
type globals struct {
	dir          string
	systemConfig string
	localConfig  string
	userConfig   string
	insecure     insecure.Options
	debug        bool
}

// exitCode ends rkt with the code of something that rkt ran, printing nothing.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	root := newRoot(args)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", cmd.CommandPath(), oneLine(err))
	return failure
}

// oneLine is an error's text. Errors that were joined stand in one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// newRoot is the command tree, as far as the arguments can need it.
func newRoot(args []string) *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:               "rkt",
		Short:             "rkt runs pods of OCI images as ordinary processes",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, // rkt/completion.go
		Args:              cobra.ArbitraryArgs,                              // unknown commands are ours to name
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("command %q is unknown, see 'rkt help'", args[0])
			}
			_ = cmd.Help()
			return errors.New("missing command")
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w, see '%s --help'", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&g.dir, "dir", "", "directory of images and pods (default from configuration, else /var/lib/rkt)")
	f.StringVar(&g.systemConfig, "system-config", "/usr/lib/rkt", "directory of the vendor's configuration")
	f.StringVar(&g.localConfig, "local-config", "/etc/rkt", "directory of the administrator's configuration")
	f.StringVar(&g.userConfig, "user-config", "", "directory of the user's configuration")
	f.Var(&g.insecure, "insecure-options", "protections to give up: none, "+strings.Join(insecure.Known(), ", "))
	f.BoolVar(&g.debug, "debug", false, "say on standard error what is being done")
	for _, v := range needed(args) {
		root.AddCommand(v.make(g))
	}
	return root
}

// verb is a command of rkt before it is made: making all with all their flags
// takes a tenth of the time of a start.
type verb struct {
	name  string
	make  func(*globals) *cobra.Command
	alias string
}

// needed are the verbs whose names are among the arguments: the one to run is
// one of them. Without any, for help and for mistakes, these are all.
func needed(args []string) []verb {
	all := slices.Contains(args, "help") || slices.Contains(args, cobra.ShellCompRequestCmd)
	var list []verb
	for _, v := range verbs() {
		if all || slices.Contains(args, v.name) || v.alias != "" && slices.Contains(args, v.alias) {
			list = append(list, v)
		}
	}
	if list == nil {
		return verbs()
	}
	return list
}

// verbs lists every command, each made in a file of its own name.
func verbs() []verb {
	return []verb{
		{name: "fetch", make: newFetchCmd},
		{name: "trust", make: newTrustCmd},
		{name: "run", make: newRunCmd},
		{name: "prepare", make: newPrepareCmd},
		{name: "run-prepared", make: newRunPreparedCmd},
		{name: "list", make: newListCmd},
		{name: "status", make: newStatusCmd},
		{name: "logs", make: newLogsCmd},
		{name: "enter", make: newEnterCmd, alias: "exec"},
		{name: "stop", make: newStopCmd},
		{name: "rm", make: newRmCmd},
		{name: "gc", make: newGCCmd},
		{name: "cat-manifest", make: newCatManifestCmd},
		{name: "image", make: newImageCmd},
		{name: "config", make: newConfigCmd},
		{name: "completion", make: newCompletionCmd},
		{name: "version", make: newVersionCmd},
	}
}
