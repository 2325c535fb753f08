package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// start measures a pod from its start to its exit, warm, from one root file
// system.
func (b bench) start() (err error) {
	rkt := b.rkt("run", "--net=none", image, "--exec=/bin/true")
	contenders := []contender{{name: "rkt run --net=none", args: rkt, note: "  (signature verified at every start)"}}
	if installed("crun", "umoci") {
		without, err := startRunner()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, without.stop()) }()
		if err := b.bundle(); err != nil {
			return err
		}
		contenders = append(contenders, contender{name: "crun run", args: []string{"crun", "--root=" + b.path("crun"), "run", "-b", b.path("bundle"), "bench"}, runner: without, goal: 1.5})
	}
	if installed("podman", "runc") {
		podman := []string{"podman", "--root=" + b.path("podman"), "--runroot=" + b.path("podman-run"), "--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=none"}
		id, err := b.do(append(podman, "pull", "-q", "oci:"+b.path("layout")+":busybox")...)
		if err != nil {
			return err
		}
		contenders = append(contenders, contender{
			name: "podman run --network=none", goal: 0.2, note: "  (its conmon's CPU time is not in)",
			args: append(podman, "run", "--rm", "--network=none", "--ulimit=nofile=5000:5000", "--ulimit=nproc=1000:1000", trim(id), "/bin/true"),
		})
	}
	if err := compare("Pod of /bin/true, start to exit, warm, own network namespace", b.runs, contenders); err != nil {
		return err
	}
	_, err = b.do(b.rkt("gc", "--grace-period=0s")...)
	return err
}

// bundle unpacks the image and writes the configuration that crun writes by
// itself, for /bin/true without a terminal.
func (b bench) bundle() error {
	if _, err := b.do("umoci", "unpack", "--image", b.path("layout")+":busybox", b.path("bundle")); err != nil {
		return err
	}
	if err := os.Remove(b.path("bundle", "config.json")); err != nil {
		return err
	}
	if _, err := b.do("crun", "spec", "-b", b.path("bundle")); err != nil {
		return err
	}
	file := b.path("bundle", "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("read crun's configuration: %w", err)
	}
	spec.Process.Args, spec.Process.Terminal = []string{"/bin/true"}, false
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// version measures what every invocation pays.
func (b bench) version() error {
	return compare("rkt version", 4*b.runs, []contender{
		{name: "rkt version", args: b.rkt("version")},
		{name: "an empty Go program", args: []string{b.path("empty")}, goal: 2},
	})
}
