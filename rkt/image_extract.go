package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newImageExtractCmd(g *globals) *cobra.Command {
	var overwrite, rootfsOnly bool
	cmd := &cobra.Command{
		Use:   "extract IMG DIR",
		Short: "Write the files of an image to a directory",
		Long: `Write what an image of the local store consists of to a new directory: its
manifest to DIR/manifest, and its root file system, all layers merged, to
DIR/rootfs. DIR can be entered by root alone, because the files have the owners
and modes that the image gives them. With --rootfs-only, DIR is the root file
system itself, with the mode that the image gives it.

Device nodes are left out. The file system must know the image's owners and
extended attributes.`,
		Example:           `  rkt image extract --rootfs-only reg.example/team/app:1.2 /srv/app`,
		ValidArgsFunction: completeImageThenFile(g),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("takes an image and a directory, found %d argument(s)", len(args))
			}
			if err := rootOnly(); err != nil {
				return err
			}
			return becomeRktFetch(g, "extract", args, []flagValue{{"overwrite", overwrite}, {"rootfs-only", rootfsOnly}})
		},
	}
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace DIR, with all that is in it, if it exists")
	cmd.Flags().BoolVar(&rootfsOnly, "rootfs-only", false, "write the root file system to DIR itself, and nothing else")
	return cmd
}
