package linux

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities in the order of their numbers, <linux/capability.h>.
var capabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// CapSet is a set of capabilities, bit n standing for capability n.
type CapSet uint64

// ParseCaps reads names such as "CAP_CHOWN". A name that this kernel interface
// does not know is an error.
func ParseCaps(names []string) (CapSet, error) {
	var set CapSet
	for _, name := range names {
		short, ok := strings.CutPrefix(name, "CAP_")
		n := -1
		for i, c := range capabilities {
			if ok && c == short {
				n = i
			}
		}
		if n < 0 {
			return 0, fmt.Errorf("capability %q is unknown", name)
		}
		set |= 1 << n
	}
	return set, nil
}

// BoundingCaps names the capabilities in the bounding set of this process, as
// "CAP_CHOWN": no process that it starts can have others.
func BoundingCaps() []string {
	var held []string
	for n, name := range capabilities {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && v == 1 {
			held = append(held, "CAP_"+name)
		}
	}
	return held
}

// Caps are the five sets of a process, capabilities(7).
type Caps struct {
	Bounding, Effective, Permitted, Inheritable, Ambient CapSet
}

// DropBounding adds the calls that leave only keep in the bounding set. It
// needs CAP_SETPCAP, so it comes before SetCaps. Capabilities beyond those
// that we can name are dropped too; the kernel refuses numbers that it does
// not have, which is no failure.
func (s *Script) DropBounding(keep CapSet) {
	for n := range lastCap + 1 {
		if keep&(1<<n) == 0 {
			s.Try("drop bounding capability", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n)
		}
	}
}

// lastCap leaves room for capabilities that kernels have and we cannot name.
const lastCap uintptr = 47

// SetCaps adds the calls that set the other four sets. It comes after the
// change of user, for which KeepCaps must have been called.
func (s *Script) SetCaps(c Caps) {
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Effective:   uint32(c.Effective >> shift),
			Permitted:   uint32(c.Permitted >> shift),
			Inheritable: uint32(c.Inheritable >> shift),
		}
	}
	s.Call("set capabilities", unix.SYS_CAPSET, Ptr(s, hdr), Ptr(s, data))
	s.Call("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for n := range lastCap + 1 {
		if c.Ambient&(1<<n) != 0 {
			s.Call("raise ambient capability", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0)
		}
	}
}
