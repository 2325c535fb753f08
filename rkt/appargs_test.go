package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/rkt/rkt/stage0"
)

func flagsOfRun() *pflag.FlagSet { return newRunCmd(&globals{}).Flags() }

func TestParseApps(t *testing.T) {
	tests := []struct {
		in   string // words, split at spaces
		want []stage0.App
		err  string
	}{
		{"img", []stage0.App{{Image: "img"}}, ""},
		{"a b c", []stage0.App{{Image: "a"}, {Image: "b"}, {Image: "c"}}, ""},
		{"a -- x -y --", []stage0.App{{Image: "a", Args: []string{"x", "-y", "--"}}}, ""},
		{"a -- x --- b", []stage0.App{{Image: "a", Args: []string{"x"}}, {Image: "b"}}, ""},
		{"a -- x --- b -- y ---", []stage0.App{{Image: "a", Args: []string{"x"}}, {Image: "b", Args: []string{"y"}}}, ""},
		{"a --- b", []stage0.App{{Image: "a"}, {Image: "b"}}, ""},
		{"a -- --- b", []stage0.App{{Image: "a", Args: []string{}}, {Image: "b"}}, ""},
		{"a --exec /x b --exec=/y -- z", []stage0.App{{Image: "a", Exec: "/x"}, {Image: "b", Exec: "/y", Args: []string{"z"}}}, ""},
		{"a --exec /x --- b", []stage0.App{{Image: "a", Exec: "/x"}, {Image: "b"}}, ""},
		{
			"a --name=n --user=u --group=g --working-dir=/w --signature=s --supplementary-gids=1,4294967294 --environment=A=1 --environment=B= --readonly-rootfs --caps-retain=x,y --caps-retain=z",
			[]stage0.App{{
				Image: "a", Name: "n", User: "u", Group: "g", WorkingDir: "/w", Signature: "s",
				Groups: []uint32{1, 4294967294}, Env: []string{"A=1", "B="}, ReadOnly: true, CapsRetain: []string{"x", "y", "z"},
			}}, "",
		},
		{"a --readonly-rootfs=false b --readonly-rootfs", []stage0.App{{Image: "a"}, {Image: "b", ReadOnly: true}}, ""},
		{"", nil, "must provide at least one image"},
		{"---", nil, "must provide at least one image"},
		{"-- x", nil, `expected an image, found "--"`},
		{"a -- x --- --exec=/y", nil, `expected an image, found "--exec=/y"`},
		{"a --net=host", nil, "--net must precede the first image"},
		{"a --interactive", nil, "--interactive must precede the first image"},
		{"a --nosuch", nil, "unknown flag: --nosuch (after image \"a\")"},
		{"a --exec", nil, "flag needs an argument"},
		{"a --exec --", nil, "flag needs an argument"},
		{"a --exec=", nil, "the value is empty"},
		{"a --environment=A", nil, "must be NAME=VALUE"},
		{"a --environment==", nil, "must be NAME=VALUE"},
		{"a --environment=A=1 --environment=A=2", nil, `"A" is set twice`},
		{"a --supplementary-gids=root", nil, "is not a number"},
		{"a --supplementary-gids=4294967295", nil, "is not a number from 0 to 4294967294"},
		{"a --readonly-rootfs=maybe", nil, "maybe"},
		{"a -x", nil, "unknown shorthand flag"},
	}
	for _, test := range tests {
		t.Run(test.in, func(t *testing.T) {
			got, err := parseApps(strings.Fields(test.in), flagsOfRun())
			switch {
			case test.err == "" && err != nil:
				t.Error(err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("%v, want %q", err, test.err)
			case test.err == "":
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	if _, err := parseApps([]string{"a", "--help"}, flagsOfRun()); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

// FuzzParseApps prints what it has read as a command line, which must be read
// as the same again.
func FuzzParseApps(f *testing.F) {
	for _, seed := range []string{"a", "a\n--exec\n/x\n--\n-y\n---\nb", "a\n---\n--\n---", "a\n--environment=A=1\n--user=u\n--readonly-rootfs\nb\n--supplementary-gids=1,2"} {
		f.Add(seed)
	}
	podFlags := flagsOfRun()
	f.Fuzz(func(t *testing.T, lines string) {
		apps, err := parseApps(strings.Split(lines, "\n"), podFlags)
		if err != nil {
			return
		}
		var words []string
		for _, app := range apps {
			words = append(words, wordsOf(app)...)
		}
		again, err := parseApps(words, podFlags)
		if err != nil {
			t.Fatalf("%q: %v", words, err)
		}
		for i := range apps {
			if len(apps[i].Args) == 0 {
				apps[i].Args = nil
			}
		}
		if diff := cmp.Diff(apps, again); diff != "" {
			t.Errorf("%q: %s", words, diff)
		}
	})
}

func wordsOf(app stage0.App) []string {
	words := []string{app.Image}
	for name, value := range map[string]string{
		"name": app.Name, "exec": app.Exec, "user": app.User, "group": app.Group, "working-dir": app.WorkingDir, "signature": app.Signature,
	} {
		if value != "" {
			words = append(words, "--"+name, value)
			if value == argsBegin || value == argsEnd {
				words = append(words[:len(words)-2], "--"+name+"="+value)
			}
		}
	}
	for _, v := range app.Env {
		words = append(words, "--environment="+v)
	}
	for _, g := range app.Groups {
		words = append(words, "--supplementary-gids="+fmt.Sprint(g))
	}
	for _, c := range app.CapsRetain {
		words = append(words, "--caps-retain="+c)
	}
	for _, c := range app.CapsRemove {
		words = append(words, "--caps-remove="+c)
	}
	if app.ReadOnly {
		words = append(words, "--readonly-rootfs")
	}
	if len(app.Args) > 0 {
		words = slices.Concat(words, []string{argsBegin}, app.Args, []string{argsEnd})
	}
	return words
}
