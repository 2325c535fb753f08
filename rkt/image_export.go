package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/program"
)

func newImageExportCmd(g *globals) *cobra.Command {
	overwrite := false
	cmd := &cobra.Command{
		Use:   "export IMG FILE",
		Short: "Write an image to an OCI archive",
		Long: `Write an image of the local store to FILE, as an OCI archive that rkt, skopeo,
podman and other tools read. It holds the image as it was fetched, so its digest
stays the same, under its name; signatures are not in it. The same image always
gives the same file.`,
		Example: `  rkt image export reg.example/team/app:1.2 app.tar
  rkt run ./app.tar`,
		ValidArgsFunction: completeImageThenFile(g),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("takes an image and a file, found %d argument(s)", len(args))
			}
			return becomeRktFetch(g, "export", args, []flagValue{{"overwrite", overwrite}})
		},
	}
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace FILE if it exists")
	return cmd
}

type flagValue struct {
	name  string
	value bool
}

// becomeRktFetch executes rkt-fetch in place of this process, to write an image
// of the store to a path. It returns only if there is no such image or program.
func becomeRktFetch(g *globals, verb string, imageAndPath []string, flags []flagValue) error {
	c, err := g.stage0()
	if err != nil {
		return err
	}
	s, err := g.images()
	if err != nil {
		return err
	}
	images, err := findImages(s, imageAndPath[0])
	if err != nil {
		return err
	}
	if imageAndPath[1] == "" {
		return fmt.Errorf("%s image %q: the path to write to is empty", verb, imageAndPath[0])
	}
	target, err := filepath.Abs(imageAndPath[1])
	if err != nil {
		return fmt.Errorf("make path %q absolute: %w", imageAndPath[1], err)
	}
	path, err := program.Find("rkt-fetch")
	if err != nil {
		return err
	}
	args := []string{path, verb, "--dir=" + c.Dir}
	for _, f := range flags {
		args = append(args, fmt.Sprintf("--%s=%v", f.name, f.value))
	}
	err = unix.Exec(path, append(args, "--", images[0].Name, target), os.Environ())
	return fmt.Errorf("execute %q: %w", path, err)
}

// completeImageThenFile completes an image and, after it, a path.
func completeImageThenFile(g *globals) completer {
	image := completeImages(g)
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return image(cmd, args, word)
	}
}
