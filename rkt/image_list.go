package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/internal/table"
	"github.com/rkt/rkt/store"
)

type imageListOptions struct {
	fields, sort   []string
	order          string
	full, noLegend bool
	format         table.Format
}

// imageEntry is an image in JSON.
type imageEntry struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Imported time.Time `json:"import_time"`
	LastUsed time.Time `json:"last_used_time"`
	Size     int64     `json:"size"`
}

func newImageListCmd(g *globals) *cobra.Command {
	o := &imageListOptions{
		fields: []string{"id", "name", "size", "importtime", "lastused"},
		sort:   []string{"importtime"}, order: "asc",
	}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List images in the local store",
		Long: `List the names in the local store. An image that has several names is listed
once for each. The size is that of the image as it was fetched.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := g.images()
			if err != nil {
				return err
			}
			images, err := s.Images()
			if err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), images, time.Now())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.fields, "fields", o.fields, "columns to print, in this order")
	f.StringSliceVar(&o.sort, "sort", o.sort, "sort by name, importtime, lastused, size; the first counts most")
	f.StringVar(&o.order, "order", o.order, "asc or desc")
	f.BoolVar(&o.full, "full", false, "print IDs, sizes and times in full")
	f.BoolVar(&o.noLegend, "no-legend", false, "print no heading")
	f.Var(&o.format, "format", table.FormatUsage)
	return cmd
}

func (o *imageListOptions) print(w io.Writer, images []store.Image, now time.Time) error {
	columns, err := table.Select(o.columns(now), o.fields)
	if err != nil {
		return err
	}
	compare, err := o.compare()
	if err != nil {
		return err
	}
	slices.SortStableFunc(images, compare)
	if o.format == table.Text {
		return table.Write(w, columns, images, !o.noLegend)
	}
	entries := make([]imageEntry, len(images))
	for i, img := range images {
		entries[i] = imageEntry{img.Manifest.Digest.String(), img.Name, img.Imported.UTC(), img.LastUsed.UTC(), img.Size}
	}
	return o.format.Encode(w, entries)
}

func (o *imageListOptions) columns(now time.Time) []table.Column[store.Image] {
	id, size := table.ShortDigest, table.Bytes
	when := func(t time.Time) string { return table.Ago(t, now) }
	if o.full {
		id = func(s string) string { return s }
		size = func(n int64) string { return strconv.FormatInt(n, 10) }
		when = func(t time.Time) string { return t.Local().Format(table.TimeLayout) }
	}
	return []table.Column[store.Image]{
		{Name: "id", Header: "ID", Cell: func(i store.Image) string { return id(i.Manifest.Digest.String()) }},
		{Name: "name", Header: "NAME", Cell: func(i store.Image) string { return i.Name }},
		{Name: "size", Header: "SIZE", Cell: func(i store.Image) string { return size(i.Size) }},
		{Name: "importtime", Header: "IMPORT TIME", Cell: func(i store.Image) string { return when(i.Imported) }},
		{Name: "lastused", Header: "LAST USED", Cell: func(i store.Image) string { return when(i.LastUsed) }},
	}
}

func (o *imageListOptions) compare() (func(a, b store.Image) int, error) {
	by := map[string]func(a, b store.Image) int{
		"name":       func(a, b store.Image) int { return strings.Compare(a.Name, b.Name) },
		"importtime": func(a, b store.Image) int { return a.Imported.Compare(b.Imported) },
		"lastused":   func(a, b store.Image) int { return a.LastUsed.Compare(b.LastUsed) },
		"size":       func(a, b store.Image) int { return cmp.Compare(a.Size, b.Size) },
	}
	var chosen []func(a, b store.Image) int
	for _, field := range o.sort {
		if by[field] == nil {
			return nil, fmt.Errorf("field %q cannot be sorted by, choose from name, importtime, lastused, size", field)
		}
		chosen = append(chosen, by[field])
	}
	if o.order != "asc" && o.order != "desc" {
		return nil, fmt.Errorf("order %q is unknown, choose from asc, desc", o.order)
	}
	return func(a, b store.Image) int {
		for _, compare := range chosen {
			if c := compare(a, b); c != 0 && o.order == "desc" {
				return -c
			} else if c != 0 {
				return c
			}
		}
		return 0
	}, nil
}
