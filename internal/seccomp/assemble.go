package seccomp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	maxInstructions = unix.BPF_MAXINSNS

	// maxJump is what a conditional jump can skip, less the stepping stone to
	// its other target that may still come between.
	maxJump = 255 - 1

	nowhere = -1
)

// An assembler lays out a graph from its end to its start, so that each
// target of a jump is placed before the jump is. It uses only instructions
// that the kernel's own trial run of a filter understands (LD, AND, JMP, RET
// with constants): from Linux 5.11 on it notes which calls are always allowed
// and does not run the filter for them again.
type assembler struct {
	g       *graph
	code    []unix.SockFilter // last instruction first
	at      []int             // by node: the index in code of its jump or return
	loadAt  []int             // by node: the index of the load in front of it
	load    []bool            // by node: somebody comes here without the word loaded
	visited []bool
}

// assemble returns the filter that starts at root.
func (g *graph) assemble(root nodeID) ([]byte, error) {
	a := &assembler{
		g:       g,
		code:    make([]unix.SockFilter, 0, enough),
		at:      make([]int, len(g.nodes)),
		loadAt:  make([]int, len(g.nodes)),
		load:    make([]bool, len(g.nodes)),
		visited: make([]bool, len(g.nodes)),
	}
	for i := range a.at {
		a.at[i], a.loadAt[i] = nowhere, nowhere
	}
	a.load[root] = true
	a.survey(root)
	a.place(root)
	if len(a.code) > maxInstructions {
		return nil, errTooLarge
	}
	out := make([]byte, 0, 8*len(a.code))
	for i := len(a.code) - 1; i >= 0; i-- {
		in := a.code[i]
		out = binary.NativeEndian.AppendUint16(out, in.Code)
		out = append(out, in.Jt, in.Jf)
		out = binary.NativeEndian.AppendUint32(out, in.K)
	}
	return out, nil
}

var errTooLarge = fmt.Errorf("filter would have more than %d instructions, the most that the kernel takes", maxInstructions)

// keeps says that after n the accumulator holds what next compares.
func keeps(n, next node) bool { return n.word == next.word && n.mask == next.mask }

// survey finds the nodes that must load their word themselves.
func (a *assembler) survey(id nodeID) {
	if a.visited[id] {
		return
	}
	a.visited[id] = true
	n := a.g.nodes[id]
	if n.jump == 0 {
		return
	}
	for _, next := range [...]nodeID{n.yes, n.no} {
		if !keeps(n, a.g.nodes[next]) {
			a.load[next] = true
		}
		a.survey(next)
	}
}

// place lays out a node and, behind it, all that it leads to.
func (a *assembler) place(id nodeID) {
	n := a.g.nodes[id]
	if a.at[id] != nowhere || len(a.code) > maxInstructions {
		return
	}
	if n.jump == 0 {
		a.at[id] = a.emit(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: n.k})
		return
	}
	a.place(n.yes)
	a.place(n.no)
	yes := a.reach(n, n.yes)
	no := a.reach(n, n.no)
	here := len(a.code)
	a.at[id] = a.emit(unix.SockFilter{
		Code: unix.BPF_JMP | unix.BPF_K | n.jump,
		Jt:   uint8(here - 1 - yes),
		Jf:   uint8(here - 1 - no),
		K:    n.k,
	})
	if !a.load[id] {
		return
	}
	if n.mask != 0 {
		a.emit(unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: n.mask})
	}
	a.loadAt[id] = a.emit(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(n.word)})
}

func (a *assembler) emit(in unix.SockFilter) int {
	a.code = append(a.code, in)
	return len(a.code) - 1
}

// reach returns where a jump from n, which is placed next, finds its target,
// after a stepping stone is laid where that is too far.
func (a *assembler) reach(n node, target nodeID) int {
	next := a.g.nodes[target]
	place := &a.at[target]
	if next.jump != 0 && !keeps(n, next) {
		place = &a.loadAt[target]
	}
	skip := len(a.code) - 1 - *place
	if skip <= maxJump {
		return *place
	}
	if next.jump == 0 {
		*place = a.emit(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: next.k})
	} else {
		*place = a.emit(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(skip)})
	}
	return *place
}
