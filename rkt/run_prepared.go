package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rkt/rkt/stage0"
)

func newRunPreparedCmd(g *globals) *cobra.Command {
	o := stage0.PreparedOptions{}
	cmd := &cobra.Command{
		Use:   "run-prepared [flags] UUID",
		Short: "Run a pod that 'rkt prepare' has prepared",
		Long: `Run a prepared pod. rkt becomes the pod. A pod runs only once.

The trust policy of today judges the pod's images again.`,
		ValidArgsFunction: completePods(g, isPrepared),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := rootOnly(); err != nil {
				return err
			}
			list, err := uuids(args, "", 1)
			if err != nil {
				return err
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			o.Term = os.Getenv("TERM")
			return stage0.RunPrepared(c, list[0], o)
		},
	}
	f := cmd.Flags()
	netFlags(f, &o.Net, &o.Hostname)
	f.BoolVar(&o.Interactive, "interactive", false, "give the only app the caller's terminal")
	return cmd
}

// netFlags adds the flags of how a pod appears on the network.
func netFlags(f *pflag.FlagSet, net, hostname *string) {
	f.StringVar(net, "net", "", "`network` of the pod: none (an own one with loopback only) or host (default none)")
	f.StringVar(hostname, "hostname", "", "`name` of the pod as a host (default rkt-UUID)")
}
