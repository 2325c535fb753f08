package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/internal/config"
)

type configOptions struct {
	pretty, secrets bool
}

func newConfigCmd(g *globals) *cobra.Command {
	o := &configOptions{}
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the merged configuration",
		Long: `Print as JSON what the configuration files say together: those of the
administrator override the vendor's, those of the user override both. Passwords
and tokens are masked.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.stage0()
			if err != nil {
				return err
			}
			merged, err := config.Load(c.SystemConfig, c.LocalConfig, c.UserConfig)
			if err != nil {
				return err
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			if o.pretty {
				out.SetIndent("", "\t")
			}
			return out.Encode(struct {
				Stage0 []config.Entry `json:"stage0"`
			}{merged.Entries(o.secrets)})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.pretty, "pretty-print", false, "indent the output")
	f.BoolVar(&o.secrets, "show-secrets", false, "print passwords and tokens")
	return cmd
}
