package tests

import (
	"slices"
	"strings"
	"testing"
)

// mustNotLink says what a program must stay free of. A name stands for the
// package and everything below it.
var mustNotLink = map[string][]string{
	// A warm start takes a few milliseconds: every package costs some of it,
	// and whoever parses archives or speaks to the network is rkt-fetch.
	"rkt": {
		"net/http", "crypto/tls", "archive/tar", "archive/zip", "google.golang.org/grpc",
		"github.com/regclient/regclient", "github.com/klauspost/compress", "github.com/vbauerster/mpb",
		"github.com/opencontainers/cgroups", "github.com/landlock-lsm/go-landlock",
	},
	// stage1 reads what rkt prepared and nothing else.
	"stage1": {
		"net/http", "crypto/tls", "archive/tar", "google.golang.org/grpc",
		"github.com/regclient/regclient", "github.com/klauspost/compress", "github.com/ProtonMail/go-crypto",
	},
	// The pod's PID 1 stays for the pod's life: what it links is what every
	// running pod pays for in memory.
	"stage1/init": {
		"net", "crypto/tls", "archive/tar", "encoding/gob", "encoding/xml", "text/template", "html/template", "regexp",
		"log/slog", "github.com/spf13", "google.golang.org", "github.com/regclient/regclient",
		"github.com/klauspost/compress", "github.com/ProtonMail/go-crypto", "github.com/opencontainers/go-digest",
		"github.com/opencontainers/cgroups", "github.com/sirupsen/logrus",
	},
}

func TestLinks(t *testing.T) {
	for program, forbidden := range mustNotLink {
		t.Run(program, func(t *testing.T) {
			packages := goList(t, "-deps", "./"+program)
			for _, p := range packages {
				if i := slices.IndexFunc(forbidden, func(f string) bool { return p.ImportPath == f || strings.HasPrefix(p.ImportPath, f+"/") }); i >= 0 {
					t.Errorf("%s must not link %s: %s", program, forbidden[i], strings.Join(chain(packages, p.ImportPath), " <- "))
				}
			}
		})
	}
}

// chain says through which packages a program comes to link one. go list -deps
// prints a package after all that it imports, so the program is the last.
func chain(packages []listed, link string) []string {
	names := []string{link}
	for _, p := range packages {
		if slices.Contains(p.Imports, names[len(names)-1]) {
			names = append(names, p.ImportPath)
		}
	}
	return names
}
