package stage0

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/failpoint"
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/internal/program"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/store"
)

// Prepare makes a pod that is ready to run and brings it to prepared. It
// gives the UUID of the pod, which survives a power cut.
func Prepare(ctx context.Context, c Config, o Options) (uuid string, err error) {
	p, _, err := prepare(ctx, c, o)
	if err != nil {
		return "", err
	}
	if err := p.Move(pod.InPrepared); err != nil {
		return "", errors.Join(err, p.Remove())
	}
	return p.UUID, p.Close()
}

// prepare makes a pod that is ready to run. It is in prepare, and locked. When
// it fails, nothing is left of it.
func prepare(ctx context.Context, c Config, o Options) (*pod.Pod, *pod.Manifest, error) {
	o.Apps = slices.Clone(o.Apps)
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	s, err := store.Open(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	r := &resolver{
		c: c, store: s, pull: o.Pull, quiet: o.Quiet, judge: judge{c: c}, names: map[string]string{},
	}
	images, release, err := r.images(ctx, o.Apps)
	if err != nil {
		return nil, nil, err
	}
	defer release()         // by then, the manifest refers to the images
	for i := range images { // of images that were given by ID, only now
		if o.Apps[i].Name == "" {
			o.Apps[i].Name = defaultName(images[i].ref)
		}
	}
	if err := checkNames(o.Apps); err != nil {
		return nil, nil, err
	}
	b := &builder{c: c, o: &o, images: images}
	if err := b.plan(); err != nil {
		return nil, nil, err
	}
	p, err := b.build()
	return p, &b.manifest, err
}

// builder writes a pod. It computes everything first, so that what the caller
// got wrong is known before anything is on disk.
type builder struct {
	c      Config
	o      *Options
	images []image

	manifest pod.Manifest
	configs  []*config
	filters  []filter
}

func (b *builder) plan() error {
	stage1, err := b.c.stage1()
	if err != nil {
		return err
	}
	b.manifest = pod.Manifest{
		Contract: pod.ContractVersion, Created: time.Now().UTC(),
		Net: b.o.Net, Interactive: b.o.Interactive,
		Insecure: b.c.Insecure.Names(), Stage1: stage1,
	}
	for i, app := range b.o.Apps {
		if err := b.app(app, &b.images[i]); err != nil {
			return fmt.Errorf("app %q: %w", app.Name, err)
		}
	}
	return nil
}

// stage1 gives what runs new pods.
func (c Config) stage1() (pod.Stage1, error) {
	if c.Stage1.Path != "" {
		return c.Stage1, nil
	}
	stage1, err := program.Find("stage1")
	if err != nil {
		return pod.Stage1{}, err
	}
	init, err := program.Find("stage1-init")
	if err != nil {
		return pod.Stage1{}, err
	}
	return pod.Stage1{Flavour: "native", Path: stage1, Init: init}, nil
}

// app adds an app to the manifest, and its configuration.
func (b *builder) app(app App, img *image) error {
	user, err := userOf(app, img.config)
	if err != nil {
		return err
	}
	p := parts{readOnly: app.ReadOnly, terminal: b.o.Interactive, net: b.o.Net, openPaths: b.c.Insecure.Has(insecure.Paths)}
	if p.args, err = commandOf(app, img.config); err != nil {
		return err
	}
	if p.env, err = environmentOf(b.o, app, img.config); err != nil {
		return err
	}
	if p.cwd, err = cwdOf(app, img.config); err != nil {
		return err
	}
	if p.caps, err = capsOf(app, b.baseCaps()); err != nil {
		return err
	}
	stop, err := stopSignalOf(img.config)
	if err != nil {
		return err
	}
	f, err := b.filter(p.caps)
	if err != nil {
		return err
	}
	p.seccomp = f.profile
	name, group, _ := strings.Cut(user, ":")
	p.user = specUser(name, group, app.Groups)
	b.configs = append(b.configs, newConfig(p))
	b.filters = append(b.filters, f)
	b.manifest.Apps = append(b.manifest.Apps, pod.App{
		Name: app.Name, Image: img.record, Lower: img.lower,
		User: user, SupplementaryGroups: app.Groups,
		StopSignal: stop, StopTimeout: defaultStopTimeout,
	})
	return nil
}

// baseCaps are the capabilities of an app for which nothing is asked. Where
// rkt itself does not have all, because it runs in a container, those are left
// out; what is asked for by name is an error then.
func (b *builder) baseCaps() []string {
	held := linux.BoundingCaps()
	if b.c.Insecure.Has(insecure.Capabilities) {
		return held
	}
	return slices.DeleteFunc(defaultCaps(), func(c string) bool { return !slices.Contains(held, c) })
}

func (b *builder) filter(caps []string) (filter, error) {
	switch {
	case b.c.Insecure.Has(insecure.Seccomp):
		return filter{}, nil
	case isDefault(caps):
		return defaultFilter(b.c.Dir)
	default:
		return makeFilter(caps)
	}
}

// build puts the pod on disk.
func (b *builder) build() (*pod.Pod, error) {
	p, err := b.c.pods().Create()
	if err != nil {
		return nil, err
	}
	if err := b.fill(p); err != nil {
		err = fmt.Errorf("prepare pod %s: %w", p.UUID, err)
		if b.o.UUIDFile != "" {
			err = errors.Join(err, ignoreMissing(os.Remove(b.o.UUIDFile)))
		}
		return nil, errors.Join(err, p.Remove())
	}
	return p, nil
}

func (b *builder) fill(p *pod.Pod) error {
	if b.o.UUIDFile != "" {
		if err := os.WriteFile(b.o.UUIDFile, []byte(p.UUID+"\n"), 0o644); err != nil {
			return err
		}
	}
	b.manifest.UUID, b.manifest.Hostname = p.UUID, b.o.Hostname
	if b.manifest.Hostname == "" {
		b.manifest.Hostname = "rkt-" + p.UUID
	}
	if err := p.Mkdir(pod.AppsDir, 0o750); err != nil {
		return err
	}
	for i, app := range b.manifest.Apps {
		b.configs[i].Hostname = b.manifest.Hostname
		if err := b.fillApp(p, pod.AppsDir+"/"+app.Name+"/", i); err != nil {
			return err
		}
		failpoint.Hit("stage0.app.written")
	}
	err := p.WriteManifest(&b.manifest)
	failpoint.Hit("stage0.manifest.written")
	return err
}

func (b *builder) fillApp(p *pod.Pod, dir string, i int) error {
	text, err := b.configs[i].text()
	if err != nil {
		return fmt.Errorf("write configuration of app %q: %w", b.manifest.Apps[i].Name, err)
	}
	for _, name := range []string{"", pod.UpperDir, pod.WorkDir} {
		if err := p.Mkdir(dir+name, 0o750); err != nil {
			return err
		}
	}
	if err := likeRoot(p.Dir()+"/"+dir+pod.UpperDir, b.images[i].lower); err != nil {
		return err
	}
	if err := p.Create(dir+pod.ConfigFile, text); err != nil {
		return err
	}
	return b.filters[i].put(p, dir+pod.FilterFile)
}

// likeRoot gives the writable layer the owner and the mode of the image's root
// directory: what an app sees as "/" is the topmost layer's.
func likeRoot(upper string, lower []string) error {
	if len(lower) == 0 {
		return os.Chmod(upper, 0o755)
	}
	var st unix.Stat_t
	if err := unix.Lstat(lower[0], &st); err != nil {
		return &os.PathError{Op: "stat", Path: lower[0], Err: err}
	}
	if st.Uid != 0 || st.Gid != 0 {
		if err := os.Lchown(upper, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: upper, Err: err}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
