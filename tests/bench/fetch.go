package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// fetch measures how long it takes from an empty store to an image that could
// run: from a registry on loopback, unpacked, with its OpenPGP signature
// checked on both sides.
func (b bench) fetch() error {
	if !installed("docker-registry", "skopeo", "umoci", "gpg") {
		return nil
	}
	address, stop, err := b.registry()
	if err != nil {
		return err
	}
	defer stop()
	ref, err := b.pushSigned(address)
	if err != nil {
		return err
	}
	rkt, err := b.script("rkt-fetch", "rm -rf %[1]s/cold && exec %[1]s/bin/rkt --dir=%[1]s/cold --system-config=%[1]s/usr --local-config=%[1]s/etc --insecure-options=http fetch "+ref)
	if err != nil {
		return err
	}
	skopeo, err := b.script("skopeo-umoci", "rm -rf %[1]s/oci %[1]s/unpacked && skopeo copy -q --remove-signatures --policy %[1]s/policy.json --registries.d %[1]s/registries.d --src-tls-verify=false docker://"+ref+" oci:%[1]s/oci:big && "+
		"exec umoci unpack --image %[1]s/oci:big %[1]s/unpacked")
	if err != nil {
		return err
	}
	return compare("Fetch and unpack 500 MB in 10 layers, signed, from a registry on loopback, cold", max(b.runs/10, 3), []contender{
		{name: "rkt fetch", args: []string{rkt}},
		{name: "skopeo copy + umoci unpack", args: []string{skopeo}, goal: 0.8},
	})
}

// script writes a shell script; %[1]s in it is the bench's directory.
func (b bench) script(name, body string) (string, error) {
	file := b.path(name + ".sh")
	return file, os.WriteFile(file, fmt.Appendf(nil, "#!/bin/sh\nset -e\nexport GNUPGHOME=%[1]s/gnupg\n"+body+"\n", b.dir), 0o755)
}

// registry starts docker-registry on a port of loopback that is free.
func (b bench) registry() (address string, stop func(), err error) {
	config := b.path("registry.yml")
	err = os.WriteFile(config, []byte("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: "+b.path("registry")+"}}\nhttp: {addr: '127.0.0.1:0'}\n"), 0o644)
	if err != nil {
		return "", nil, err
	}
	log, err := os.Create(b.path("registry.log"))
	if err != nil {
		return "", nil, err
	}
	defer log.Close()
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	listening := regexp.MustCompile(`listening on 127\.0\.0\.1:([0-9]+)`)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(log.Name())
		if err != nil {
			break
		}
		if m := listening.FindSubmatch(data); m != nil {
			return "localhost:" + string(m[1]), stop, nil
		}
	}
	stop()
	return "", nil, errors.New("the registry does not start, its log is in " + log.Name())
}

// pushSigned makes the image, a simple signature of it in a lookaside directory,
// and tells both sides to ask for that.
func (b bench) pushSigned(address string) (ref string, err error) {
	ref = address + "/bench/big:1"
	lookaside := b.path("signatures")
	for _, write := range []error{
		b.write("registries.d/bench.yaml", "docker:\n  %[1]s:\n    lookaside: file://%[2]s\n    lookaside-staging: file://%[2]s\n    sigstore: file://%[2]s\n    sigstore-staging: file://%[2]s\n", address, lookaside),
		b.write("policy.json", `{"default":[{"type":"reject"}],"transports":{"docker":{%q:[{"type":"signedBy","keyType":"GPGKeys","keyPath":%q}]}}}`, address, b.path("key.asc")),
		b.write("etc/registry.d/bench.json", `{"rktKind":"registry","rktVersion":"v1","registries":[%q],"lookaside":"file://%s"}`, address, lookaside),
	} {
		if write != nil {
			return "", write
		}
	}
	for _, command := range []string{
		"%[1]s/mkimage -layers 10 -megabytes 50 big %[1]s/big:1",
		"skopeo copy -q --insecure-policy --registries.d %[1]s/registries.d --dest-tls-verify=false --sign-by " + signer + " oci:%[1]s/big:1 docker://" + ref,
		"rm -r %[1]s/big",
	} {
		if strings.Contains(command, "%[1]s") {
			command = fmt.Sprintf(command, b.dir)
		}
		if _, err := b.do("sh", "-c", command); err != nil {
			return "", err
		}
	}
	return ref, nil
}
