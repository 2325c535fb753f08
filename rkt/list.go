package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage0"
)

type listOptions struct {
	full, noLegend bool
	format         outputFormat
}

func newListCmd(g *globals) *cobra.Command {
	o := &listOptions{}
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List pods",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.stage0()
			if err != nil {
				return err
			}
			list, err := stage0.List(c)
			if err != nil {
				return err
			}
			if o.format != formatText {
				views := make([]podView, 0, len(list))
				for _, info := range list {
					views = append(views, viewPod(info))
				}
				return o.format.print(cmd.OutOrStdout(), views)
			}
			if err := o.table(cmd.OutOrStdout(), list, time.Now()); err != nil {
				return err
			}
			for _, info := range list {
				if info.Err != nil {
					cmd.PrintErrf("%s: %v\n", cmd.CommandPath(), info.Err)
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.full, "full", false, "print UUIDs, image IDs and times in full")
	f.BoolVar(&o.noLegend, "no-legend", false, "print no heading")
	o.format.add(f)
	return cmd
}

// table prints one line per app; the columns of the pod are empty but in the
// first.
func (o *listOptions) table(w io.Writer, list []pod.Info, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 8, 1, '\t', 0)
	row := func(uuid, app, image, id, state, created, started, net string) {
		columns := []string{uuid, app, image, id, state, created, started, net}
		if !o.full {
			columns = append(columns[:3:3], columns[4:]...)
		}
		_, _ = fmt.Fprintln(t, strings.Join(columns, "\t")) // Flush has the error
	}
	if !o.noLegend {
		row("UUID", "APP", "IMAGE NAME", "IMAGE ID", "STATE", "CREATED", "STARTED", "NETWORKS")
	}
	for _, info := range list {
		v := viewPod(info)
		uuid := v.UUID
		if !o.full {
			uuid = uuid[:8]
		}
		created, started := o.time(v.Created, now), o.time(v.Started, now)
		if len(v.Apps) == 0 {
			row(uuid, "-", "-", "-", string(v.State), created, started, v.Net)
		}
		for i, app := range v.Apps {
			if i == 0 {
				row(uuid, app.Name, app.Image.Name, shortID(app.Image.Digest), string(v.State), created, started, v.Net)
			} else {
				row("", app.Name, app.Image.Name, shortID(app.Image.Digest), "", "", "", "")
			}
		}
	}
	if err := t.Flush(); err != nil {
		return errors.Join(errors.New("print list"), err)
	}
	return nil
}

func (o *listOptions) time(t *time.Time, now time.Time) string {
	switch {
	case t == nil:
		return ""
	case o.full:
		return t.Local().Format(timeLayout)
	default:
		return ago(*t, now)
	}
}

// shortID is a digest with its first 12 digits.
func shortID(digest string) string {
	const digits = 12
	algorithm, hex, _ := strings.Cut(digest, ":")
	if len(hex) <= digits {
		return digest
	}
	return algorithm + ":" + hex[:digits]
}
