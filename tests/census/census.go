// Package census lists what running pods can leave behind on a host: mounts,
// processes, network namespaces, cgroups and files. Two lists, taken before and
// after, must be equal.
//
// It looks at all that is there and judges by the difference only; it removes
// nothing. Mounts that have vanished are as bad as mounts that have stayed.
package census

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Scope is where to look, besides the mounts, processes and network namespaces
// that the calling process sees.
type Scope struct {
	Cgroups []string // directories of cgroup file systems, with all below them
	Trees   []string // directories whose entries count, with all below them
	Ignore  []int    // processes that are the observer
}

// Take lists everything in the scope, a line each, sorted.
func Take(s Scope) ([]string, error) {
	mounts, pinned, err := mounts()
	if err != nil {
		return nil, err
	}
	processes, networks, err := processes(s.Ignore)
	if err != nil {
		return nil, err
	}
	lines := slices.Concat(mounts, processes)
	for ns := range networks {
		pinned = append(pinned, "network "+ns)
	}
	sort.Strings(pinned)
	lines = append(lines, slices.Compact(pinned)...)
	for _, root := range s.Cgroups {
		found, err := walk("cgroup", root, true)
		if err != nil {
			return nil, err
		}
		lines = append(lines, found...)
	}
	for _, root := range s.Trees {
		found, err := walk("file", root, false)
		if err != nil {
			return nil, err
		}
		lines = append(lines, found...)
	}
	sort.Strings(lines)
	return lines, nil
}

// Difference says what came ("+") and what went ("-").
func Difference(before, after []string) []string {
	diff := []string{}
	for _, line := range after {
		if _, found := slices.BinarySearch(before, line); !found {
			diff = append(diff, "+ "+line)
		}
	}
	for _, line := range before {
		if _, found := slices.BinarySearch(after, line); !found {
			diff = append(diff, "- "+line)
		}
	}
	return diff
}

// mounts lists the mounts of this namespace, and the network namespaces that a
// mount keeps alive. Mounts stacked on one path are numbered.
func mounts() (lines, networks []string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, nil, fmt.Errorf("list mounts: %w", err)
	}
	stacked := map[string]int{}
	for line := range strings.Lines(string(data)) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 2 {
			return nil, nil, fmt.Errorf("list mounts: line %q is not understood", line)
		}
		stacked[f[4]]++
		lines = append(lines, fmt.Sprintf("mount %s#%d %s %s", f[4], stacked[f[4]], g[0], g[1]))
		if g[0] == "nsfs" && strings.HasPrefix(f[3], "net:") {
			networks = append(networks, "network "+f[3])
		}
	}
	return lines, networks, nil
}

// processes lists the processes of this pid namespace and the network
// namespaces that they are in. One that ends meanwhile is left out.
func processes(ignore []int) (lines []string, networks map[string]bool, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, nil, fmt.Errorf("list processes: %w", err)
	}
	networks = map[string]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || slices.Contains(ignore, pid) {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || isKernelThread(string(stat)) {
			continue
		}
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // a zombie's is empty
		comm, _, _ := strings.Cut(string(stat), ") ")
		words := strings.ReplaceAll(strings.TrimRight(string(cmdline), "\x00"), "\x00", " ")
		lines = append(lines, fmt.Sprintf("process %s) %s", comm, words))
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil {
			networks[ns] = true
		}
	}
	return lines, networks, nil
}

// isKernelThread reads the flags of /proc/PID/stat: PF_KTHREAD.
func isKernelThread(stat string) bool {
	_, rest, _ := strings.Cut(stat, ") ")
	fields := strings.Fields(rest)
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&0x200000 != 0
}

func walk(kind, root string, onlyDirs bool) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile, or the root itself was never there
		}
		if err != nil {
			return err
		}
		if path != root && (entry.IsDir() || !onlyDirs) {
			lines = append(lines, kind+" "+path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", root, err)
	}
	return lines, nil
}
