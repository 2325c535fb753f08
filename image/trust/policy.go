package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/rkt/rkt/internal/smallfile"
)

const (
	policyDir     = "trust.d" // below each configuration directory
	policyKind    = "trust"
	policyVersion = "v1"
	maxFile       = 1 << 20 // of policy and key files
	maxFiles      = 1024
	maxRules      = 1024 // per file
	maxPatterns   = 256  // per rule
	maxKeys       = 64   // per rule
)

// Policy is the ordered list of rules. Key files are read when a rule that
// names them decides, not before: a start pays only for the keys it needs.
type Policy struct {
	rules []rule
}

type rule struct {
	name     string // FILE#N
	file     string
	patterns []pattern
	verdict  verdict
	all      bool // every key must vouch, not any
	keys     []keySpec
}

type verdict int

const (
	wantKeys verdict = iota
	acceptUnsigned
	rejectImage
)

// policyFile is a file of trust.d as it is written.
type policyFile struct {
	Kind    string     `json:"rktKind"`
	Version string     `json:"rktVersion"`
	Rules   []ruleSpec `json:"rules"`
}

type ruleSpec struct {
	Match   []string  `json:"match"`
	Require string    `json:"require,omitempty"`
	Keys    []keySpec `json:"keys,omitzero"`
	Accept  string    `json:"accept,omitempty"`
	Reject  bool      `json:"reject,omitempty"`
}

type keySpec struct {
	Type string `json:"type"`
	Path string `json:"path,omitempty"`
	Data string `json:"data,omitempty"`
	// The fields of a keyless identity are known only to be refused.
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	Root    string `json:"root,omitempty"`
}

// LoadPolicy reads trust.d/*.json below the vendor's and the administrator's
// configuration directory. The administrator's rules come first, each
// directory's in the order of its file names; a file of the administrator
// takes the place of the vendor's file of the same name. No file at all is a
// policy that refuses everything. Any file that is not understood as a whole
// is an error, because the rule that protects may be the one in it.
func LoadPolicy(systemDir, localDir string) (*Policy, error) {
	p := &Policy{}
	seen := map[string]bool{}
	for _, dir := range [...]string{localDir, systemDir} {
		if dir == "" {
			continue
		}
		dir, err := filepath.Abs(filepath.Join(dir, policyDir))
		if err != nil {
			return nil, fmt.Errorf("read trust policy: %w", err)
		}
		names, err := policyNames(dir)
		if err != nil {
			return nil, fmt.Errorf("read trust policy: %w", err)
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			file := filepath.Join(dir, name)
			if err := p.load(file); err != nil {
				return nil, fmt.Errorf("trust policy file %q: %w", file, err)
			}
		}
	}
	return p, nil
}

func policyNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("directory %q has %d files, more than %d", dir, len(names), maxFiles)
	}
	sort.Strings(names)
	return names, nil
}

func (p *Policy) load(file string) error {
	data, err := smallfile.Read(file, maxFile)
	if err != nil {
		return err
	}
	rules, err := parsePolicy(file, data)
	p.rules = append(p.rules, rules...)
	return err
}

func readPolicyFile(data []byte) (policyFile, error) {
	var f policyFile
	if err := decodeStrict(data, &f); err != nil {
		return f, err
	}
	if f.Kind != policyKind {
		return f, fmt.Errorf("field \"rktKind\" is %q, must be %q", f.Kind, policyKind)
	}
	if f.Version != policyVersion {
		return f, fmt.Errorf("field \"rktVersion\" is %q, this rkt reads only %q", f.Version, policyVersion)
	}
	if f.Rules == nil {
		return f, fmt.Errorf("field \"rules\" is missing")
	}
	if len(f.Rules) > maxRules {
		return f, fmt.Errorf("field \"rules\" has %d rules, more than %d", len(f.Rules), maxRules)
	}
	return f, nil
}

func parsePolicy(file string, data []byte) ([]rule, error) {
	f, err := readPolicyFile(data)
	if err != nil {
		return nil, err
	}
	rules := make([]rule, 0, len(f.Rules))
	for i, spec := range f.Rules {
		r, err := spec.rule()
		if err != nil {
			return nil, fmt.Errorf("field \"rules[%d]%w", i, err)
		}
		r.name, r.file = fmt.Sprintf("%s#%d", file, i+1), file
		rules = append(rules, r)
	}
	return rules, nil
}

