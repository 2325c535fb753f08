package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/stage0"
)

func newStopCmd(g *globals) *cobra.Command {
	file, force, timeout := "", false, 10*time.Second
	cmd := &cobra.Command{
		Use:   "stop [--force] [--timeout DURATION] UUID… | --uuid-file FILE",
		Short: "Stop running pods and wait until they have ended",
		Long: `Ask the apps of running pods to end, with the signal that their images name or
SIGTERM, and wait until the pods have ended. Apps that take longer than the
time-out are killed.`,
		ValidArgsFunction: completePods(g, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := uuids(args, file, many)
			if err != nil {
				return err
			}
			if timeout < 0 {
				return fmt.Errorf("time-out %s is negative", timeout)
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			return eachUUID(cmd, list, "stop", func(uuid string) error {
				whole, err := stage0.Stop(cmd.Context(), c, uuid, force, timeout)
				if errors.Is(err, stage0.ErrStopped) {
					cmd.PrintErrf("%v\n", err)
					return nil
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%q\n", whole)
				return err
			})
		},
	}
	f := cmd.Flags()
	uuidFlag(f, &file)
	f.BoolVar(&force, "force", false, "kill the apps at once")
	f.DurationVar(&timeout, "timeout", timeout, "how long apps may take to end before they are killed")
	return cmd
}
