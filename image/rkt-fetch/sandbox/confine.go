package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

const (
	// maxMemory bounds what the child allocates: twice zstd's largest window,
	// the names of directories, and as much again for the garbage collector.
	maxMemory = 1 << 30
	// maxFiles is two for each level when trees are merged, and a few.
	maxFiles = 4096
	// refer is the version of Landlock that knows hard links between directories.
	refer = 2
)

// keepCaps make and remove files of any owner and mode, and nothing else. (A
// whiteout needs no CAP_MKNOD since Linux 5.8.)
var keepCaps = []uint{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP}

// confine gives up, for all threads and for good, everything but writing below
// target. It reports the version of Landlock that helped, 0 for none.
func confine(target *os.File, fileSize int64) (int, error) {
	if builtWithCgo {
		return 0, errors.New("rkt-fetch was built with cgo; build it with CGO_ENABLED=0, as 'make build' does")
	}
	if err := limit(fileSize); err != nil {
		return 0, err
	}
	// No file of the layer may become our time zone.
	time.Local = time.UTC
	unix.Umask(0)
	below := fmt.Sprintf("/proc/self/fd/%d", target.Fd())
	if os.Geteuid() == 0 {
		if err := target.Chdir(); err != nil {
			return 0, err
		}
		//nolint:forbidigo // a wall here: CAP_SYS_CHROOT goes with the other capabilities, and no descriptor leads out
		if err := unix.Chroot("."); err != nil {
			return 0, fmt.Errorf("make the target the root directory: %w", err)
		}
		below = "/"
	}
	if err := allThreads("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return 0, err
	}
	if err := dropCaps(); err != nil {
		return 0, err
	}
	return restrict(below)
}

func limit(fileSize int64) error {
	signal.Ignore(unix.SIGXFSZ) // have write(2) fail instead
	for _, l := range []struct {
		name     string
		resource int
		max      uint64
	}{
		{"file size", unix.RLIMIT_FSIZE, uint64(fileSize)},
		{"memory", unix.RLIMIT_DATA, maxMemory},
		{"descriptors", unix.RLIMIT_NOFILE, maxFiles},
		{"core size", unix.RLIMIT_CORE, 0},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.resource, &now); err != nil {
			return fmt.Errorf("read the limit of %s: %w", l.name, err)
		}
		low := min(l.max, now.Max)
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: low, Max: low}); err != nil {
			return fmt.Errorf("limit %s: %w", l.name, err)
		}
	}
	return nil
}

// dropCaps keeps of the capabilities that the process has those in keepCaps.
// The bounding set may stay: with no_new_privs, execve adds nothing.
func dropCaps() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var keep [2]uint32
	for _, c := range keepCaps {
		keep[c/32] |= 1 << (c % 32)
	}
	for i := range caps {
		caps[i].Permitted &= keep[i]
		caps[i].Effective = caps[i].Permitted
		caps[i].Inheritable = 0
	}
	return allThreads("drop capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&caps[0])), 0)
}

// restrict allows to write and to list below a path, and nothing else.
func restrict(path string) (int, error) {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < refer {
		return 0, nil
	}
	const access landlock.AccessFSSet = ll.AccessFSReadDir | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRefer |
		ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSym |
		ll.AccessFSMakeFifo | ll.AccessFSMakeChar
	if err := landlock.V9.BestEffort().Restrict(landlock.PathAccess(access, path)); err != nil {
		return 0, fmt.Errorf("restrict by Landlock: %w", err)
	}
	return abi, nil
}
