package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func newImageCatManifestCmd(g *globals) *cobra.Command {
	pretty := true
	cmd := &cobra.Command{
		Use:               "cat-manifest IMG",
		Short:             "Print the manifest of an image",
		ValidArgsFunction: completeImages(g),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("takes one image, found %d", len(args))
			}
			s, err := g.images()
			if err != nil {
				return err
			}
			images, err := findImages(s, args[0])
			if err != nil {
				return err
			}
			text, err := s.ReadBlob(images[0].Manifest)
			if err != nil {
				return fmt.Errorf("image %q: %w", images[0].Name, err)
			}
			if pretty {
				var out bytes.Buffer
				if err := json.Indent(&out, text, "", "\t"); err != nil {
					return fmt.Errorf("image %q: read manifest: %w", images[0].Name, err)
				}
				text = out.Bytes()
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", bytes.TrimSpace(text))
			return err
		},
	}
	cmd.Flags().BoolVar(&pretty, "pretty-print", pretty, "indent the manifest")
	return cmd
}
