package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A cond is a comparison of one argument of a call. OpLessThan and OpLessEqual
// do not occur: they are the opposite of another one.
type cond struct {
	arg    uint8
	op     specs.LinuxSeccompOperator
	negate bool
	mask   uint64 // only for OpMaskedEqual; value has no bits outside it
	value  uint64
}

func newCond(arg specs.LinuxSeccompArg) (cond, error) {
	if arg.Index > 5 {
		return cond{}, fmt.Errorf("index %d is larger than 5, the last argument of a system call", arg.Index)
	}
	c := cond{arg: uint8(arg.Index), op: arg.Op, value: arg.Value}
	switch arg.Op {
	case specs.OpEqualTo, specs.OpGreaterThan, specs.OpGreaterEqual:
	case specs.OpNotEqual:
		c.op, c.negate = specs.OpEqualTo, true
	case specs.OpLessThan:
		c.op, c.negate = specs.OpGreaterEqual, true
	case specs.OpLessEqual:
		c.op, c.negate = specs.OpGreaterThan, true
	case specs.OpMaskedEqual:
		c.mask, c.value = arg.Value, arg.ValueTwo&arg.Value
	default:
		return cond{}, fmt.Errorf("operator %q is unknown", arg.Op)
	}
	return c, nil
}

// narrow makes a value one of an ABI whose arguments have 32 bits: there a
// negative number is not extended to 64.
func narrow(v uint64, wide bool) uint64 {
	if !wide && v>>31 == 1<<33-1 {
		return uint64(uint32(v))
	}
	return v
}

// holds evaluates the condition, which must not be a masked one.
func (c cond) holds(v uint64, wide bool) bool {
	value := narrow(c.value, wide)
	var is bool
	switch c.op {
	case specs.OpEqualTo:
		is = v == value
	case specs.OpGreaterThan:
		is = v > value
	case specs.OpGreaterEqual:
		is = v >= value
	}
	return is != c.negate
}

// words returns where seccomp_data has the two halves of an argument.
func words(arg uint8) (low, high uint16) {
	low = 16 + 8*uint16(arg) // little endian, as are all architectures here
	return low, low + 4
}

// compare adds the tests for c in front of yes and no.
func (g *graph) compare(c cond, wide bool, yes, no nodeID) nodeID {
	if c.negate {
		yes, no = no, yes
	}
	value := narrow(c.value, wide)
	low, high := words(c.arg)
	switch c.op {
	case specs.OpEqualTo:
		return g.maskedEqual(c.arg, wide, ^uint64(0), value, yes, no)
	case specs.OpMaskedEqual:
		return g.maskedEqual(c.arg, wide, c.mask, value, yes, no)
	}
	jump := uint16(unix.BPF_JGT)
	if c.op == specs.OpGreaterEqual {
		jump = unix.BPF_JGE
	}
	upper, lower := uint32(value>>32), uint32(value)
	if !wide {
		if upper != 0 {
			return no
		}
		return g.test(low, 0, jump, lower, yes, no)
	}
	same := g.test(low, 0, jump, lower, yes, no)
	same = g.test(high, 0, unix.BPF_JEQ, upper, same, no)
	return g.test(high, 0, unix.BPF_JGT, upper, yes, same)
}

func (g *graph) maskedEqual(arg uint8, wide bool, mask, value uint64, yes, no nodeID) nodeID {
	low, high := words(arg)
	if !wide {
		if value>>32 != 0 {
			return no
		}
		return g.bits(low, uint32(mask), uint32(value), yes, no)
	}
	yes = g.bits(low, uint32(mask), uint32(value), yes, no)
	return g.bits(high, uint32(mask>>32), uint32(value>>32), yes, no)
}

// bits tests one word under a mask.
func (g *graph) bits(word uint16, mask, value uint32, yes, no nodeID) nodeID {
	switch {
	case mask == 0:
		return yes
	case value == 0 && mask != ^uint32(0):
		return g.test(word, 0, unix.BPF_JSET, mask, no, yes)
	case mask == ^uint32(0):
		mask = 0
	}
	return g.test(word, mask, unix.BPF_JEQ, value, yes, no)
}

// all adds the tests of a rule's conditions.
func (g *graph) all(conds []cond, wide bool, yes, no nodeID) nodeID {
	for _, c := range slices.Backward(conds) {
		yes = g.compare(c, wide, yes, no)
	}
	return yes
}

// choose builds the decision between the rules of one call: an unconditional
// one wins, as in libseccomp; else the first whose conditions hold.
func (g *graph) choose(rules []rule, wide bool, fallback nodeID) nodeID {
	for _, r := range rules {
		if len(r.conds) == 0 {
			return r.node
		}
	}
	if len(rules) > 1 && oneLine(rules) {
		return g.line(rules, wide, fallback)
	}
	n := fallback
	for _, r := range slices.Backward(rules) {
		n = g.all(r.conds, wide, r.node, n)
	}
	return n
}

// oneLine says that all rules compare the same single argument as a whole, so
// that its value alone decides.
func oneLine(rules []rule) bool {
	for _, r := range rules {
		if len(r.conds) != 1 || r.conds[0].op == specs.OpMaskedEqual || r.conds[0].arg != rules[0].conds[0].arg {
			return false
		}
	}
	return true
}

// line builds the decision between rules that hold oneLine: the values of the
// argument are cut into stretches on which no rule changes its mind, and these
// are searched, upper half first.
func (g *graph) line(rules []rule, wide bool, fallback nodeID) nodeID {
	cuts := []uint64{0}
	for _, r := range rules {
		v := narrow(r.conds[0].value, wide)
		cuts = append(cuts, v)
		if v != ^uint64(0) {
			cuts = append(cuts, v+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)

	low, high := words(rules[0].conds[0].arg)
	var uppers, lowers []span
	last := fallback // the decision just below the current cut
	for i := 0; i < len(cuts); {
		upper := uint32(cuts[i] >> 32)
		lowers = lowers[:0]
		if uint32(cuts[i]) != 0 {
			lowers = append(lowers, span{0, last})
		}
		for ; i < len(cuts) && uint32(cuts[i]>>32) == upper; i++ {
			last = fallback
			for _, r := range rules {
				if r.conds[0].holds(cuts[i], wide) {
					last = r.node
					break
				}
			}
			lowers = addSpan(lowers, uint32(cuts[i]), last)
		}
		sub := g.search(low, lowers)
		if !wide {
			return sub
		}
		uppers = addSpan(uppers, upper, sub)
		if upper != ^uint32(0) && (i == len(cuts) || uint32(cuts[i]>>32) != upper+1) {
			uppers = addSpan(uppers, upper+1, last)
		}
	}
	return g.search(high, uppers)
}
