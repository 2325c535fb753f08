package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/internal/table"
	"github.com/rkt/rkt/stage0"
	"github.com/rkt/rkt/store"
)

func newImageGCCmd(g *globals) *cobra.Command {
	grace := 24 * time.Hour
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Delete images that are no longer used",
		Long: `Remove the names of images that nobody used for the grace period, and delete
what neither a name, nor a pod, nor a running fetch needs, besides what was
left by fetches that did not finish. Images of pods are kept until the pods are
gone, and names that other tools wrote into the store are kept.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := rootOnly(); err != nil {
				return err
			}
			if grace < 0 {
				return fmt.Errorf("grace period %s is negative", grace)
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			s, err := store.Open(c.Dir)
			if err != nil {
				return err
			}
			inUse := func() (store.InUse, error) { return stage0.InUse(c.Dir) }
			// No grace at all is not the same as never.
			report, err := s.GC(inUse, store.GCOptions{Grace: max(grace, 1)})
			for _, name := range report.Names {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "removed image %q\n", name)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d image(s), %d blob(s), %d layer(s), %d unfinished download(s) removed, %s freed\n",
				len(report.Names), report.Blobs, report.Layers, report.Partials, table.Bytes(report.Bytes))
			return err
		},
	}
	cmd.Flags().DurationVar(&grace, "grace-period", grace, "how long an image may be unused before it is removed")
	return cmd
}
