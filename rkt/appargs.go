package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rkt/rkt/stage0"
)

// The words that start and end an app's arguments.
const (
	argsBegin = "--"
	argsEnd   = "---"
)

// parseApps reads the part of a command line that describes apps:
//
//	IMAGE [FLAGS…] [-- ARGS… [---]] [IMAGE …]
//
// podFlags are those that belong before the first image; they only serve to
// say so.
func parseApps(args []string, podFlags *pflag.FlagSet) ([]stage0.App, error) {
	var apps []stage0.App
	for len(args) > 0 {
		if args[0] == argsEnd { // it may end arguments that there are none of
			args = args[1:]
			continue
		}
		if strings.HasPrefix(args[0], "-") || args[0] == "" {
			return nil, fmt.Errorf("expected an image, found %q", args[0])
		}
		app := stage0.App{Image: args[0]}
		rest, err := parseApp(&app, args[1:], podFlags)
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
		args = rest
	}
	if len(apps) == 0 {
		return nil, errors.New("must provide at least one image")
	}
	return apps, nil
}

// parseApp reads what follows an image, and gives what comes after that.
func parseApp(app *stage0.App, args []string, podFlags *pflag.FlagSet) (rest []string, err error) {
	end := slices.IndexFunc(args, func(a string) bool { return a == argsBegin || a == argsEnd })
	head, tail := args, []string(nil)
	if end >= 0 {
		head, tail = args[:end], args[end:]
	}
	f := pflag.NewFlagSet(app.Image, pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.Usage = func() {}
	addAppFlags(f, func() *stage0.App { return app })
	if err := f.Parse(head); err != nil {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && podFlags.Lookup(unknown.GetSpecifiedName()) != nil {
			return nil, fmt.Errorf("--%s must precede the first image", unknown.GetSpecifiedName())
		}
		if !errors.Is(err, pflag.ErrHelp) {
			err = fmt.Errorf("%w (after image %q), see 'rkt run --help'", err, app.Image)
		}
		return nil, err
	}
	if f.NArg() > 0 || len(tail) == 0 {
		return append(slices.Clone(f.Args()), tail...), nil
	}
	rest = tail[1:]
	if tail[0] == argsEnd {
		return rest, nil
	}
	app.Args, rest = rest, nil
	if end := slices.Index(app.Args, argsEnd); end >= 0 {
		app.Args, rest = app.Args[:end], app.Args[end+1:]
	}
	return rest, nil
}

// appFlag is a flag that is given for an app, which app returns.
type appFlag struct {
	name string
	typ  string
	app  func() *stage0.App
	set  func(app *stage0.App, value string) error
}

func (f *appFlag) Set(value string) error {
	app := f.app()
	if app == nil {
		return fmt.Errorf("--%s must follow an image", f.name)
	}
	return f.set(app, value)
}

func (f *appFlag) Type() string   { return f.typ }
func (f *appFlag) String() string { return "" }

// addAppFlags adds the flags that follow an image. app gives the one that they
// are for, or nil as long as there is none.
func addAppFlags(f *pflag.FlagSet, app func() *stage0.App) {
	add := func(name, typ, usage string, set func(*stage0.App, string) error) *pflag.Flag {
		return f.VarPF(&appFlag{name: name, typ: typ, app: app, set: set}, name, "", usage)
	}
	text := func(name, typ, usage string, field func(*stage0.App) *string) {
		add(name, typ, usage, func(a *stage0.App, v string) error {
			if v == "" {
				return errors.New("the value is empty")
			}
			*field(a) = v
			return nil
		})
	}
	text("name", "name", "name of the app (default made from the image's name)", func(a *stage0.App) *string { return &a.Name })
	text("exec", "path", "program to execute instead of the image's", func(a *stage0.App) *string { return &a.Exec })
	text("user", "user", "user of the app, a name or a number", func(a *stage0.App) *string { return &a.User })
	text("group", "group", "group of the app, a name or a number", func(a *stage0.App) *string { return &a.Group })
	text("working-dir", "path", "working directory of the app", func(a *stage0.App) *string { return &a.WorkingDir })
	text("signature", "file", "detached signature of a local image", func(a *stage0.App) *string { return &a.Signature })
	add("supplementary-gids", "gids", "more groups of the app, numbers", setGroups)
	add("environment", "name=value", "set an environment variable of the app", func(a *stage0.App, v string) (err error) {
		a.Env, err = addVariable(a.Env, v)
		return err
	})
	add("readonly-rootfs", "", "make the app's root read-only", func(a *stage0.App, v string) (err error) {
		a.ReadOnly, err = strconv.ParseBool(v)
		return err
	}).NoOptDefVal = "true"
	add("caps-retain", "caps", "the only capabilities to keep", func(a *stage0.App, v string) error {
		a.CapsRetain = append(a.CapsRetain, strings.Split(v, ",")...)
		return nil
	})
	add("caps-remove", "caps", "default capabilities to give up", func(a *stage0.App, v string) error {
		a.CapsRemove = append(a.CapsRemove, strings.Split(v, ",")...)
		return nil
	})
}

func setGroups(a *stage0.App, list string) error {
	for word := range strings.SplitSeq(list, ",") {
		id, err := strconv.ParseUint(strings.TrimSpace(word), 10, 32)
		if err != nil || id == 1<<32-1 {
			return fmt.Errorf("group %q is not a number from 0 to %d", word, uint32(1<<32-2))
		}
		a.Groups = append(a.Groups, uint32(id))
	}
	return nil
}

// addVariable adds NAME=VALUE to a list that must not have NAME yet.
func addVariable(list []string, v string) ([]string, error) {
	name, _, found := strings.Cut(v, "=")
	if !found || name == "" {
		return nil, fmt.Errorf("%q must be NAME=VALUE", v)
	}
	for _, other := range list {
		if strings.HasPrefix(other, name+"=") {
			return nil, fmt.Errorf("environment variable %q is set twice", name)
		}
	}
	return append(list, v), nil
}
