package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/stage0"
)

func newPrepareCmd(g *globals) *cobra.Command {
	o := &podFlags{}
	cmd := &cobra.Command{
		Use:   "prepare [flags] IMAGE [app flags] [-- ARGS… [---]] [IMAGE …]",
		Short: "Prepare a pod to be run later",
		Long: `Prepare a pod and print its UUID. 'rkt run-prepared UUID' runs it, once.

Flags of the pod come before the first image, flags of an app after its image.
What --insecure-options gives up is recorded in the pod.`,
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
			uuid, err := stage0.Prepare(cmd.Context(), c, o.options)
			if err != nil {
				return saidBefore(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), uuid)
			return err
		},
	}
	cmd.SetUsageFunc(podUsage)
	f := cmd.Flags()
	o.add(f)
	f.BoolVar(&o.options.Quiet, "quiet", false, "print nothing but the UUID, not even the progress of fetches")
	return cmd
}
