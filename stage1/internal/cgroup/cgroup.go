// Package cgroup places a pod in the control groups of its caller.
//
// In every hierarchy that rkt uses, the pod is a directory rkt-<uuid> below
// the cgroup in which rkt was called, so that a unit's limits and accounting
// hold for its pods, and each app is a directory below that. Limits are not
// set here.
//
// Sources: cgroups(7), the kernel's admin-guide/cgroup-v1 and cgroup-v2.
package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchy is one mounted cgroup hierarchy.
type Hierarchy struct {
	// Mount is where it is mounted.
	Mount string `json:"mount"`
	// V2 tells the unified hierarchy from those of version 1.
	V2 bool `json:"v2,omitempty"`
	// Controllers names a version 1 hierarchy, e.g. "cpu,cpuacct".
	Controllers string `json:"controllers,omitempty"`
	// Dir is the pod's directory.
	Dir string `json:"dir"`
}

// root is where every distribution mounts the hierarchies: the unified one
// itself, or one directory per version 1 hierarchy, named by its controllers,
// and "unified" beside them.
const root = "/sys/fs/cgroup"

// used are the version 1 controllers that pods are accounted by. Each further
// hierarchy costs every start of a pod a third of a millisecond.
var used = []string{"cpu", "cpuacct", "memory", "pids"}

// ForPod lists the hierarchies of this host with the directory of a pod that
// the calling process starts. Nothing is made.
func ForPod(uuid string) ([]Hierarchy, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find own cgroup: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, fmt.Errorf("find cgroups: %w", &os.PathError{Op: "statfs", Path: root, Err: err})
	}
	return list(string(self), uuid, st.Type == unix.CGROUP2_SUPER_MAGIC, isDir)
}

func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// list is ForPod with the kernel's answers as arguments.
func list(self, uuid string, unified bool, exists func(string) bool) ([]Hierarchy, error) {
	var all []Hierarchy
	for line := range strings.Lines(self) {
		// 4:memory:/user.slice or 0::/user.slice
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || strings.HasPrefix(parts[2], "/..") {
			continue
		}
		h := Hierarchy{Controllers: parts[1], V2: parts[0] == "0"}
		switch {
		case h.V2 && unified:
			h.Mount = root
		case h.V2:
			h.Mount = root + "/unified"
		case unified || !accounted(parts[1]):
			continue
		default:
			h.Mount = root + "/" + parts[1]
		}
		above := h.Mount + strings.TrimSuffix(parts[2], "/")
		if !exists(above) {
			continue
		}
		h.Dir = above + "/rkt-" + uuid
		all = append(all, h)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find cgroups: no hierarchy below %s holds this process; mount the cgroup file systems", root)
	}
	return all, nil
}

func accounted(controllers string) bool {
	for c := range strings.SplitSeq(controllers, ",") {
		if slices.Contains(used, c) {
			return true
		}
	}
	return false
}

// leaf returns where a process of a pod lives: apps below the pod's directory,
// init ("") in it, or below it where version 2 is alone, since there a cgroup
// with controlled children may have no processes (cgroup-v2, "No Internal
// Process Constraint").
func leaf(all []Hierarchy, h Hierarchy, app string) string {
	switch {
	case app != "":
		return h.Dir + "/" + app
	case h.V2 && len(all) == 1:
		return h.Dir + "/.init"
	default:
		return h.Dir
	}
}

// tree lists the directories of a pod and of its apps in a hierarchy, parents
// first.
func tree(all []Hierarchy, h Hierarchy, apps []string) []string {
	dirs := []string{h.Dir}
	if l := leaf(all, h, ""); l != h.Dir {
		dirs = append(dirs, l)
	}
	for _, a := range apps {
		dirs = append(dirs, leaf(all, h, a))
	}
	return dirs
}

// Create makes the directories of a pod and of its apps.
func Create(all []Hierarchy, apps []string) error {
	for _, h := range all {
		for _, d := range tree(all, h, apps) {
			if err := unix.Mkdir(d, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("make cgroup: %w", &os.PathError{Op: "mkdir", Path: d, Err: err})
			}
		}
	}
	return nil
}

