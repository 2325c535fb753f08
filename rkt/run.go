package main

import (
	"github.com/spf13/cobra"

	"github.com/rkt/rkt/stage0"
)

func newRunCmd(g *globals) *cobra.Command {
	o := &podFlags{}
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [app flags] [-- ARGS… [---]] [IMAGE …]",
		Short: "Run a pod of one or more images",
		Long: `Run a pod of one or more images. rkt becomes the pod: it ends when the pod does,
with the code of the first app that failed, or 0.

Flags of the pod come before the first image, flags of an app after its image.
"--" starts the arguments of an app, "---" ends them if another image follows.`,
		Example: `  rkt run --net=host reg.example/web:1
  rkt run reg.example/web:1 --user=www-data -- -v --- reg.example/log:2 --exec=/bin/tail`,
		ValidArgsFunction: completeImages(g),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := rootOnly(); err != nil {
				return err
			}
			if err := o.complete(cmd, args); err != nil {
				return helpOr(cmd, err)
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			return saidBefore(stage0.Run(cmd.Context(), c, o.options))
		},
	}
	cmd.SetUsageFunc(podUsage)
	f := cmd.Flags()
	o.add(f)
	netFlags(f, &o.options.Net, &o.options.Hostname)
	f.BoolVar(&o.options.Interactive, "interactive", false, "give the only app the caller's terminal")
	f.StringVar(&o.options.UUIDFile, "uuid-file-save", "", "write the UUID of the pod to a `file`")
	return cmd
}
