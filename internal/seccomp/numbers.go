package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Offsets in struct seccomp_data.
const (
	wordNumber = 0
	wordArch   = 4
)

// maxNodes ends the work on a profile whose filter the kernel would refuse:
// most nodes become an instruction or more.
const maxNodes = 8 * maxInstructions

// A builder turns rules into a graph.
type builder struct {
	*ruleset
	*graph
	killNode, enosysNode, fallbackNode, unknownNode nodeID
	scratch                                         []rule
}

func newBuilder(s *ruleset) *builder {
	g := newGraph()
	for i := range s.rules {
		s.rules[i].node = g.give(s.rules[i].action)
	}
	return &builder{
		ruleset:      s,
		graph:        g,
		killNode:     g.give(killProcess),
		enosysNode:   g.give(enosys),
		fallbackNode: g.give(s.fallback),
		unknownNode:  g.give(s.unknown),
	}
}

// audience builds the search over all numbers of one architecture.
func (b *builder) audience(h audience) (nodeID, error) {
	spans := append(make([]span, 0, enough), span{0, b.killNode})
	beyond := b.killNode
	for _, a := range h.abis {
		var err error
		if spans, err = b.numbers(spans, a); err != nil {
			return 0, err
		}
		if a != abiX32 {
			beyond = spans[len(spans)-1].node
		}
		if a == abiAMD64 {
			spans = addSpan(spans, x32Bit, b.killNode)
		}
	}
	// noCall has the x32 bit, but it is not a call of anybody: a program must
	// not be killed because its tracer skips a call.
	spans = addSpan(spans, noCall, beyond)
	return b.search(wordNumber, spans), nil
}

// numbers appends what is decided for each number of an ABI.
func (b *builder) numbers(spans []span, a abi) ([]span, error) {
	newest := b.newest(a)
	rows := byNumber[a]
	next := uint32(0)
	for i := 0; i < len(rows); {
		nr := rows[i].nr
		end := i + 1
		for end < len(rows) && rows[end].nr == nr {
			end++
		}
		if nr != next {
			spans = b.hole(spans, a, next, nr)
		}
		n := b.unknownNode
		if !ordinary(nr) || nr <= newest {
			n = b.decide(a, rows[i:end])
		}
		spans = addSpan(spans, a.base()+nr, n)
		if len(b.nodes) > maxNodes {
			return nil, errTooLarge
		}
		next, i = nr+1, end
	}
	return b.hole(spans, a, next, x32Bit), nil
}

// newest returns the highest number of an ABI that the profile's author must
// have known: the highest that a rule names, or the last of the old ones.
func (b *builder) newest(a abi) uint32 {
	newest := uint32(unifiedNumbers - 1)
	for _, row := range byNumber[a] {
		if b.named[row.call] && ordinary(row.nr) {
			newest = max(newest, row.nr)
		}
	}
	return newest
}

// hole appends the decision for numbers that the table does not have.
//
// Before Linux 5.4 an amd64 program could make calls of x32 without the x32
// bit, and calls of amd64 with it, by numbers that no table lists. A profile
// that allows all but some calls would let those pass. No program needs them,
// so they do what they do since.
func (b *builder) hole(spans []span, a abi, from, to uint32) []span {
	unknown := b.unknownNode
	switch {
	case !b.fallback.permissive():
	case a == abiX32 && to < x32Block:
		unknown = b.enosysNode
	case a == abiAMD64 && from < x32BlockEnd && to > x32Block:
		spans = addSpan(spans, from, unknown)
		spans = addSpan(spans, max(from, x32Block), b.enosysNode)
		from = x32BlockEnd
	}
	if from >= to {
		return spans
	}
	return addSpan(spans, a.base()+from, unknown)
}

// decide builds the decision for the calls of one number.
func (b *builder) decide(a abi, rows []numbered) nodeID {
	order := b.of(rows[0].call)
	if len(rows) > 1 {
		order = slices.Clone(order)
		for _, row := range rows[1:] {
			order = append(order, b.of(row.call)...)
		}
		slices.Sort(order)
		order = slices.Compact(order)
	}
	rules := b.scratch[:0]
	for _, r := range order {
		rules = append(rules, b.rules[r])
	}
	if a == abi386 {
		rules = b.multiplexed(rules, rows[0].call)
	}
	b.scratch = rules
	return b.choose(rules, a.wide(), b.fallbackNode)
}

// A multiplexer is a call of 386 that does the work of others, by a number in
// its first argument.
type multiplexer struct {
	mask  uint64   // what of the argument is the number
	calls []string // by number
}

func newMultiplexer(call string) multiplexer {
	switch call {
	case "socketcall":
		return multiplexer{1<<32 - 1, []string{
			1: "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername",
			"socketpair", "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt",
			"getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
		}}
	case "ipc": // the upper half of the argument is a version
		return multiplexer{1<<16 - 1, []string{
			1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop",
			11: "msgsnd", 12: "msgrcv", 13: "msgget", 14: "msgctl",
			21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl",
		}}
	}
	return multiplexer{}
}

// multiplexed appends to the rules for a multiplexer those for the calls that
// it does the work of, as libseccomp does: else a rule for connect could be
// passed by, and a program that is allowed connect could not use it.
//
// The arguments of such a call are in memory, where a filter cannot see them.
// A condition on them is then taken as met if that refuses the call, and as
// not met if that would allow it.
func (b *builder) multiplexed(rules []rule, c callID) []rule {
	m := newMultiplexer(c.String())
	for nr, name := range m.calls {
		id, ok := lookup(name)
		if !ok {
			continue
		}
		if r, ok := b.blind(id); ok {
			is := cond{op: specs.OpMaskedEqual, mask: m.mask, value: uint64(nr)}
			rules = append(rules, rule{r.action, r.node, []cond{is}})
		}
	}
	return rules
}

// blind chooses the rule for a call whose arguments cannot be seen.
func (b *builder) blind(c callID) (rule, bool) {
	for _, r := range b.of(c) {
		if len(b.rules[r].conds) == 0 {
			return b.rules[r], true
		}
	}
	for _, r := range b.of(c) {
		if b.rules[r].action.stricter(b.fallback) {
			return b.rules[r], true
		}
	}
	return rule{}, false
}
