package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rkt/rkt/tests/registrytest"
)

// registry is a running registry, or a liar in front of one.
type registry struct {
	address string // HOST:PORT
	tls     bool
	auth    bool
	stop    func()
}

// The only account of registries with authentication.
const (
	account  = "tester"
	password = "secret"
)

// cmdRegistry starts a registry that listens on loopback only; the variable
// NAME becomes its address. Its files are in $WORK/NAME. With TLS, the variable
// CA becomes the file of its authority. "down" ends it.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "registry NAME [tls] [basic] | registry NAME down")
	s, name := of(ts), args[0]
	if len(args) == 2 && args[1] == "down" {
		s.reg[name].stop()
		return
	}
	r := &registry{}
	options := registrytest.Options{Dir: filepath.Join(s.work, name)}
	ts.Check(os.Mkdir(options.Dir, 0o755))
	for _, option := range args[1:] {
		switch option {
		case "tls":
			r.tls = true
			if s.authority == nil {
				s.authority = registrytest.NewCA(s.tb)
				ts.Setenv("CA", s.authority.File)
			}
			options.TLS = s.authority
		case "basic":
			r.auth = true
			options.Users = map[string]string{account: password}
		default:
			ts.Fatalf("option %q is unknown", option)
		}
	}
	started := registrytest.Start(s.tb, options)
	r.address, r.stop = started.Host, started.Stop
	s.reg[name] = r
	ts.Setenv(name, r.address)
}

// cmdConfigure tells rkt of a registry what an administrator would: its
// authority and the account.
func cmdConfigure(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) != 1, "configure NAME")
	s := of(ts)
	r := s.reg[args[0]]
	if r == nil {
		ts.Fatalf("no registry was started as %q", args[0])
	}
	write := func(kind, format string, values ...any) {
		dir := filepath.Join(ts.Getenv("RKT_LOCAL"), kind+".d")
		ts.Check(os.MkdirAll(dir, 0o755))
		ts.Check(os.WriteFile(filepath.Join(dir, args[0]+".json"), fmt.Appendf(nil, format, values...), 0o600))
	}
	if r.tls {
		write("registry", `{"rktKind":"registry","rktVersion":"v1","registries":[%q],"ca":%q}`, r.address, s.authority.File)
	}
	if r.auth {
		write("auth", `{"rktKind":"auth","rktVersion":"v1","domains":[%q],"type":"basic","credentials":{"user":%q,"password":%q}}`, r.address, account, password)
	}
}

// registryOf finds the registry that an image name is in.
func (s *script) registryOf(ts *testscript.TestScript, ref string) *registry {
	host, _, _ := strings.Cut(ref, "/")
	for _, r := range s.reg {
		if r.address == host {
			return r
		}
	}
	ts.Fatalf("no registry was started at %s", host)
	return nil
}

// cmdPush copies an image from a layout into a registry with skopeo; the
// variable DIGEST becomes that of the manifest there.
func cmdPush(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) < 2, "push [skopeo options...] LAYOUT:TAG REGISTRY/NAME:TAG")
	s, n := of(ts), len(args)
	source, ref := args[n-2], args[n-1]
	r := s.registryOf(ts, ref)
	file := filepath.Join(s.work, ".digest")
	skopeo := []string{"copy", "--quiet", "--insecure-policy", "--digestfile=" + file}
	if r.tls {
		// skopeo wants a directory with nothing but the authority in it.
		certs := filepath.Join(s.work, ".certs")
		ts.Check(os.MkdirAll(certs, 0o755))
		data, err := os.ReadFile(s.authority.File)
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(certs, "ca.crt"), data, 0o644))
		skopeo = append(skopeo, "--dest-cert-dir="+certs)
	} else {
		skopeo = append(skopeo, "--dest-tls-verify=false")
	}
	if r.auth {
		skopeo = append(skopeo, "--dest-creds="+account+":"+password)
	}
	if !strings.Contains(source, "://") {
		source = "oci:" + source
	}
	skopeo = append(append(skopeo, args[:n-2]...), source, "docker://"+ref)
	ts.Check(ts.Exec("skopeo", skopeo...))
	ts.Setenv("DIGEST", strings.TrimSpace(ts.ReadFile(file)))
}

// cmdSign signs REGISTRY/NAME@DIGEST with real cosign: version 2 as a tag
// sha256-HEX.sig, version 3 as a bundle that refers to the image.
func cmdSign(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) < 3, "sign cosign2|cosign3 KEY REGISTRY/NAME@DIGEST [cosign options...]")
	s, tool, key, ref := of(ts), args[0], args[1], args[2]
	r := s.registryOf(ts, ref)
	env := environ(ts)
	if r.tls {
		env = append(env, "SSL_CERT_FILE="+s.authority.File)
	}
	cosign := []string{tool, "sign", "-y", "--key", key}
	switch tool {
	case "cosign2":
		cosign = append(cosign, "--tlog-upload=false")
	case "cosign3":
		cosign = append(cosign, "--signing-config", s.suite.path("keys", "signing-config.json"))
	default:
		ts.Fatalf("%s signs nothing here", tool)
	}
	if !r.tls {
		cosign = append(cosign, "--allow-http-registry")
	}
	if r.auth {
		cosign = append(cosign, "--registry-username="+account, "--registry-password="+password)
	}
	cosign = append(append(cosign, args[3:]...), ref)
	cmd := command(ts, env, cosign)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	ts.Logf("%s\n%s(%s)", strings.Join(cosign, " "), out, time.Since(began).Round(time.Millisecond))
	ts.Check(err)
}
