package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/store"
)

func newImageRmCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "rm IMG…",
		Short: "Remove images from the local store",
		Long: `Remove the names of images, given as names, or as IDs for all names of an image.
Pods that use an image are not disturbed. What no pod and no other image needs
is deleted by 'rkt image gc'.`,
		ValidArgsFunction: completeImages(g),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("missing image, give a name or an ID")
			}
			s, err := g.images()
			if err != nil {
				return err
			}
			removed, failed := 0, 0
			for _, arg := range args {
				n, err := removeImage(cmd.OutOrStdout(), s, arg)
				removed += n
				if err == nil {
					continue
				}
				if len(args) == 1 {
					return err
				}
				failed++
				cmd.PrintErrf("%s: %v\n", cmd.CommandPath(), err)
			}
			if removed > 0 {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d image(s) successfully removed\n", removed)
			}
			if failed > 0 {
				return fmt.Errorf("failed to remove %d image(s)", failed)
			}
			return err
		},
	}
}

// removeImage removes the names that an argument stands for.
func removeImage(w io.Writer, s *store.Store, arg string) (removed int, err error) {
	images, err := findImages(s, arg)
	if err != nil {
		return 0, err
	}
	for _, img := range images {
		if err := s.Remove(img.Name); err != nil {
			return removed, err
		}
		removed++
		if _, err := fmt.Fprintf(w, "successfully removed image: %q\n", img.Name); err != nil {
			return removed, err
		}
	}
	return removed, nil
}
