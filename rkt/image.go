package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/internal/table"
	"github.com/rkt/rkt/store"
)

func newImageCmd(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Look at and remove images in the local store",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("command %q is unknown, see 'rkt help image'", args[0])
			}
			_ = cmd.Help()
			return errors.New("missing command")
		},
	}
	cmd.AddCommand(
		newImageListCmd(g),
		newImageRmCmd(g),
		newImageGCCmd(g),
		newImageCatManifestCmd(g),
		newImageVerifyCmd(g),
		newImageExportCmd(g),
		newImageExtractCmd(g),
	)
	return cmd
}

// images opens the store.
func (g *globals) images() (*store.Store, error) {
	c, err := g.stage0()
	if err != nil {
		return nil, err
	}
	return store.Open(c.Dir)
}

// findImages returns the names that an argument stands for: the name that it
// is, or every name of the one image whose ID starts so.
func findImages(s *store.Store, arg string) ([]store.Image, error) {
	isID := strings.HasPrefix(arg, "sha256:") || strings.HasPrefix(arg, "sha512:")
	var notNamed error
	if !isID {
		img, err := findName(s, arg)
		if err == nil {
			return []store.Image{img}, nil
		}
		if len(arg) < 2 || strings.Trim(arg, "0123456789abcdef") != "" {
			return nil, err
		}
		notNamed = err
	}
	found, err := s.ByDigest(arg)
	if errors.Is(err, store.ErrNotFound) && !isID {
		return nil, notNamed
	}
	if err != nil {
		return nil, err
	}
	for _, img := range found {
		if first := found[0].Manifest.Digest; img.Manifest.Digest != first {
			return nil, fmt.Errorf("image ID %q is ambiguous: %s, %s",
				arg, table.ShortDigest(first.String()), table.ShortDigest(img.Manifest.Digest.String()))
		}
	}
	return found, nil
}

// findName looks for a name as it was written, which is how other tools may
// have written it into the store, and in its full form.
func findName(s *store.Store, arg string) (store.Image, error) {
	img, err := s.Get(arg)
	if !errors.Is(err, store.ErrNotFound) {
		return img, err
	}
	ref, err := reference.Parse(arg)
	if err != nil {
		return store.Image{}, err
	}
	img, err = s.Get(ref.String())
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w, see 'rkt image list'", err)
	}
	return img, err
}
