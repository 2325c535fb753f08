// Package insecure holds the values of --insecure-options: what a caller
// knowingly gives up, each by its name.
package insecure

import (
	"fmt"
	"strings"
)

// Options is a set of protections that the caller has switched off.
// The zero value gives up nothing.
type Options uint

const (
	Image        Options = 1 << iota // image signatures are not checked
	TLS                              // certificates of registries are not checked
	HTTP                             // registries may be reached by plain HTTP
	Capabilities                     // apps keep every capability
	Paths                            // kernel paths are neither masked nor read-only, all devices are open
	Seccomp                          // no system call filter
)

const (
	allFetch = Image | TLS | HTTP
	allRun   = Capabilities | Paths | Seccomp
)

var names = []struct {
	name string
	opt  Options
}{
	{"image", Image}, {"tls", TLS}, {"http", HTTP},
	{"capabilities", Capabilities}, {"paths", Paths}, {"seccomp", Seccomp},
	{"all-fetch", allFetch}, {"all-run", allRun}, {"all", allFetch | allRun},
}

// Parse reads a comma separated list, as given to --insecure-options.
func Parse(list string) (Options, error) {
	var set Options
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		if word == "" || word == "none" {
			continue
		}
		opt, ok := lookup(word)
		if !ok {
			return 0, fmt.Errorf("insecure option %q is unknown, choose from none, %s", word, strings.Join(Known(), ", "))
		}
		set |= opt
	}
	return set, nil
}

func lookup(word string) (Options, bool) {
	for _, n := range names {
		if n.name == word {
			return n.opt, true
		}
	}
	return 0, false
}

// Known lists every name that Parse accepts besides "none".
func Known() []string {
	var all []string
	for _, n := range names {
		all = append(all, n.name)
	}
	return all
}

// Has reports whether every protection in o was given up.
func (s Options) Has(o Options) bool { return s&o == o }

// Names lists the single options that are set, in a fixed order.
func (s Options) Names() []string {
	list := []string{}
	for _, n := range names {
		single := n.opt&(n.opt-1) == 0
		if single && s.Has(n.opt) {
			list = append(list, n.name)
		}
	}
	return list
}

// String is what Parse reads: a comma separated list, or "none".
func (s Options) String() string {
	if s == 0 {
		return "none"
	}
	return strings.Join(s.Names(), ",")
}

// Set adds a list to the set; with Type it makes *Options a command line flag
// that may be given several times.
func (s *Options) Set(list string) error {
	more, err := Parse(list)
	*s |= more
	return err
}

// Type names the flag's value in help texts.
func (s *Options) Type() string { return "options" }
