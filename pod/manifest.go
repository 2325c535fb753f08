// Package pod is a pod on disk and nothing else: its manifest (the stage1
// contract), its paths, its lock, its Phase and the moves between phases.
//
// It never starts anything and knows nothing of images beyond what a pod
// records of them. The contract that these files are is written down in
// Documentation/devel/stage1-contract.md.
package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ContractVersion is the version of the contract between stage0 and stage1
// that this code writes and understands.
const ContractVersion = 1

// Files of a pod directory.
const (
	ManifestFile = "pod.json"    // Manifest
	PidFile      = "pid"         // decimal pid of stage1, written by it once init runs
	CgroupFile   = "cgroup"      // the pod's cgroup directories, one absolute path a line, written before they are made
	AppsDir      = "apps"        // one directory per app
	ConfigFile   = "config.json" // apps/<name>/: OCI runtime-spec configuration
	FilterFile   = "seccomp.bpf" // apps/<name>/: linux.seccomp of the configuration, compiled; absent: no filter
	StatusFile   = "status.json" // apps/<name>/: AppStatus, replaced by rename
	LogFile      = "log"         // apps/<name>/: output in the CRI line format; log.1 is the older part
	UpperDir     = "upper"       // apps/<name>/: overlay's writable layer
	WorkDir      = "work"        // apps/<name>/: overlay's work directory
)

// LockFDEnv names the environment variable that tells stage1 the descriptor
// of the pod directory that holds the lock.
const LockFDEnv = "RKT_LOCK_FD"

// maxManifest bounds what is read as a manifest or a status.
const maxManifest = 4 << 20

// Manifest is pod.json: everything about a pod that is not in its apps'
// runtime-spec configurations. stage0 writes it, stage1 refuses a Contract
// that it does not know.
type Manifest struct {
	Contract int       `json:"contract"`
	UUID     string    `json:"uuid"`
	Created  time.Time `json:"created"`
	// Hostname of the pod's UTS namespace.
	Hostname string `json:"hostname"`
	// Net is "none" (own namespace, loopback up) or "host".
	Net string `json:"net"`
	// Interactive connects the only app to a terminal that stage1 makes.
	Interactive bool `json:"interactive,omitempty"`
	// Insecure are the protections given up, by their names in
	// --insecure-options. They stay recorded for the life of the pod.
	Insecure []string `json:"insecure,omitempty"`
	Stage1   Stage1   `json:"stage1"`
	// Apps in the order in which they are started.
	Apps []App `json:"apps"`
}

// Stage1 says what runs the pod.
type Stage1 struct {
	Flavour string `json:"flavour"` // "native"
	Path    string `json:"path"`    // the program, absolute
	Init    string `json:"init"`    // stage1-init, absolute
}

// App is one app of a pod. Its process, mounts and limits are in
// apps/<Name>/config.json.
type App struct {
	Name  string `json:"name"`
	Image Image  `json:"image"`
	// Lower are the image's layer directories, uppermost first, absolute;
	// overlayfs stacks them with the option userxattr below apps/<Name>/upper.
	Lower []string `json:"lower"`
	// User is "user[:group]", each by number or by name. init resolves it in
	// the app's root before any process of the app has run.
	User string `json:"user"`
	// SupplementaryGroups are added to those that the app's /etc/group gives.
	SupplementaryGroups []uint32 `json:"supplementaryGroups,omitempty"`
	// StopSignal asks the app to end: a name such as "SIGTERM", or a number.
	StopSignal string `json:"stopSignal"`
	// StopTimeout is how long a stopped app may take before SIGKILL, in
	// seconds.
	StopTimeout int `json:"stopTimeout"`
}

// Image is what a pod remembers of an image; it outlives the image's name in
// the store.
type Image struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // of the manifest
	// Index is the digest of the image index that the manifest was chosen
	// from, Evidence that of the stored signatures; empty: there is none. Both
	// are blobs of the store, which run-prepared judges again.
	Index    string `json:"index,omitempty"`
	Evidence string `json:"evidence,omitempty"`
	// Verified tells that the trust policy accepted a signature when the pod
	// was made.
	Verified bool `json:"verified"`
	// Trust says why: the deciding rule and the keys, or what was given up.
	Trust string `json:"trust"`
}

// App states.
const (
	AppWaiting = "waiting"
	AppRunning = "running"
	AppExited  = "exited"
)

// AppStatus is apps/<name>/status.json.
type AppStatus struct {
	State string `json:"state"`
	// Pid as seen inside the pod, while running.
	Pid      int        `json:"pid,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	// ExitCode is what a shell would report: 128 + Signal for a death by
	// signal, 254 when the app could not be started.
	ExitCode *int   `json:"exitCode,omitempty"`
	Signal   string `json:"signal,omitempty"`
	// Error says why the app could not be started.
	Error string `json:"error,omitempty"`
	// UID and GID are what User was resolved to.
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// ParseManifest reads a manifest of any contract version up to ours, and
// checks what the rest of the code relies on.
func ParseManifest(data []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read pod manifest: %w", err)
	}
	if m.Contract < 1 || m.Contract > ContractVersion {
		return nil, fmt.Errorf("read pod manifest: contract version %d is not supported, this is version %d", m.Contract, ContractVersion)
	}
	seen := map[string]bool{}
	for _, a := range m.Apps {
		if err := CheckAppName(a.Name); err != nil {
			return nil, fmt.Errorf("read pod manifest: %w", err)
		}
		if seen[a.Name] {
			return nil, fmt.Errorf("read pod manifest: two apps are named %q", a.Name)
		}
		seen[a.Name] = true
	}
	if m.Net != "none" && m.Net != "host" {
		return nil, fmt.Errorf("read pod manifest: network %q is unknown", m.Net)
	}
	return &m, nil
}

// CheckAppName accepts the names that are safe as a file, cgroup and host
// name: 1 to 63 of a-z, 0-9 and '-', neither first nor last '-'.
func CheckAppName(name string) error {
	if name == "" {
		return errors.New("app name is empty")
	}
	if len(name) > 63 {
		return fmt.Errorf("app name %q is longer than 63 characters", name)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		ok := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' && i > 0 && i < len(name)-1
		if !ok {
			return fmt.Errorf("app name %q may only have a-z, 0-9 and inner '-'", name)
		}
	}
	return nil
}
