package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/rkt-fetch/rights"
)

// kept are the capabilities that a fetch goes on with. This process itself
// needs only the first two, to remove what a failed unpacking left; the others
// are there for the children that unpack: with no_new_privs a child can have
// no more than its parent.
//
//   - DAC_OVERRIDE, FOWNER: make and remove files of any owner and mode.
//   - CHOWN, FSETID, SETFCAP: files as the layer describes them.
//   - SYS_CHROOT: the child's root directory is the layer's.
//   - SYS_ADMIN: the child's namespaces for network, processes and IPC, which
//     the kernel makes before the child can give anything up.
var kept = [...]uint{
	unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_CHOWN, unix.CAP_FSETID, unix.CAP_SETFCAP,
	unix.CAP_SYS_CHROOT, unix.CAP_SYS_ADMIN,
}

// confine gives up, for all threads and for good, what no fetch needs: other
// capabilities, gaining any by execve, and, where the kernel has Landlock,
// changing any file that is not below dir. It comes after credential helpers,
// which may need all of that, and before the first byte of a stranger.
// Reading stays allowed everywhere: certificates, resolv.conf and signatures
// are where the administrator says.
func confine(dir string) error {
	if err := rights.GiveUp(kept[:]...); err != nil {
		return err
	}
	return restrictWrites(dir)
}

// restrictWrites does nothing on kernels whose Landlock would forbid to move a
// blob from one directory to another (before Linux 5.19).
func restrictWrites(dir string) error {
	const moves = 2
	if abi, err := ll.LandlockGetABIVersion(); err != nil || abi < moves {
		return nil
	}
	const writing landlock.AccessFSSet = ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRefer |
		ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeReg | ll.AccessFSMakeDir |
		ll.AccessFSMakeSym | ll.AccessFSMakeFifo | ll.AccessFSMakeChar | ll.AccessFSMakeBlock | ll.AccessFSMakeSock
	rules := []landlock.Rule{landlock.PathAccess(ll.AccessFSWriteFile, os.DevNull)}
	// The parts of the store may be links to other disks.
	for _, part := range []string{"", "images", "images/blobs", "partial", "layers", "locks"} {
		rules = append(rules, landlock.PathAccess(writing, filepath.Join(dir, part)))
	}
	policy, err := landlock.NewConfig(writing)
	if err == nil {
		err = policy.BestEffort().RestrictPaths(rules...)
	}
	if err != nil {
		return fmt.Errorf("restrict writing to %q by Landlock: %w", dir, err)
	}
	return nil
}
