package stage0

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// defaultPath is the search path of apps whose image sets none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// defaultStop is how a stopped app is asked to end, and how long it has to do
// so.
const (
	defaultStopSignal  = "SIGTERM"
	defaultStopTimeout = 10 // seconds
)

// commandOf says what an app executes: --exec and the arguments if --exec is
// given; else the image's entrypoint, and then the arguments or in their
// absence the image's.
func commandOf(app App, img ocispec.ImageConfig) ([]string, error) {
	var args []string
	switch {
	case app.Exec != "":
		args = append([]string{app.Exec}, app.Args...)
	case len(app.Args) > 0:
		args = append(append(args, img.Entrypoint...), app.Args...)
	default:
		args = append(append(args, img.Entrypoint...), img.Cmd...)
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("there is nothing to execute: the image has neither entrypoint nor command, say what with --exec")
	}
	for _, arg := range args {
		if strings.Contains(arg, "\x00") {
			return nil, fmt.Errorf("argument %q has a NUL byte", shorten(arg))
		}
	}
	return args, nil
}

// environment lays variables over each other. The first occurrence of a name
// gives its place in the result, the last its value.
type environment struct {
	list []string
	at   map[string]int
}

func (e *environment) set(vars []string) error {
	for _, v := range vars {
		name, err := variableName(v)
		if err != nil {
			return err
		}
		if i, ok := e.at[name]; ok {
			e.list[i] = v
			continue
		}
		e.at[name] = len(e.list)
		e.list = append(e.list, v)
	}
	return nil
}

func (e *environment) has(name string) bool {
	_, ok := e.at[name]
	return ok
}

// environmentOf gives an app's variables, from the weakest to the strongest:
// inherited, the image's, the pod's file, the pod's flags, the app's flags.
// PATH is always there; init adds HOME, USER and the like once it knows the
// user.
func environmentOf(o *Options, app App, img ocispec.ImageConfig) ([]string, error) {
	e := &environment{at: map[string]int{}}
	for _, layer := range []struct {
		from string
		vars []string
	}{
		{"inherited environment", o.InheritEnv}, {"environment of the image", img.Env}, {"--set-env-file", o.EnvFile},
		{"--set-env", o.Env}, {"--environment", app.Env},
	} {
		if err := e.set(layer.vars); err != nil {
			return nil, fmt.Errorf("%s: %w", layer.from, err)
		}
	}
	if !e.has("PATH") {
		e.list = append(e.list, defaultPath)
	}
	if o.Interactive {
		return withTerm(e.list, o.Term), nil
	}
	return e.list, nil
}

// withTerm tells an app on a terminal of which kind it is, unless somebody has
// said so. term is what the caller's terminal is.
func withTerm(env []string, term string) []string {
	for _, v := range env {
		if strings.HasPrefix(v, "TERM=") {
			return env
		}
	}
	if _, err := variableName("TERM=" + term); err != nil || term == "" {
		term = "xterm"
	}
	return append(env, "TERM="+term)
}

// cwdOf gives the working directory, absolute and clean.
func cwdOf(app App, img ocispec.ImageConfig) (string, error) {
	dir := app.WorkingDir
	if dir == "" {
		dir = path.Join("/", img.WorkingDir) // a relative one has always been taken from the root
	}
	if !path.IsAbs(dir) {
		return "", fmt.Errorf("working directory %q is not absolute", shorten(dir))
	}
	if strings.ContainsAny(dir, "\x00\n") || len(dir) >= unix.PathMax {
		return "", fmt.Errorf("working directory %q has a NUL byte or a line break, or is too long", shorten(dir))
	}
	return path.Clean(dir), nil
}

// userOf joins the image's user and the app's options to "user[:group]". A
// user of the options brings its own group, as otherwise it would get one that
// was meant for somebody else.
func userOf(app App, img ocispec.ImageConfig) (string, error) {
	user, group, _ := strings.Cut(img.User, ":")
	if app.User != "" {
		user, group = app.User, ""
	}
	if app.Group != "" {
		group = app.Group
	}
	if user == "" {
		user = "0"
	}
	if err := checkID("user", user); err != nil {
		return "", err
	}
	if group == "" {
		return user, nil
	}
	if err := checkID("group", group); err != nil {
		return "", err
	}
	return user + ":" + group, nil
}

// checkID accepts a number that can be an id, and what /etc/passwd and
// /etc/group can have as a name.
func checkID(kind, id string) error {
	const longest = 256
	bad := strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == ':' || r == '/' || r == 0x7f })
	if bad || len(id) > longest {
		return fmt.Errorf("%s %q is neither a name nor a number", kind, shorten(id))
	}
	if _, numeric, err := parseID(id); numeric && err != nil {
		return fmt.Errorf("%s %q: ids go from 0 to %d", kind, shorten(id), uint32(maxID))
	}
	return nil
}

// maxID is the highest id; the next one is -1, which system calls take for
// "leave as it is".
const maxID = 1<<32 - 2

func parseID(s string) (id uint32, numeric bool, err error) {
	if strings.ContainsFunc(strings.TrimPrefix(s, "-"), func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n > maxID {
		err = strconv.ErrRange
	}
	return uint32(n), true, err
}

// stopSignalOf gives the name of the signal that asks the app to end.
func stopSignalOf(img ocispec.ImageConfig) (string, error) {
	given := img.StopSignal
	if given == "" {
		return defaultStopSignal, nil
	}
	if n, err := strconv.Atoi(given); err == nil {
		if name := unix.SignalName(unix.Signal(n)); name != "" {
			return name, nil
		}
		if n >= sigrtmin && n <= sigrtmax {
			return given, nil
		}
		return "", fmt.Errorf("stop signal %q of the image is not a signal", given)
	}
	name := strings.ToUpper(given)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if unix.SignalNum(name) != 0 {
		return name, nil
	}
	if n, ok := realTime(name); ok {
		return strconv.Itoa(n), nil
	}
	return "", fmt.Errorf("stop signal %q of the image is unknown", shorten(given))
}

// The real-time signals, by the numbers that programs using the C library see.
const (
	sigrtmin = 34
	sigrtmax = 64
)

// realTime reads SIGRTMIN+n and SIGRTMAX-n; systemd's images use SIGRTMIN+3.
func realTime(name string) (int, bool) {
	base, n := 0, 0
	switch {
	case strings.HasPrefix(name, "SIGRTMIN"):
		base, name = sigrtmin, name[len("SIGRTMIN"):]
	case strings.HasPrefix(name, "SIGRTMAX"):
		base, name = sigrtmax, name[len("SIGRTMAX"):]
	default:
		return 0, false
	}
	if name != "" {
		var err error
		if n, err = strconv.Atoi(name); err != nil {
			return 0, false
		}
	}
	return base + n, base+n >= sigrtmin && base+n <= sigrtmax
}
