package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/internal/table"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage0"
)

type listOptions struct {
	full, noLegend bool
	format         table.Format
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
			if o.format != table.Text {
				views := make([]podView, 0, len(list))
				for _, info := range list {
					views = append(views, viewPod(info))
				}
				return o.format.Encode(cmd.OutOrStdout(), views)
			}
			if err := o.print(cmd.OutOrStdout(), list, time.Now()); err != nil {
				return err
			}
			for _, info := range list {
				if info.Err != nil {
					cmd.PrintErrf("%s: %s\n", cmd.CommandPath(), oneLine(info.Err))
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.full, "full", false, "print UUIDs, image IDs and times in full")
	f.BoolVar(&o.noLegend, "no-legend", false, "print no heading")
	f.Var(&o.format, "format", table.FormatUsage)
	return cmd
}

// listRow is one app. The columns of the pod are empty but for its first.
type listRow struct{ uuid, app, image, id, state, created, started, net string }

func (o *listOptions) columns() []table.Column[listRow] {
	all := []table.Column[listRow]{
		{Header: "UUID", Cell: func(r listRow) string { return r.uuid }},
		{Header: "APP", Cell: func(r listRow) string { return r.app }},
		{Header: "IMAGE NAME", Cell: func(r listRow) string { return r.image }},
		{Header: "IMAGE ID", Cell: func(r listRow) string { return r.id }},
		{Header: "STATE", Cell: func(r listRow) string { return r.state }},
		{Header: "CREATED", Cell: func(r listRow) string { return r.created }},
		{Header: "STARTED", Cell: func(r listRow) string { return r.started }},
		{Header: "NETWORKS", Cell: func(r listRow) string { return r.net }},
	}
	if !o.full {
		all = append(all[:3:3], all[4:]...) // without the image's ID
	}
	return all
}

func (o *listOptions) print(w io.Writer, list []pod.Info, now time.Time) error {
	var rows []listRow
	for _, info := range list {
		v := viewPod(info)
		uuid := v.UUID
		if !o.full {
			uuid = uuid[:8]
		}
		first := listRow{uuid, "-", "-", "-", string(v.State), o.time(v.Created, now), o.time(v.Started, now), v.Net}
		for _, app := range v.Apps {
			first.app, first.image, first.id = app.Name, app.Image.Name, table.ShortDigest(app.Image.Digest)
			rows = append(rows, first)
			first = listRow{}
		}
		if len(v.Apps) == 0 {
			rows = append(rows, first)
		}
	}
	return table.Write(w, o.columns(), rows, !o.noLegend)
}

func (o *listOptions) time(t *time.Time, now time.Time) string {
	switch {
	case t == nil:
		return ""
	case o.full:
		return t.Local().Format(table.TimeLayout)
	default:
		return table.Ago(*t, now)
	}
}
