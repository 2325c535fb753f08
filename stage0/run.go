package stage0

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/store"
)

// Run makes a pod, and this process becomes it. It returns only if that fails;
// then nothing is left of the pod.
func Run(ctx context.Context, c Config, o Options) error {
	p, m, err := prepare(ctx, c, o)
	if err != nil {
		return err
	}
	if err = p.Move(pod.InRun); err == nil {
		err = become(c, p, m)
	}
	if o.UUIDFile != "" {
		err = errors.Join(err, ignoreMissing(os.Remove(o.UUIDFile)))
	}
	return errors.Join(err, p.Remove())
}

// PreparedOptions are what can still be chosen when a prepared pod is started.
type PreparedOptions struct {
	Net         string // "": as prepared
	Hostname    string // "": as prepared
	Interactive bool
	Term        string // TERM of the caller, for Interactive
}

// RunPrepared starts a prepared pod, and this process becomes it. The trust
// policy of today judges its images again; if it refuses one, the pod stays
// prepared.
func RunPrepared(c Config, uuid string, o PreparedOptions) error {
	p, err := c.pods().Find(uuid)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	m, err := lockPrepared(p)
	if err != nil {
		return err
	}
	change, err := o.check(c, m)
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := judgePrepared(c, m); err != nil {
		return fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if err := p.Move(pod.InRun); err != nil {
		return err
	}
	if change {
		if err := rewrite(p, m, o); err != nil {
			return fmt.Errorf("start pod %s: %w", p.UUID, err)
		}
	}
	return become(c, p, m)
}

func lockPrepared(p *pod.Pod) (*pod.Manifest, error) {
	phase, err := lock(p)
	if errors.Is(err, pod.ErrInUse) {
		return nil, fmt.Errorf("pod %s is not prepared, it is %s", p.UUID, phase)
	}
	if err != nil {
		return nil, err
	}
	if p.Place() != pod.InPrepared {
		return nil, fmt.Errorf("pod %s is not prepared, it is %s; a pod runs only once", p.UUID, pod.PhaseOf(p.Place(), false))
	}
	return p.Manifest()
}

// check brings the manifest in line with the options, and reports whether that
// has changed anything.
func (o PreparedOptions) check(c Config, m *pod.Manifest) (change bool, err error) {
	if o.Net != "" {
		if err := checkNet(o.Net); err != nil {
			return false, err
		}
		change = change || m.Net != o.Net
		m.Net = o.Net
	}
	if err := checkHostname(o.Hostname); err != nil {
		return false, err
	}
	if o.Hostname != "" {
		change = change || m.Hostname != o.Hostname
		m.Hostname = o.Hostname
	}
	if o.Interactive && len(m.Apps) > 1 {
		return false, fmt.Errorf("interactive option only works with one image, the pod has %d", len(m.Apps))
	}
	if o.Interactive && !m.Interactive {
		m.Interactive, change = true, true
	}
	given, err := insecure.Parse(strings.Join(m.Insecure, ","))
	if err != nil {
		return false, err
	}
	if more := c.Insecure &^ given &^ fetching; more != 0 {
		return false, fmt.Errorf("it was prepared without --insecure-options=%s, which cannot be given up any more; prepare it with that option", more)
	}
	if c.Insecure.Has(insecure.Image) && !given.Has(insecure.Image) {
		m.Insecure, change = (given | insecure.Image).Names(), true
	}
	return change, nil
}

// fetching are the protections that have nothing to do with how a pod is made.
const fetching = insecure.Image | insecure.TLS | insecure.HTTP

// judgePrepared asks the trust policy about each image of a pod.
func judgePrepared(c Config, m *pod.Manifest) error {
	given, err := insecure.Parse(strings.Join(m.Insecure, ","))
	if err != nil {
		return err
	}
	c.Insecure |= given & insecure.Image
	s, err := store.Open(c.Dir)
	if err != nil {
		return err
	}
	j := judge{c: c}
	for i := range m.Apps {
		record := &m.Apps[i].Image
		ref, err := reference.Parse(record.Name)
		if err != nil {
			return err
		}
		if err := digest.Digest(record.Digest).Validate(); err != nil {
			return fmt.Errorf("digest %q of image %q: %w", record.Digest, record.Name, err)
		}
		if err := j.image(s, ref, record); err != nil {
			return err
		}
	}
	return nil
}

// rewrite changes the files of a pod that is about to start. They need not
// survive a power cut any more: the pod does not.
func rewrite(p *pod.Pod, m *pod.Manifest, o PreparedOptions) error {
	for _, app := range m.Apps {
		name := pod.AppsDir + "/" + app.Name + "/" + pod.ConfigFile
		data, err := p.ReadFile(name, maxConfig)
		if err != nil {
			return err
		}
		var c config
		if err := json.Unmarshal(data, &c); err != nil || c.Spec == nil || c.Process == nil || c.Linux == nil || c.Linux.Linux == nil {
			return errors.Join(fmt.Errorf("read %q: not a configuration", name), err)
		}
		c.adapt(m, o.Term)
		if data, err = c.text(); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
		if err := atomicfile.WriteVolatile(p.Dir()+"/"+name, data, 0o640); err != nil {
			return err
		}
	}
	failpoint.Hit("stage0.prepared.rewritten")
	return p.ReplaceManifest(m)
}

// maxConfig bounds config.json. Its largest parts are arguments and variables,
// which come from an image's configuration and from flags.
const maxConfig = 16 << 20

// become replaces this process by the pod's stage1, which inherits the lock,
// standard input and output and the environment.
func become(c Config, p *pod.Pod, m *pod.Manifest) error {
	fd, err := p.Inherit()
	if err != nil {
		return err
	}
	if err := os.Chdir(p.Dir()); err != nil {
		return err
	}
	env := append(without(os.Environ(), pod.LockFDEnv), pod.LockFDEnv+"="+strconv.Itoa(fd))
	argv := []string{"stage1", "run"}
	if c.Debug {
		argv = append(argv, "--debug")
	}
	failpoint.Hit("stage0.exec")
	err = syscall.Exec(m.Stage1.Path, append(argv, p.UUID), env)
	return errors.Join(fmt.Errorf("start stage1 %q: %w", m.Stage1.Path, err), os.Chdir("/"))
}

// without gives the variables that are not named.
func without(env []string, names ...string) []string {
	var rest []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(names, name) {
			rest = append(rest, v)
		}
	}
	return rest
}
