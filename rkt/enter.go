package main

import (
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rkt/rkt/stage0"
)

func newEnterCmd(g *globals) *cobra.Command {
	o := stage0.EnterOptions{}
	cmd := &cobra.Command{
		Use:     "enter [--app NAME] [--tty] UUID [COMMAND [ARGS…]]",
		Aliases: []string{"exec"},
		Short:   "Run one more command in an app of a running pod",
		Long: `Run a command in an app of a running pod, with the user, the capabilities, the
system call filter and the limits that the app has. Without a command it is a
shell of the app. rkt ends with the command's code.`,
		ValidArgsFunction: completePods(g, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := rootOnly(); err != nil {
				return err
			}
			if len(args) == 0 {
				return errNoUUID()
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			o.Args = args[1:]
			if len(o.Args) > 0 && o.Args[0] == argsBegin {
				o.Args = o.Args[1:]
			}
			if !cmd.Flags().Changed("tty") {
				o.TTY = term.IsTerminal(0) && term.IsTerminal(1)
			}
			return stage0.Enter(cmd.Context(), c, args[0], o)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVar(&o.App, "app", "", "`name` of the app, if the pod has several")
	f.BoolVar(&o.TTY, "tty", false, "give the command a terminal of its own (default: if standard input and output are terminals)")
	registerAppCompletion(g, cmd)
	return cmd
}
