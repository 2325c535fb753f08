package trust

import (
	"fmt"
	"strings"

	"github.com/rkt/rkt/image/reference"
)

const maxSegments = 32

// pattern matches repositories by whole path segments: "*" is one segment,
// "**" any number of them, none included. It never matches part of a segment:
// with raw prefixes a rule for example.com/foo would hold for example.com/foobar.
type pattern struct {
	text     string
	segments []string
	wild     bool
}

// CheckPattern says what is wrong with a pattern for rules.
func CheckPattern(text string) error {
	_, err := parsePattern(text)
	return err
}

func parsePattern(text string) (pattern, error) {
	p := pattern{text: text, segments: strings.Split(text, "/")}
	if len(p.segments) > maxSegments {
		return p, fmt.Errorf("pattern %q has more than %d segments", clip(text), maxSegments)
	}
	// What the wildcards could stand for must make a canonical repository,
	// or the pattern would never match and its rule protect nothing.
	sample := make([]string, len(p.segments))
	for i, segment := range p.segments {
		switch {
		case segment != "*" && segment != "**":
			if strings.Contains(segment, "*") {
				return p, fmt.Errorf("pattern %q has %q: * and ** stand for whole segments", clip(text), clip(segment))
			}
			sample[i] = segment
		default:
			p.wild = true
			sample[i] = "x"
			if i == 0 {
				sample[i] = "x.x"
			}
		}
	}
	if len(sample) == 1 && p.wild {
		if text == "*" {
			return p, fmt.Errorf("pattern \"*\" is one segment, and repositories have at least two: a host and a path, write \"**\"")
		}
		return p, nil
	}
	return p, p.checkSample(strings.Join(sample, "/"))
}

func (p pattern) checkSample(sample string) error {
	ref, err := reference.Parse(sample)
	if err != nil {
		return fmt.Errorf("pattern %q is not made of a host and path segments: %w", clip(p.text), err)
	}
	switch repository := ref.Repository(); {
	case repository == sample:
		return nil
	case p.wild:
		return fmt.Errorf("pattern %q would never match: it must start with a host as in \"docker.io/library/nginx\", with * or **, and end in a path segment in lower case without tag", clip(p.text))
	default:
		return fmt.Errorf("pattern %q would never match, write the repository in full: %q", clip(p.text), repository)
	}
}

// fits walks both lists once, going back to the last "**" when stuck.
func (p pattern) fits(segments []string) bool {
	at, back, resume := 0, -1, 0
	for i := 0; i < len(segments); {
		switch {
		case at < len(p.segments) && p.segments[at] == "**":
			back, resume = at, i
			at++
		case at < len(p.segments) && fitsOne(p.segments[at], segments[i]):
			at++
			i++
		case back >= 0:
			resume++
			at, i = back+1, resume
		default:
			return false
		}
	}
	for at < len(p.segments) && p.segments[at] == "**" {
		at++
	}
	return at == len(p.segments)
}

// fitsOne: "*" stands for a host or a path segment, never for the "oci:" that
// a local name starts with.
func fitsOne(pattern, segment string) bool {
	return pattern == segment || pattern == "*" && !strings.HasSuffix(segment, ":")
}

// clip keeps quoted input short in messages.
func clip(s string) string {
	const shown = 200
	if len(s) > shown {
		return s[:shown] + "…"
	}
	return s
}
