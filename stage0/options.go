package stage0

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/pod"
)

// Options say what a new pod is to be.
type Options struct {
	// Net is "none" or "host"; "" is "none".
	Net string
	// Hostname of the pod; "" is rkt-UUID.
	Hostname string
	// Environment of every app, from the weakest to the strongest: what the
	// caller has (as it is in os.Environ), what a file says, what flags say.
	// What an image says goes between the first two.
	InheritEnv []string
	EnvFile    []string
	Env        []string
	// Pull is when images are fetched: PullNew if they are not in the store.
	Pull PullPolicy
	// Interactive gives the only app the caller's terminal, or one like it.
	Interactive bool
	Term        string // TERM of the caller, for Interactive
	// Quiet keeps fetches from showing their progress.
	Quiet bool
	// UUIDFile gets the UUID as soon as there is one; "" for none.
	UUIDFile string
	// Apps in the order in which they start.
	Apps []App
}

// App says what an app of a new pod is to be. What is empty is the image's.
type App struct {
	Image     string // a name as of image/reference, or the digest "sha256:…", or the start of one
	Signature string // file with a detached signature of a local image
	Name      string // "": made from the image's name

	Exec string   // instead of the image's entrypoint and arguments
	Args []string // instead of the image's arguments

	User, Group string
	Groups      []uint32
	WorkingDir  string
	Env         []string // stronger than all of the pod's
	ReadOnly    bool     // the root

	// CapsRetain are the only capabilities to have, CapsRemove those of the
	// default ones not to have. At most one of them is given.
	CapsRetain, CapsRemove []string
}

// PullPolicy says when an image is fetched.
type PullPolicy string

// The policies of --pull-policy.
const (
	PullNever  PullPolicy = "never"
	PullNew    PullPolicy = "new"
	PullUpdate PullPolicy = "update"
)

const (
	netNone = "none"
	netHost = "host"
)

// check finds what is wrong with options before anything is done, and fills in
// defaults.
func (o *Options) check() error {
	if len(o.Apps) == 0 {
		return errors.New("a pod needs at least one image")
	}
	if o.Interactive && len(o.Apps) > 1 {
		return fmt.Errorf("interactive option only works with one image, %d are given", len(o.Apps))
	}
	if o.Pull == "" {
		o.Pull = PullNew
	}
	if !slices.Contains([]PullPolicy{PullNever, PullNew, PullUpdate}, o.Pull) {
		return fmt.Errorf("pull policy %q is unknown, choose from never, new, update", o.Pull)
	}
	if o.Net == "" {
		o.Net = netNone
	}
	if err := checkNet(o.Net); err != nil {
		return err
	}
	if err := checkHostname(o.Hostname); err != nil {
		return err
	}
	for i := range o.Apps {
		if err := o.Apps[i].check(); err != nil {
			return err
		}
	}
	return checkNames(o.Apps)
}

func checkNet(net string) error {
	if net != netNone && net != netHost {
		return fmt.Errorf("network %q is unknown, choose from none, host", net)
	}
	return nil
}

// checkHostname accepts names as of RFC 1123 that sethostname(2) takes, and
// none at all.
func checkHostname(name string) error {
	const longest = 64 // __NEW_UTS_LEN
	if len(name) > longest {
		return fmt.Errorf("hostname %q is longer than %d characters", name, longest)
	}
	if name == "" {
		return nil
	}
	for label := range strings.SplitSeq(name, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
		})
		if bad || label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("hostname %q may only have parts of letters, digits and inner '-', joined by '.'", name)
		}
	}
	return nil
}

// check finds out what is wrong with an app whatever its image is, and names
// it by its image's name.
func (a *App) check() error {
	if !isID(a.Image) {
		ref, err := reference.Parse(a.Image)
		if err != nil {
			return err
		}
		if a.Name == "" {
			a.Name = defaultName(ref)
		}
	}
	none := ocispec.ImageConfig{}
	_, userErr := userOf(*a, none)
	_, cwdErr := cwdOf(*a, none)
	_, capsErr := capsOf(*a, nil)
	for _, err := range []error{userErr, cwdErr, capsErr} {
		if err != nil {
			return fmt.Errorf("app of image %q: %w", a.Image, err)
		}
	}
	return nil
}

