package sandbox

import (
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/rkt-fetch/rights"
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
	if err := rights.GiveUp(keepCaps...); err != nil {
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
