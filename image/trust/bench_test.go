package trust

import (
	"path/filepath"
	"testing"
)

// BenchmarkStart is what every start of a pod pays: read policy and key, read
// the evidence, judge it.
func BenchmarkStart(b *testing.B) {
	for _, c := range []struct{ evidence, key, match string }{
		{"cosign2-default", "cosign-default.pub", teamRule},
		{"cosign3-named", "cosign-default.pub", teamRule},
		{"simple-rsa", "openpgp-rsa.asc", teamRule},
		{"simple-sub", "openpgp-sub.asc", teamRule},
	} {
		b.Run(c.evidence, func(b *testing.B) {
			g := readGolden(b, filepath.Join("testdata", "golden"))
			local := b.TempDir()
			writeRules(b, local, "test.json", g.rules(keyRule(c.match, c.key)))
			data, err := Marshal([]Evidence{g.evidence(b, c.evidence)})
			if err != nil {
				b.Fatal(err)
			}
			s := g.subject(b, teamImage)
			for b.Loop() {
				p, err := LoadPolicy("", local)
				if err != nil {
					b.Fatal(err)
				}
				items, err := Unmarshal(data)
				if err != nil {
					b.Fatal(err)
				}
				if d := p.Evaluate(s, items, g.made); !d.Trusted {
					b.Fatal(d.Err)
				}
			}
		})
	}
}
