package seccomp

//go:generate go run gen/main.go

// A callID is the place of a name in callNames.
type callID uint16

// numbered is one system call of one ABI. Two may share a number.
type numbered struct {
	nr   uint32
	call callID
}

func (c callID) String() string {
	start := uint16(0)
	if c > 0 {
		start = callEnds[c-1]
	}
	return callNames[start:callEnds[c]]
}

// lookup finds the call that any ABI has under this name.
func lookup(name string) (callID, bool) {
	low, high := 0, len(callEnds)
	for low < high {
		mid := int(uint(low+high) / 2)
		if callID(mid).String() < name {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return callID(low), low < len(callEnds) && callID(low).String() == name
}
