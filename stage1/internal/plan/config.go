package plan

import (
	"bytes"
	"encoding/json"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/rkt/rkt/pod"
)

// Config is the part of an OCI runtime-spec configuration that this stage1
// honours. Everything else that a configuration may ask for is refused by its
// absence here.
//
// It is also what makes reading one cheap: the whole of specs.Spec, with all
// its platforms, costs a good part of a millisecond.
type Config struct {
	Version     string            `json:"ociVersion"`
	Process     *ConfigProcess    `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Mounts      []ConfigMount     `json:"mounts"`
	Annotations map[string]string `json:"annotations"`
	Linux       *ConfigLinux      `json:"linux"`
}

// ConfigProcess is the process member. Terminal and User are decided by the
// pod's manifest, which agrees with them.
type ConfigProcess struct {
	Terminal        bool                     `json:"terminal"`
	User            json.RawMessage          `json:"user"`
	Args            []string                 `json:"args"`
	Env             []string                 `json:"env"`
	Cwd             string                   `json:"cwd"`
	Capabilities    *specs.LinuxCapabilities `json:"capabilities"`
	Rlimits         []specs.POSIXRlimit      `json:"rlimits"`
	NoNewPrivileges bool                     `json:"noNewPrivileges"`
}

// ConfigMount is an element of the mounts member.
type ConfigMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// ConfigLinux is the linux member. Seccomp has been compiled by stage0.
type ConfigLinux struct {
	Namespaces    []specs.LinuxNamespace `json:"namespaces"`
	MaskedPaths   []string               `json:"maskedPaths"`
	ReadonlyPaths []string               `json:"readonlyPaths"`
	Seccomp       json.RawMessage        `json:"seccomp"`
}

// ParseConfig reads config.json. A member that is not honoured is an error
// that names it.
func ParseConfig(data []byte) (*Config, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	c := &Config{}
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("read %s, of which the native stage1 must honour every field: %w", pod.ConfigFile, err)
	}
	if c.Process == nil || c.Process.Capabilities == nil || c.Root == nil || c.Linux == nil {
		return nil, fmt.Errorf("read %s: it lacks process, process.capabilities, root or linux", pod.ConfigFile)
	}
	return c, nil
}

// checkNamespaces makes sure that a configuration has the namespaces that the
// pod has.
func checkNamespaces(list []specs.LinuxNamespace, m *pod.Manifest) error {
	want := map[specs.LinuxNamespaceType]bool{
		specs.PIDNamespace: true, specs.IPCNamespace: true, specs.UTSNamespace: true, specs.MountNamespace: true,
		specs.CgroupNamespace: true, specs.NetworkNamespace: m.Net == "none",
	}
	for _, n := range list {
		if !want[n.Type] || n.Path != "" {
			return fmt.Errorf("%s: namespace %q of path %q is not what the pod has", pod.ConfigFile, n.Type, n.Path)
		}
		delete(want, n.Type)
	}
	for t, missing := range want {
		if missing {
			return fmt.Errorf("%s: namespace %q is missing, apps cannot share the host's", pod.ConfigFile, t)
		}
	}
	return nil
}
