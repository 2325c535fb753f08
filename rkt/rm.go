package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/stage0"
)

func newRmCmd(g *globals) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use:               "rm UUID… | --uuid-file FILE",
		Short:             "Delete pods that do not run",
		ValidArgsFunction: completePods(g, isIdle),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := rootOnly(); err != nil {
				return err
			}
			list, err := uuids(args, file, many)
			if err != nil {
				return err
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			return eachUUID(cmd, list, "remove", func(uuid string) error {
				whole, err := stage0.Remove(cmd.Context(), c, uuid)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%q\n", whole)
				return err
			})
		},
	}
	uuidFlag(cmd.Flags(), &file)
	return cmd
}
