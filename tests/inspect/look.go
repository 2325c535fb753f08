package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// fd is a descriptor that came in by exec.
type fd struct {
	FD     int    `json:"fd"`
	Target string `json:"target"`
	Flags  string `json:"flags"`
}

type view struct {
	Args       []string            `json:"args"`
	Env        []string            `json:"env"`
	Cwd        string              `json:"cwd"`
	PID        int                 `json:"pid"`
	PPID       int                 `json:"ppid"`
	Session    int                 `json:"session"`
	UID        []int               `json:"uid"` // real, effective, saved, file system
	GID        []int               `json:"gid"`
	Groups     []int               `json:"groups"`
	FDs        []fd                `json:"fds"`
	TTY        bool                `json:"tty"`
	Caps       map[string]string   `json:"caps"` // inheritable, permitted, effective, bounding, ambient
	Seccomp    string              `json:"seccomp"`
	NoNewPrivs string              `json:"no_new_privs"`
	Cgroup     []string            `json:"cgroup"`
	Namespaces map[string]string   `json:"namespaces"`
	Root       string              `json:"root"`
	Mounts     []mount             `json:"mounts"`
	Hostname   string              `json:"hostname"`
	Rlimits    map[string][]string `json:"rlimits"`
	Umask      string              `json:"umask"`
	OOMScore   string              `json:"oom_score_adj"`
	Signals    map[string]string   `json:"signals"` // masks: blocked, ignored, caught
	Links      []string            `json:"links"`   // network interfaces
	Processes  int                 `json:"processes"`
}

type mount struct {
	Path    string `json:"path"`
	Type    string `json:"type"`
	Source  string `json:"source"`
	Options string `json:"options"`
	Shared  string `json:"propagation"`
}

func look(fds []fd) view {
	status := statusFields()
	cwd, _ := os.Getwd()
	hostname, _ := os.Hostname()
	session, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	return view{
		Args: os.Args, Env: os.Environ(), Cwd: cwd, PID: os.Getpid(), PPID: os.Getppid(), Session: int(session),
		UID: numbers(status["Uid"]), GID: numbers(status["Gid"]), Groups: numbers(status["Groups"]),
		FDs: fds, TTY: isTerminal(0) && isTerminal(1) && isTerminal(2),
		Caps: map[string]string{
			"inheritable": status["CapInh"], "permitted": status["CapPrm"], "effective": status["CapEff"],
			"bounding": status["CapBnd"], "ambient": status["CapAmb"],
		},
		Seccomp: status["Seccomp"], NoNewPrivs: status["NoNewPrivs"],
		Cgroup: lines("/proc/self/cgroup"), Namespaces: links("/proc/self/ns"), Root: readlink("/proc/self/root"),
		Mounts: mounts(), Hostname: hostname, Rlimits: rlimits(), Umask: status["Umask"],
		OOMScore: strings.Join(lines("/proc/self/oom_score_adj"), ""),
		Signals:  map[string]string{"blocked": status["SigBlk"], "ignored": status["SigIgn"], "caught": status["SigCgt"]},
		Links:    interfaces(), Processes: processCount(),
	}
}

// openFiles lists the descriptors without close-on-exec: those that were
// inherited, since Go sets the flag on every descriptor that it opens. It uses
// system calls only, as package os would open an epoll descriptor first.
func openFiles() []fd {
	found := []fd{}
	for n := range 4096 {
		flags, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(n), syscall.F_GETFD, 0)
		if errno != 0 || flags&syscall.FD_CLOEXEC != 0 {
			continue
		}
		status, _, _ := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(n), syscall.F_GETFL, 0)
		found = append(found, fd{FD: n, Target: readlink("/proc/self/fd/" + strconv.Itoa(n)), Flags: fmt.Sprintf("%#o", status)})
	}
	return found
}

func readlink(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return "error: " + err.Error()
	}
	return target
}

func lines(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func statusFields() map[string]string {
	fields := map[string]string{}
	for _, line := range lines("/proc/self/status") {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

func numbers(s string) []int {
	list := []int{}
	for _, word := range strings.Fields(s) {
		n, err := strconv.Atoi(word)
		if err == nil {
			list = append(list, n)
		}
	}
	return list
}

func links(dir string) map[string]string {
	found := map[string]string{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		found[e.Name()] = readlink(filepath.Join(dir, e.Name()))
	}
	return found
}

func mounts() []mount {
	list := []mount{}
	for _, line := range lines("/proc/self/mountinfo") {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		list = append(list, mount{Path: f[4], Type: g[0], Source: g[1], Options: f[5] + "," + g[2], Shared: strings.Join(f[6:], " ")})
	}
	return list
}

// rlimits reads /proc/self/limits. The Go runtime has raised the soft limit of
// open files to the hard one by now.
func rlimits() map[string][]string {
	found := map[string][]string{}
	for _, line := range lines("/proc/self/limits")[1:] {
		if len(line) < 67 {
			continue
		}
		found[strings.TrimSpace(line[:26])] = []string{strings.TrimSpace(line[26:47]), strings.TrimSpace(line[47:68])}
	}
	return found
}

func interfaces() []string {
	names := []string{}
	for _, line := range lines("/proc/self/net/dev") {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	sort.Strings(names)
	return names
}

func processCount() int {
	entries, _ := os.ReadDir("/proc")
	count := 0
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			count++
		}
	}
	return count
}

func isTerminal(fd int) bool {
	var termios syscall.Termios
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TCGETS, uintptr(unsafe.Pointer(&termios)))
	return errno == 0
}
