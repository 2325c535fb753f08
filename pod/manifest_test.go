package pod

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestCheckAppName(t *testing.T) {
	for _, good := range []string{"a", "0", "web", "a-b", strings.Repeat("x", 63)} {
		if err := CheckAppName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "A", "a.b", "a/b", "..", "a\n", "a\x00", "ä", strings.Repeat("x", 64)} {
		if CheckAppName(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestParseManifest(t *testing.T) {
	tests := []struct{ name, in, err string }{
		{"good", `{"contract":1,"net":"host","apps":[{"name":"a"},{"name":"b"}]}`, ""},
		{"empty file", ``, "unexpected end"},
		{"no contract", `{"net":"none"}`, "contract version 0 is not supported, this is version 1"},
		{"newer contract", `{"contract":2,"net":"none"}`, "contract version 2"},
		{"same name twice", `{"contract":1,"net":"none","apps":[{"name":"a"},{"name":"a"}]}`, `two apps are named "a"`},
		{"app name that leads out", `{"contract":1,"net":"none","apps":[{"name":"../x"}]}`, `app name "../x"`},
		{"unknown network", `{"contract":1,"net":"bridge"}`, `network "bridge" is unknown`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseManifest([]byte(test.in))
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("%v, want %q", err, test.err)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"contract":1,"uuid":"u","net":"none","apps":[{"name":"a","lower":["/x"],"image":{"verified":true}}],"insecure":["image"]}`))
	f.Add([]byte(`{"contract":1,"net":"host","created":"2026-01-02T03:04:05.000000006+07:00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		m2, err := ParseManifest(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(m, m2, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNewUUID(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		u, err := newUUID()
		if err != nil {
			t.Fatal(err)
		}
		if !IsUUID(u) || u[14] != '4' || !strings.ContainsRune("89ab", rune(u[19])) || seen[u] {
			t.Errorf("%q is not a new UUID of version 4", u)
		}
		seen[u] = true
	}
	for _, bad := range []string{"", "x", strings.Repeat("0", 36), "AAAAAAAA-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-00000000000/"} {
		if IsUUID(bad) {
			t.Errorf("%q is taken for a UUID", bad)
		}
	}
}
