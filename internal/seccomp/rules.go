package seccomp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A rule is what a profile says about some calls: the action if all conditions
// hold.
type rule struct {
	action action
	node   nodeID // of the action
	conds  []cond
}

// unifiedNumbers is the number from which on a new call has the same number
// everywhere (Linux 5.1). Calls below it are old enough for every C library
// and every profile to know them.
const unifiedNumbers = 403

// maxRules bounds the rules that one call may have, and by that the time that
// sorting them out takes.
const maxRules = 1024

// A ruleset is a checked profile, sorted by call.
type ruleset struct {
	fallback action  // for the calls that the profile does not name
	unknown  action  // for the numbers that nobody knows yet
	rules    []rule  // in the order of the profile
	byCall   []int32 // indices into rules, grouped by call
	start    []int32 // where the group of each call starts in byCall
	named    []bool  // calls that the profile names, be it without effect
}

func newRuleset(p *specs.LinuxSeccomp) (*ruleset, error) {
	fallback, err := newAction(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default: %w", err)
	}
	s := &ruleset{
		fallback: fallback,
		unknown:  fallback,
		named:    make([]bool, len(callEnds)),
		start:    make([]int32, len(callEnds)+1),
	}
	// A C library tries a new call and falls back to an old one at ENOSYS
	// only. The author of a profile cannot have meant to refuse what did not
	// exist yet.
	if fallback.deed() == enosys.deed() {
		s.unknown = enosys
	}
	type use struct {
		call callID
		rule int32
	}
	uses := make([]use, 0, len(callEnds))
	for i := range p.Syscalls {
		call := &p.Syscalls[i]
		rules, err := newRules(call)
		if err != nil {
			return nil, fmt.Errorf("syscalls[%d] (%s): %w", i, summary(call.Names), err)
		}
		for _, name := range call.Names {
			id, ok := lookup(name)
			if !ok {
				continue
			}
			s.named[id] = true
			for r := range rules {
				// Naming the default again says nothing, as in libseccomp: in
				// particular it does not shut out a later rule.
				if rules[r].action != fallback {
					uses = append(uses, use{id, int32(len(s.rules) + r)})
					s.start[id+1]++
				}
			}
		}
		s.rules = append(s.rules, rules...)
	}
	for i := range callEnds {
		if s.start[i+1] > maxRules {
			return nil, fmt.Errorf("call %q has more than %d rules", callID(i), maxRules)
		}
		s.start[i+1] += s.start[i]
	}
	s.byCall = make([]int32, len(uses))
	next := append([]int32(nil), s.start...)
	for _, u := range uses {
		s.byCall[next[u.call]] = u.rule
		next[u.call]++
	}
	return s, nil
}

// of returns the indices of the rules for a call, in the order of the profile.
func (s *ruleset) of(c callID) []int32 { return s.byCall[s.start[c]:s.start[c+1]] }

// newRules reads one entry of a profile. It is one rule, whose conditions must
// all hold, unless two of them look at the same argument: libseccomp cannot
// express that, so runc and crun take each condition of such an entry as a
// rule of its own, and the profiles in the field are written for them.
func newRules(call *specs.LinuxSyscall) ([]rule, error) {
	act, err := newAction(call.Action, call.ErrnoRet)
	if err != nil {
		return nil, err
	}
	if len(call.Names) == 0 {
		return nil, errors.New("there are no names")
	}
	for _, name := range call.Names {
		if name == "" {
			return nil, errors.New("a name is empty")
		}
	}
	conds := make([]cond, len(call.Args))
	var seen [6]bool
	split := false
	for i, arg := range call.Args {
		if conds[i], err = newCond(arg); err != nil {
			return nil, fmt.Errorf("args[%d]: %w", i, err)
		}
		split = split || seen[arg.Index]
		seen[arg.Index] = true
	}
	if !split {
		return []rule{{action: act, conds: conds}}, nil
	}
	rules := make([]rule, len(conds))
	for i := range conds {
		rules[i] = rule{action: act, conds: conds[i : i+1]}
	}
	return rules, nil
}

// summary shortens a list of names for an error.
func summary(names []string) string {
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// Unknown returns the names that a profile uses and that are no system call of
// any architecture that Compile knows. Compile passes over them, as every
// runtime does: they may be newer than rkt or belong to another architecture.
// They may also be misspelt, which a person wants to hear.
func Unknown(p *specs.LinuxSeccomp) []string {
	var unknown []string
	for i := range p.Syscalls {
		for _, name := range p.Syscalls[i].Names {
			if _, ok := lookup(name); !ok {
				unknown = append(unknown, name)
			}
		}
	}
	return unknown
}
