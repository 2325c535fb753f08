package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/stage0"
)

func newGCCmd(g *globals) *cobra.Command {
	o := stage0.GCOptions{GracePeriod: 30 * time.Minute, ExpirePrepared: 24 * time.Hour}
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Delete what is left of pods that have ended",
		Long: `Mark pods that have ended, release what they hold on the host, and delete those
that were marked longer than the grace period ago. Pods that were never
finished are deleted too, whatever moment their makers were killed at. Running
pods are never touched.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := rootOnly(); err != nil {
				return err
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			return stage0.GC(cmd.Context(), c, o, func(e stage0.GCEvent) {
				switch e.Did {
				case stage0.GCMarked:
					cmd.PrintErrf("moving pod %q to garbage\n", e.UUID)
				case stage0.GCKept:
					cmd.PrintErrf("pod %q not removed: still within grace period (%s)\n", e.UUID, o.GracePeriod)
				case stage0.GCRemoved:
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), "Garbage collecting pod %q\n", e.UUID)
				case stage0.GCFailed:
					cmd.PrintErrf("%s: %s\n", cmd.CommandPath(), oneLine(e.Err))
				}
			})
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.GracePeriod, "grace-period", o.GracePeriod, "how long pods that have ended stay to be looked at")
	f.DurationVar(&o.ExpirePrepared, "expire-prepared", o.ExpirePrepared, "how long prepared pods may wait to be run")
	f.BoolVar(&o.MarkOnly, "mark-only", false, "release and mark pods that have ended, delete nothing")
	return cmd
}