// checkNames makes sure that apps have names and that these differ, as far as
// they are known already.
func checkNames(apps []App) error {
	seen := map[string]bool{}
	for _, app := range apps {
		if app.Name == "" {
			continue
		}
		if err := pod.CheckAppName(app.Name); err != nil {
			return err
		}
		if seen[app.Name] {
			return fmt.Errorf("there are multiple apps with name %q, tell them apart with --name", app.Name)
		}
		seen[app.Name] = true
	}
	return nil
}

// defaultName makes an app name from the last part of an image's name.
func defaultName(ref reference.Reference) string {
	base := path.Base(ref.Repository())
	if ref.IsLocal() {
		base = strings.TrimSuffix(base, ".tar")
	}
	name := []byte(strings.ToLower(base))
	for i, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			name[i] = '-'
		}
	}
	short := strings.Trim(string(name[:min(len(name), 63)]), "-")
	if short == "" {
		return "app"
	}
	return short
}

// capabilities that an app has unless something else is asked for: those of
// the old rkt, which are those of the field.
func defaultCaps() []string {
	return []string{
		"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
		"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

func isDefault(caps []string) bool { return slices.Equal(caps, defaultCaps()) }

// capsOf gives the app's capabilities, sorted. base are those that it would
// have if nothing was asked for.
func capsOf(app App, base []string) ([]string, error) {
	if len(app.CapsRetain) > 0 && len(app.CapsRemove) > 0 {
		return nil, errors.New("--caps-retain and --caps-remove exclude each other, use one of them")
	}
	retain, err := capNames(app.CapsRetain)
	if err != nil {
		return nil, err
	}
	remove, err := capNames(app.CapsRemove)
	if err != nil {
		return nil, err
	}
	switch {
	case len(retain) > 0:
		return retain, nil
	case len(remove) > 0:
		return slices.DeleteFunc(slices.Clone(base), func(c string) bool { return slices.Contains(remove, c) }), nil
	default:
		return base, nil
	}
}

// capNames brings names such as "net_raw" and "CAP_NET_RAW" into the latter
// form.
func capNames(given []string) ([]string, error) {
	var names []string
	for _, name := range given {
		full := strings.ToUpper(strings.TrimSpace(name))
		if !strings.HasPrefix(full, "CAP_") {
			full = "CAP_" + full
		}
		if _, err := linux.ParseCaps([]string{full}); err != nil {
			return nil, fmt.Errorf("capability %q is unknown, see capabilities(7)", name)
		}
		names = append(names, full)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ReadEnvFile reads the file of --set-env-file: lines NAME=VALUE; empty lines
// and those that start with '#' or ';' are comments.
func ReadEnvFile(name string) ([]string, error) {
	const limit = 1 << 20
	data, err := readLimited(name, limit)
	if err != nil {
		return nil, err
	}
	env, err := parseEnv(string(data))
	if err != nil {
		return nil, fmt.Errorf("file %q, %w", name, err)
	}
	return env, nil
}

// parseEnv reads the content of such a file.
func parseEnv(text string) ([]string, error) {
	var env []string
	seen := map[string]int{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, err := variableName(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if before := seen[key]; before != 0 {
			return nil, fmt.Errorf("line %d: variable %q is set in line %d already", n, key, before)
		}
		seen[key] = n
		env = append(env, line)
	}
	return env, nil
}

// readLimited reads a file of at most limit bytes. It may be a pipe.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, min(info.Size(), limit)+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > limit {
		return nil, fmt.Errorf("file %q is larger than %d bytes", name, limit)
	}
	return buf.Bytes(), nil
}

// variableName checks NAME=VALUE and gives NAME.
func variableName(s string) (string, error) {
	name, value, found := strings.Cut(s, "=")
	switch {
	case !found || name == "":
		return "", fmt.Errorf("environment variable %s must be NAME=VALUE", strconv.Quote(shorten(s)))
	case strings.ContainsAny(name, "\x00\n") || strings.Contains(value, "\x00"):
		return "", fmt.Errorf("environment variable %s has a NUL byte, or a line break in its name", strconv.Quote(shorten(name)))
	}
	return name, nil
}

func shorten(s string) string {
	const shown = 80
	if len(s) > shown {
		return s[:shown] + "…"
	}
	return s
}
