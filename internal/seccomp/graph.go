package seccomp

import (
	"golang.org/x/sys/unix"
)

// A graph is the decision that a filter takes, as a DAG of tests that ends in
// actions. Equal nodes are the same node, so what two architectures decide
// alike is in the filter once.
type graph struct {
	nodes []node
	ids   map[node]nodeID
}

// enough is a size to start with that the filters of usual profiles fit in.
const enough = 512

type nodeID int32

// A node is a test of one word of seccomp_data, or an action.
type node struct {
	jump    uint16 // BPF_JEQ, BPF_JGT, BPF_JGE or BPF_JSET; 0 for an action
	word    uint16 // offset in seccomp_data
	mask    uint32 // what of the word counts, 0 for all of it
	k       uint32 // compared with; or the action
	yes, no nodeID
}

func newGraph() *graph {
	return &graph{nodes: make([]node, 0, enough), ids: make(map[node]nodeID, enough)}
}

func (g *graph) intern(n node) nodeID {
	if id, ok := g.ids[n]; ok {
		return id
	}
	id := nodeID(len(g.nodes))
	g.nodes = append(g.nodes, n)
	g.ids[n] = id
	return id
}

func (g *graph) give(a action) nodeID { return g.intern(node{k: uint32(a)}) }

func (g *graph) test(word uint16, mask uint32, jump uint16, k uint32, yes, no nodeID) nodeID {
	if yes == no {
		return yes
	}
	return g.intern(node{jump, word, mask, k, yes, no})
}

// A span says what is decided for the values from one on, up to the next span.
type span struct {
	from uint32
	node nodeID
}

// addSpan appends in rising order of from. Equal neighbours become one, and
// what was said of the same value before is replaced.
func addSpan(spans []span, from uint32, n nodeID) []span {
	if last := len(spans) - 1; last >= 0 && spans[last].from == from {
		spans = spans[:last]
	}
	if last := len(spans) - 1; last >= 0 && spans[last].node == n {
		return spans
	}
	return append(spans, span{from, n})
}

// search builds the binary search for the span that a word is in. The first
// span starts at 0.
func (g *graph) search(word uint16, spans []span) nodeID {
	if len(spans) == 1 {
		return spans[0].node
	}
	if len(spans) == 3 && spans[0].node == spans[2].node && spans[1].from+1 == spans[2].from {
		return g.test(word, 0, unix.BPF_JEQ, spans[1].from, spans[1].node, spans[0].node)
	}
	mid := len(spans) / 2
	low, high := g.search(word, spans[:mid]), g.search(word, spans[mid:])
	return g.test(word, 0, unix.BPF_JGE, spans[mid].from, high, low)
}
