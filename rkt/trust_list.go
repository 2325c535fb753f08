package main

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/internal/table"
)

// ruleView is a rule as 'rkt trust list' prints it with --format. It is
// described in Documentation/commands/trust.md.
type ruleView struct {
	Rule    string    `json:"rule"`
	Match   []string  `json:"match"`
	Verdict string    `json:"verdict"` // keys, unsigned or reject
	Require string    `json:"require,omitempty"`
	Keys    []keyView `json:"keys,omitempty"`
}

type keyView struct {
	Type        string     `json:"type"`
	Path        string     `json:"path,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Algorithm   string     `json:"algorithm,omitempty"`
	Identities  []string   `json:"identities,omitempty"`
	Subkeys     []string   `json:"subkeys,omitempty"`
	Created     *time.Time `json:"created,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Error       string     `json:"error,omitempty"`
}

type trustListOptions struct {
	noLegend bool
	format   table.Format
}

func newTrustListCmd(g *globals) *cobra.Command {
	o := &trustListOptions{}
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List the rules of the trust policy in the order in which they are asked",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			policy, err := trust.LoadPolicy(g.systemConfig, g.localConfig)
			if err != nil {
				return err
			}
			views := []ruleView{}
			for _, rule := range policy.Rules() {
				views = append(views, viewRule(rule, time.Now()))
			}
			if o.format != table.Text {
				return o.format.Encode(cmd.OutOrStdout(), views)
			}
			return o.print(cmd.OutOrStdout(), views)
		},
	}
	cmd.Flags().BoolVar(&o.noLegend, "no-legend", false, "print no heading")
	cmd.Flags().Var(&o.format, "format", table.FormatUsage)
	return cmd
}

func viewRule(rule trust.Rule, now time.Time) ruleView {
	v := ruleView{Rule: rule.Name, Match: rule.Match, Verdict: rule.Verdict}
	if rule.Verdict == "keys" {
		v.Require, v.Keys = "any", []keyView{}
		if rule.All {
			v.Require = "all"
		}
	}
	for _, spec := range rule.Keys {
		if spec.Err != nil {
			v.Keys = append(v.Keys, keyView{Type: spec.Type, Path: spec.Path, Error: spec.Err.Error()})
			continue
		}
		for _, key := range spec.Keys {
			view := keyView{
				Type: spec.Type, Path: spec.Path, Fingerprint: key.Fingerprint, Algorithm: key.Algorithm,
				Identities: key.Identities, Subkeys: key.Subkeys, Created: known(key.Created), Expires: known(key.Expires),
			}
			if err := key.Usable(now); err != nil {
				view.Error = err.Error()
			}
			v.Keys = append(v.Keys, view)
		}
	}
	return v
}

// keyRow is a line of the table: a rule's key, or a rule that has none.
type keyRow struct {
	first bool // the rule's columns are empty but in its first line
	rule  ruleView
	key   keyView
}

// print prints one line per key.
func (o *trustListOptions) print(w io.Writer, views []ruleView) error {
	var rows []keyRow
	for _, v := range views {
		keys := v.Keys
		if len(keys) == 0 {
			none := keyView{Type: "-", Fingerprint: "-"}
			if v.Verdict == "keys" {
				none.Fingerprint = "no key left, refuses everything"
			}
			keys = []keyView{none}
		}
		for i, key := range keys {
			rows = append(rows, keyRow{i == 0, v, key})
		}
	}
	ofRule := func(cell func(ruleView) string) func(keyRow) string {
		return func(r keyRow) string {
			if !r.first {
				return ""
			}
			return cell(r.rule)
		}
	}
	return table.Write(w, []table.Column[keyRow]{
		{Header: "MATCH", Cell: ofRule(func(v ruleView) string { return strings.Join(v.Match, ", ") })},
		{Header: "VERDICT", Cell: ofRule(ruleView.verdict)},
		{Header: "TYPE", Cell: func(r keyRow) string { return r.key.Type }},
		{Header: "FINGERPRINT", Cell: func(r keyRow) string { return r.key.print() }},
		{Header: "IDENTITY", Cell: func(r keyRow) string { return r.key.identity() }},
		{Header: "RULE", Cell: ofRule(func(v ruleView) string { return v.Rule })},
	}, rows, !o.noLegend)
}

func (v ruleView) verdict() string {
	if v.Verdict == "keys" {
		return v.Require + " of"
	}
	return v.Verdict
}

func (k keyView) print() string {
	if k.Fingerprint == "" {
		return "cannot be read: " + k.Error
	}
	return k.Fingerprint
}

func (k keyView) identity() string {
	words := slices.Clone(k.Identities)
	if k.Fingerprint != "" && k.Error != "" {
		words = append(words, "cannot vouch: "+k.Error)
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ", ")
}