// rule checks a rule. Its errors continue a sentence: field "rules[0]….
func (s ruleSpec) rule() (rule, error) {
	var r rule
	if len(s.Match) == 0 {
		return r, fmt.Errorf(".match\" has no pattern")
	}
	if len(s.Match) > maxPatterns {
		return r, fmt.Errorf(".match\" has %d patterns, more than %d", len(s.Match), maxPatterns)
	}
	for i, text := range s.Match {
		p, err := parsePattern(text)
		if err != nil {
			return r, fmt.Errorf(".match[%d]\": %w", i, err)
		}
		r.patterns = append(r.patterns, p)
	}
	chosen := 0
	for _, given := range [...]bool{s.Keys != nil, s.Accept != "", s.Reject} {
		if given {
			chosen++
		}
	}
	if chosen != 1 {
		return r, fmt.Errorf("\" must have exactly one of \"keys\", \"accept\" and \"reject\"")
	}
	switch {
	case s.Reject:
		r.verdict = rejectImage
	case s.Accept == "unsigned":
		r.verdict = acceptUnsigned
	case s.Accept != "":
		return r, fmt.Errorf(".accept\" is %q, only \"unsigned\" can be accepted", s.Accept)
	}
	return r, s.addKeys(&r)
}

func (s ruleSpec) addKeys(r *rule) error {
	switch {
	case s.Require != "" && s.Keys == nil:
		return fmt.Errorf(".require\" needs \"keys\"")
	case s.Require == "all":
		r.all = true
	case s.Require != "" && s.Require != "any":
		return fmt.Errorf(".require\" is %q, must be \"any\" or \"all\"", s.Require)
	}
	if len(s.Keys) > maxKeys {
		return fmt.Errorf(".keys\" has %d keys, more than %d", len(s.Keys), maxKeys)
	}
	for i, key := range s.Keys {
		if err := key.check(); err != nil {
			return fmt.Errorf(".keys[%d]%w", i, err)
		}
	}
	r.keys = s.Keys
	return nil
}

func (k keySpec) check() error {
	switch k.Type {
	case Cosign, OpenPGP:
	case "keyless":
		return fmt.Errorf(".type\" is \"keyless\": this build of rkt cannot verify keyless identities, use keys of type %q or %q", Cosign, OpenPGP)
	case "":
		return fmt.Errorf(".type\" is missing")
	default:
		return fmt.Errorf(".type\" is %q, must be %q or %q", k.Type, Cosign, OpenPGP)
	}
	switch {
	case k.Issuer != "" || k.Subject != "" || k.Root != "":
		return fmt.Errorf("\" has \"issuer\", \"subject\" or \"root\", which only keyless identities have")
	case (k.Path == "") == (k.Data == ""):
		return fmt.Errorf("\" must have exactly one of \"path\" and \"data\"")
	}
	return nil
}

// match returns the first of the rule's patterns that fits.
func (r rule) match(segments []string) (pattern, bool) {
	for _, p := range r.patterns {
		if p.fits(segments) {
			return p, true
		}
	}
	return pattern{}, false
}

// onlyRepository is the one repository that the rule is for, if it is for one.
func (r rule) onlyRepository() (string, bool) {
	if len(r.patterns) != 1 || r.patterns[0].wild {
		return "", false
	}
	return r.patterns[0].text, true
}

func (r rule) matchText() string {
	texts := make([]string, len(r.patterns))
	for i, p := range r.patterns {
		texts[i] = p.text
	}
	return strings.Join(texts, ", ")
}

// Rule is a rule of the policy for people to read.
type Rule struct {
	Name    string    // FILE#N
	Match   []string  // its patterns
	Verdict string    // "keys", "unsigned" or "reject"
	All     bool      // every key must vouch, not any
	Keys    []RuleKey // as the rule has them
}

// RuleKey is a key of a rule, or why it cannot be read.
type RuleKey struct {
	Type string
	Path string // as written in the rule, "" when the rule holds the key itself
	Keys []Key  // one, or those of an OpenPGP file
	Err  error
}

// Rules lists the policy in the order in which it is asked, reading all keys.
func (p *Policy) Rules() []Rule {
	rules := []Rule{}
	for _, r := range p.rules {
		listed := Rule{Name: r.name, All: r.all, Verdict: [...]string{"keys", "unsigned", "reject"}[r.verdict]}
		for _, pattern := range r.patterns {
			listed.Match = append(listed.Match, pattern.text)
		}
		for _, spec := range r.keys {
			keys, err := spec.load(r.file)
			listed.Keys = append(listed.Keys, RuleKey{Type: spec.Type, Path: spec.Path, Keys: keys, Err: err})
		}
		rules = append(rules, listed)
	}
	return rules
}

// Deciding names the rule that decides about a repository, FILE#N, or "".
func (p *Policy) Deciding(repository string) string {
	segments := strings.Split(repository, "/")
	for _, r := range p.rules {
		if _, ok := r.match(segments); ok {
			return r.name
		}
	}
	return ""
}
