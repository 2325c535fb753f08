// Command mkimage writes a test image into an OCI image layout.
//
//	mkimage [flags] RECIPE LAYOUT[:TAG]
//
// Recipes are busybox, inspect, nginx, redis, big, and hostile/NAME; "hostile"
// alone lists the names.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/tests/images"
)

type options struct {
	program     string
	canary      string
	layers      int
	megabytes   int
	user        string
	workDir     string
	stopSignal  string
	env         words
	volumes     words
	labels      words
	entrypoint  jsonList
	cmd         jsonList
	compression string
	add         words
	platforms   words
}

// words is a flag that may be given several times.
type words []string

func (w *words) String() string     { return strings.Join(*w, ",") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// jsonList is a flag that holds a JSON list of strings.
type jsonList struct {
	set  bool
	list []string
}

func (l *jsonList) String() string { return strings.Join(l.list, " ") }
func (l *jsonList) Set(s string) error {
	l.set = true
	return json.Unmarshal([]byte(s), &l.list)
}

func main() {
	var o options
	flag.StringVar(&o.program, "program", os.Getenv("INSPECT"), "the built program of tests/inspect, for the recipes that contain it")
	flag.StringVar(&o.canary, "canary", "/canary", "directory that hostile layers aim at")
	flag.IntVar(&o.layers, "layers", 5, "layers of the recipe big")
	flag.IntVar(&o.megabytes, "megabytes", 10, "megabytes in each layer of the recipe big")
	flag.StringVar(&o.user, "user", "", "user of the image")
	flag.StringVar(&o.workDir, "workdir", "", "working directory")
	flag.StringVar(&o.stopSignal, "stopsignal", "", "signal that stops the image's process")
	flag.Var(&o.env, "env", "KEY=VALUE, may be repeated")
	flag.Var(&o.volumes, "volume", "path of a volume, may be repeated")
	flag.Var(&o.labels, "label", "KEY=VALUE, may be repeated")
	flag.Var(&o.entrypoint, "entrypoint", "entry point as a JSON list")
	flag.Var(&o.cmd, "cmd", "arguments as a JSON list")
	flag.StringVar(&o.compression, "compression", "gzip", "of layers made by -add: gzip, zstd or none")
	flag.Var(&o.add, "add", "put a layer with this directory's content on top, may be repeated")
	flag.Var(&o.platforms, "platform", "OS/ARCH[/VARIANT]; given several times, an image index is written")
	flag.Parse()
	if err := run(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(o options, args []string) error {
	if len(args) == 1 && args[0] == "hostile" {
		fmt.Println(strings.Join(images.HostileNames(), "\n"))
		return nil
	}
	if len(args) != 2 {
		return fmt.Errorf("usage: mkimage [flags] RECIPE LAYOUT[:TAG]")
	}
	image, err := recipe(o, args[0])
	if err != nil {
		return fmt.Errorf("make image %q: %w", args[0], err)
	}
	if err := o.change(&image); err != nil {
		return err
	}
	dir, tag, ok := strings.Cut(args[1], ":")
	if !ok {
		tag = "latest"
	}
	layout, err := images.CreateLayout(dir)
	if err != nil {
		return err
	}
	desc, err := o.put(layout, tag, image)
	if err != nil {
		return err
	}
	fmt.Println(desc.Digest)
	return nil
}

func recipe(o options, name string) (images.Image, error) {
	switch name {
	case "busybox":
		return images.Busybox()
	case "inspect":
		return images.Inspect(o.program)
	case "nginx":
		return images.Nginx()
	case "redis":
		return images.Redis()
	case "big":
		return images.Big(o.layers, o.megabytes)
	}
	trap, ok := strings.CutPrefix(name, "hostile/")
	if !ok {
		return images.Image{}, fmt.Errorf("no such recipe")
	}
	image, err := images.Inspect(o.program)
	if err != nil {
		return image, err
	}
	return images.Hostile(image, trap, o.canary)
}

// change applies the flags to what the recipe made.
func (o options) change(image *images.Image) error {
	c := &image.Config
	if o.user != "" {
		c.User = o.user
	}
	if o.workDir != "" {
		c.WorkingDir = o.workDir
	}
	if o.stopSignal != "" {
		c.StopSignal = o.stopSignal
	}
	c.Env = append(c.Env, o.env...)
	if o.entrypoint.set {
		c.Entrypoint = o.entrypoint.list
	}
	if o.cmd.set {
		c.Cmd = o.cmd.list
	}
	for _, v := range o.volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
	}
	for _, l := range o.labels {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		key, value, _ := strings.Cut(l, "=")
		c.Labels[key] = value
	}
	for _, dir := range o.add {
		files, err := images.Tree(filepath.Clean(dir), "")
		if err != nil {
			return err
		}
		layer, err := images.NewLayer(images.Compression(o.compression), files)
		if err != nil {
			return err
		}
		image.Layers = append(image.Layers, layer)
	}
	return nil
}

// put writes the image, or an index that holds it for each platform with a
// layer that says which.
func (o options) put(layout images.Layout, tag string, image images.Image) (ocispec.Descriptor, error) {
	var all []images.Image
	for _, name := range o.platforms {
		part := strings.SplitN(name, "/", 3)
		if len(part) < 2 {
			return ocispec.Descriptor{}, fmt.Errorf("platform %q is not OS/ARCH[/VARIANT]", name)
		}
		one := image
		one.Platform = ocispec.Platform{OS: part[0], Architecture: part[1]}
		if len(part) == 3 {
			one.Platform.Variant = part[2]
		}
		layer, err := images.NewLayer(images.Gzip, []images.File{{Name: "platform", Body: name + "\n"}})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		one.Layers = append(append([]images.Layer{}, image.Layers...), layer)
		all = append(all, one)
	}
	switch len(all) {
	case 0:
		return layout.Put(tag, image)
	case 1:
		return layout.Put(tag, all[0])
	}
	return layout.PutIndex(tag, all)
}