// Place is where a new process of a pod joins its cgroups.
type Place struct {
	// V2 is the directory of the unified hierarchy, to be born in, or -1.
	V2 int
	// Tasks are the files of version 1 hierarchies in which a single-threaded
	// process writes "0" to move itself. The kernel does that without waiting
	// for an RCU grace period, which a write of a pid to cgroup.procs costs
	// (5 to 15 ms; cgroup_procs_write_start in the kernel's cgroup.c).
	Tasks []int
}

// Open opens the place of an app, or of init for "".
func Open(all []Hierarchy, app string) (*Place, error) {
	p := &Place{V2: -1}
	for _, h := range all {
		name, flags := leaf(all, h, app), unix.O_RDONLY|unix.O_DIRECTORY
		if !h.V2 {
			name, flags = name+"/tasks", unix.O_WRONLY
		}
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("open cgroup: %w", &os.PathError{Op: "open", Path: name, Err: err})
		}
		if h.V2 {
			p.V2 = fd
		} else {
			p.Tasks = append(p.Tasks, fd)
		}
	}
	return p, nil
}

// Close closes what Open opened.
func (p *Place) Close() {
	if p.V2 >= 0 {
		unix.Close(p.V2)
	}
	for _, fd := range p.Tasks {
		unix.Close(fd)
	}
	p.V2, p.Tasks = -1, nil
}

// Dirs are the pod's directories, for the record that gc reads.
func Dirs(all []Hierarchy) []string {
	dirs := make([]string, len(all))
	for i, h := range all {
		dirs[i] = h.Dir
	}
	return dirs
}

// Kill ends every process in the directories and below, and returns when none
// is left or the deadline has passed. Directories that are gone count as empty.
func Kill(dirs []string, deadline time.Time) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left := 0
		for _, dir := range dirs {
			// cgroup.kill is of version 2, Linux 5.14.
			if err := os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0); err == nil {
				n, err := count(dir)
				if err != nil {
					return err
				}
				left += n
				continue
			}
			n, err := signal(dir, unix.SIGKILL)
			if err != nil {
				return err
			}
			left += n
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end processes of cgroup %s: %d still there, they may hang in the kernel", dirs[0], left)
		}
		time.Sleep(wait) //nolint:forbidigo // polls with a deadline: version 1 tells nobody when a cgroup is free
	}
}

func count(dir string) (int, error) { return signal(dir, 0) }

// signal sends a signal to every process below dir and returns how many there
// are. Signal 0 only counts.
func signal(dir string, sig unix.Signal) (int, error) {
	total := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path + "/cgroup.procs")
		if err != nil {
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				return nil
			}
			return err
		}
		for pid := range bytes.FieldsSeq(data) {
			n := 0
			if _, err := fmt.Sscan(string(pid), &n); err != nil || n <= 1 {
				continue // 0: a process of another pid namespace, counted by nobody
			}
			total++
			if sig != 0 {
				_ = unix.Kill(n, sig) // it may have ended meanwhile
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("list processes of cgroup %s: %w", dir, err)
	}
	return total, nil
}

// RemoveKnown removes what Create made, and fails if there is more.
func RemoveKnown(all []Hierarchy, apps []string, deadline time.Time) error {
	for _, h := range all {
		for _, d := range slices.Backward(tree(all, h, apps)) {
			if err := rmdir(d, deadline); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove removes the directories and those below, which must have no
// processes. Just ended processes may keep a cgroup busy for moments, so it
// tries until the deadline. What is not there is no error.
func Remove(dirs []string, deadline time.Time) error {
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, remove(dir, deadline))
	}
	return errors.Join(errs...)
}

func remove(dir string, deadline time.Time) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := remove(dir+"/"+e.Name(), deadline); err != nil {
				return err
			}
		}
	}
	return rmdir(dir, deadline)
}

// rmdir retries for as long as the kernel says that the cgroup is busy.
func rmdir(dir string, deadline time.Time) error {
	for wait := 200 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup: %w", &os.PathError{Op: "rmdir", Path: dir, Err: err})
		}
		time.Sleep(wait) //nolint:forbidigo // polls with a deadline: version 1 tells nobody when a cgroup is free
	}
}
