package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/stage0"
)

func newCatManifestCmd(g *globals) *cobra.Command {
	file, pretty := "", true
	cmd := &cobra.Command{
		Use:               "cat-manifest UUID | --uuid-file FILE",
		Short:             "Print the manifest of a pod",
		ValidArgsFunction: completePods(g, nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := uuids(args, file, 1)
			if err != nil {
				return err
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			p, err := stage0.Find(c, list[0])
			if err != nil {
				return err
			}
			defer func() { _ = p.Close() }()
			text, err := p.RawManifest()
			if err != nil {
				return fmt.Errorf("pod %s: %w", p.UUID, err)
			}
			if pretty {
				var out bytes.Buffer
				if err := json.Indent(&out, text, "", "\t"); err != nil {
					return fmt.Errorf("pod %s: read pod manifest: %w", p.UUID, err)
				}
				text = out.Bytes()
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", bytes.TrimSpace(text))
			return err
		},
	}
	uuidFlag(cmd.Flags(), &file)
	cmd.Flags().BoolVar(&pretty, "pretty-print", pretty, "indent the manifest")
	return cmd
}
