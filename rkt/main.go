//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command rkt is stage0: it resolves images in the local store, checks the
// trust policy, prepares pods and becomes them by executing a stage1.
//
// Only this file prints errors and chooses exit codes.
package main

import (
	"errors"
	"fmt"
	"os"
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
	root := newRoot()
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

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:               "rkt",
		Short:             "rkt runs pods of OCI images as ordinary processes",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              cobra.ArbitraryArgs, // unknown commands are ours to name
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
	root.AddCommand(commands(g)...)
	return root
}

// commands lists every verb, each made in a file of its own name.
func commands(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newFetchCmd(g),
		newTrustCmd(g),
		newRunCmd(g),
		newPrepareCmd(g),
		newRunPreparedCmd(g),
		newListCmd(g),
		newStatusCmd(g),
		newLogsCmd(g),
		newEnterCmd(g),
		newStopCmd(g),
		newRmCmd(g),
		newGCCmd(g),
		newCatManifestCmd(g),
		newImageCmd(g),
		newConfigCmd(g),
		newCompletionCmd(g),
		newVersionCmd(g),
	}
}
