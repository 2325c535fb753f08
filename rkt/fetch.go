package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/image/fetcher"
	"github.com/rkt/rkt/internal/table"
)

type fetchOptions struct {
	pull, platform, signature, name string
	full, quiet                     bool
}

func newFetchCmd(g *globals) *cobra.Command {
	o := &fetchOptions{}
	cmd := &cobra.Command{
		Use:   "fetch IMAGE...",
		Short: "Fetch images into the local store and verify them",
		Long: `Fetch images into the local store, after the trust policy has accepted their
signatures, and print the digest of each.

An IMAGE is a name in a registry ([HOST[:PORT]/]PATH[:TAG][@DIGEST]), an OCI
image layout (oci:DIRECTORY[:NAME]) or an archive (oci-archive:FILE[:NAME],
docker-archive:FILE[:NAME], or a path that starts with "/", "./" or "../").
What is in the store already is not fetched again; what was fetched halfway is
continued.`,
		Example: `  rkt fetch reg.example/team/app:1.2
  rkt fetch --pull-policy=new docker.io/library/nginx
  rkt fetch --signature=app.tar.asc ./app.tar`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("needs at least one image")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(g, cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.pull, "pull-policy", "update", "`when` to go to the source: never, new (if the store does not have it), update (always)")
	f.StringVar(&o.platform, "platform", "", "`OS/ARCH[/VARIANT]` instead of this machine's")
	f.StringVar(&o.signature, "signature", "", "`file` with a signature of the image, besides those that are found with it")
	f.StringVar(&o.name, "name", "", "`name` by which the image is judged and kept, instead of the one it is fetched by")
	f.BoolVar(&o.full, "full", false, "print whole digests")
	f.BoolVar(&o.quiet, "quiet", false, "show no progress")
	return cmd
}

func (o *fetchOptions) run(g *globals, cmd *cobra.Command, images []string) error {
	if len(images) > 1 && (o.signature != "" || o.name != "") {
		return errors.New("--signature and --name are for one image, fetch the others by themselves")
	}
	c, err := g.stage0()
	if err != nil {
		return err
	}
	options := fetcher.Options{
		Dir: c.Dir, SystemConfig: c.SystemConfig, LocalConfig: c.LocalConfig, UserConfig: c.UserConfig, Insecure: c.Insecure,
		PullPolicy: o.pull, Platform: o.platform, Name: o.name, Quiet: o.quiet,
	}
	if o.signature != "" {
		if options.Signature, err = filepath.Abs(o.signature); err != nil {
			return fmt.Errorf("make path %q absolute: %w", o.signature, err)
		}
	}
	for _, options.Image = range images {
		result, err := fetcher.Run(cmd.Context(), options)
		if errors.Is(err, fetcher.ErrSaid) {
			return exitCode(failure)
		}
		if err != nil {
			return err
		}
		id := result.Digest.String()
		if !o.full {
			id = table.ShortDigest(id)
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), id); err != nil {
			return err
		}
	}
	return nil
}
