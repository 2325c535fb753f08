package stage0

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rkt/rkt/internal/program"
	"github.com/rkt/rkt/pod"
)

// stage1Of gives the stage1 of a pod, or, if a power cut has left nothing to
// read of its manifest, the one that belongs to this rkt.
func stage1Of(p *pod.Pod) (string, error) {
	m, err := p.Manifest()
	if err == nil {
		if _, err := os.Stat(m.Stage1.Path); err == nil {
			return m.Stage1.Path, nil
		}
	}
	return program.Find("stage1")
}

// EnterOptions say what to start in a running pod.
type EnterOptions struct {
	App  string   // may be empty if the pod has only one
	Args []string // empty: a shell
	TTY  bool     // a terminal of its own
}

// shell is what enter starts when nothing is said. It is up to the app's root
// which shell there is.
func shell() []string {
	return []string{"/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash; else exec /bin/sh; fi"}
}

// Enter starts a command in an app of a running pod. This process becomes what
// connects the two, and ends with the command's code; Enter returns only if
// that fails.
func Enter(ctx context.Context, c Config, uuid string, o EnterOptions) error {
	p, err := c.pods().Find(uuid)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	if err := p.WaitStarted(ctx); err != nil {
		return err
	}
	m, err := p.Manifest()
	if err != nil {
		return err
	}
	app, err := ChooseApp(m, o.App)
	if err != nil {
		return err
	}
	stage1, err := stage1Of(p)
	if err != nil {
		return err
	}
	if len(o.Args) == 0 {
		o.Args = shell()
	}
	argv := []string{"stage1", "enter", "--app=" + app}
	if o.TTY {
		argv = append(argv, "--tty")
	}
	argv = append(argv, p.UUID, "--")
	if err := os.Chdir(p.Dir()); err != nil {
		return err
	}
	err = syscall.Exec(stage1, append(argv, o.Args...), os.Environ())
	return fmt.Errorf("enter pod %s: start stage1 %q: %w", p.UUID, stage1, err)
}

// ChooseApp gives the app that a name means; "" is the only one.
func ChooseApp(m *pod.Manifest, name string) (string, error) {
	var names []string
	for _, a := range m.Apps {
		names = append(names, a.Name)
	}
	switch {
	case name == "" && len(names) == 1:
		return names[0], nil
	case name == "":
		return "", fmt.Errorf("pod %s has %d apps, specify app using --app: %s", m.UUID, len(names), strings.Join(names, ", "))
	case !slices.Contains(names, name):
		return "", fmt.Errorf("pod %s has no app %q, choose from %s", m.UUID, name, strings.Join(names, ", "))
	}
	return name, nil
}

// Stop ends a running pod and waits until it is dead: its apps are asked to
// end, and killed after timeout, or at once with force. It is ErrStopped if
// the pod was dead before.
func Stop(ctx context.Context, c Config, uuid string, force bool, timeout time.Duration) (whole string, err error) {
	p, err := c.pods().Find(uuid)
	if err != nil {
		return "", err
	}
	defer func() { _ = p.Close() }()
	phase, err := p.Phase()
	if err != nil {
		return p.UUID, err
	}
	if phase.Dead() {
		return p.UUID, fmt.Errorf("pod %s %w", p.UUID, ErrStopped)
	}
	if phase != pod.Running {
		return p.UUID, fmt.Errorf("pod %s is not running, it is %s", p.UUID, phase)
	}
	return p.UUID, stop(ctx, p, force, timeout)
}

// ErrStopped says that a pod need not be stopped any more.
var ErrStopped = errors.New("is stopped already")

// killSlack is how much longer than asked a stop may take: stage1 needs a
// moment to kill and to tear down.
const killSlack = 10 * time.Second

func stop(ctx context.Context, p *pod.Pod, force bool, timeout time.Duration) error {
	args := []string{"stop"}
	if force = force || timeout <= 0; force {
		args, timeout = append(args, "--force"), 0
	} else {
		args = append(args, "--timeout="+strconv.Itoa(int((timeout+time.Second-1)/time.Second)))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout+killSlack)
	defer cancel()
	err := runStage1(ctx, p, args...)
	if err != nil {
		// It may have lost a race with the pod's own end.
		if phase, perr := p.Phase(); perr == nil && phase.Dead() {
			return nil
		}
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("stop pod %s: it has not ended: %w; use 'rkt stop --force'", p.UUID, err)
	}
	if force {
		return releaseStopped(ctx, p)
	}
	return nil
}

// releaseStopped takes away at once what a pod may have left whose stage1 was
// killed.
func releaseStopped(ctx context.Context, p *pod.Pod) error {
	err := p.TryLock()
	if errors.Is(err, pod.ErrInUse) || errors.Is(err, pod.ErrNotFound) {
		return nil // a collector is at it
	}
	if err != nil {
		return err
	}
	return release(ctx, p)
}

// runStage1 runs an entrypoint of the pod's stage1 and waits for it.
func runStage1(ctx context.Context, p *pod.Pod, args ...string) error {
	path, err := stage1Of(p)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, append(args, p.UUID)...)
	cmd.Dir = p.Dir()
	said := &tail{limit: 4096}
	cmd.Stderr = said
	cmd.WaitDelay = time.Second // for who keeps our end of its standard error
	err = cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if text := said.String(); text != "" && ctx.Err() == nil {
		return errors.New(strings.TrimPrefix(text, "rkt: ")) // a whole sentence that names the pod
	}
	return fmt.Errorf("pod %s: stage1 %s: %w", p.UUID, args[0], err)
}

// tail keeps the last line of what is written to it.
type tail struct {
	limit int
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = slices.Delete(t.buf, 0, over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	text := bytes.TrimSpace(t.buf)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}
