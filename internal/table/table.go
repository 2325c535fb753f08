// Package table prints lists: as columns of text, or as JSON when --format
// asks for it.
//
// Whatever stands in a cell, a table has one line per row and changes nothing
// on a terminal but its text: names come from registries and images.
package table

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Column is one column of a table of T.
type Column[T any] struct {
	Name   string // as the user chooses it
	Header string
	Cell   func(T) string
}

// Select picks columns by name, in the order of the names.
func Select[T any](columns []Column[T], names []string) ([]Column[T], error) {
	var known []string
	byName := map[string]Column[T]{}
	for _, c := range columns {
		known = append(known, c.Name)
		byName[c.Name] = c
	}
	var selected []Column[T]
	for _, name := range names {
		c, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("field %q is unknown, choose from %s", name, strings.Join(known, ", "))
		}
		selected = append(selected, c)
	}
	return selected, nil
}

// Write prints rows as text, under a line of headers if legend is true.
func Write[T any](w io.Writer, columns []Column[T], rows []T, legend bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 1, '\t', 0)
	line := make([]string, len(columns))
	if legend {
		for i, c := range columns {
			line[i] = c.Header
		}
		fmt.Fprintln(t, strings.Join(line, "\t")) // Flush returns the first error
	}
	for _, row := range rows {
		for i, c := range columns {
			line[i] = Printable(c.Cell(row))
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print list: %w", err)
	}
	return nil
}

// Printable is s with everything escaped that is no plain text: line breaks,
// tabs, terminal sequences, bytes that are no UTF-8.
func Printable(s string) string {
	odd := func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, odd) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// Format is the value of --format. Its pointer is a command line flag.
type Format string

// The formats.
const (
	Text       Format = ""
	JSON       Format = "json"
	JSONPretty Format = "json-pretty"
)

// FormatUsage is the help text of the flag.
const FormatUsage = "print json or json-pretty instead of text"

// Set takes what follows --format.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case Text, JSON, JSONPretty:
		*f = Format(s)
		return nil
	}
	return fmt.Errorf("format %q is unknown, choose from %s, %s", s, JSON, JSONPretty)
}

// String is what Set takes.
func (f *Format) String() string { return string(*f) }

// Type names the flag's value in help texts.
func (f *Format) Type() string { return "format" }

// Encode prints v as JSON, one line unless the format is JSONPretty.
func (f Format) Encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if f == JSONPretty {
		e.SetIndent("", "\t")
	}
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print list: %w", err)
	}
	return nil
}
