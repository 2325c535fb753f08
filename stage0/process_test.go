package stage0

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/reference"
)

// refuses reports whether an error is there exactly if it should, and says
// what it should.
func refuses(t *testing.T, what string, err error, want string) bool {
	t.Helper()
	if want == "" && err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: error %v, want %q", what, err, want)
	}
	return want != ""
}

func TestCommandOf(t *testing.T) {
	both := ocispec.ImageConfig{Entrypoint: []string{"/e", "-e"}, Cmd: []string{"c"}}
	onlyCmd := ocispec.ImageConfig{Cmd: []string{"/c", "-c"}}
	tests := []struct {
		name string
		img  ocispec.ImageConfig
		app  App
		want string
		err  string
	}{
		{"image alone", both, App{}, "/e -e c", ""},
		{"arguments replace the command", both, App{Args: []string{"a", "b"}}, "/e -e a b", ""},
		{"without entrypoint too", onlyCmd, App{Args: []string{"/a"}}, "/a", ""},
		{"command alone", onlyCmd, App{}, "/c -c", ""},
		{"exec replaces both", both, App{Exec: "/x"}, "/x", ""},
		{"exec with arguments", both, App{Exec: "/x", Args: []string{"a"}}, "/x a", ""},
		{"nothing", ocispec.ImageConfig{}, App{}, "", "nothing to execute"},
		{"empty word", ocispec.ImageConfig{Entrypoint: []string{""}}, App{}, "", "nothing to execute"},
		{"NUL", both, App{Args: []string{"a\x00b"}}, "", "NUL"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := commandOf(test.app, test.img)
			if !refuses(t, "commandOf", err, test.err) && strings.Join(got, " ") != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if len(both.Entrypoint) != 2 || both.Entrypoint[1] != "-e" {
		t.Error("the image's configuration was changed")
	}
}

func TestEnvironmentOf(t *testing.T) {
	o := &Options{
		InheritEnv: []string{"I=inherited", "M=inherited", "F=inherited", "S=inherited", "A=inherited", "PATH=/inherited"},
		EnvFile:    []string{"F=file", "S=file", "A=file"},
		Env:        []string{"S=set", "A=set"},
	}
	img := ocispec.ImageConfig{Env: []string{"M=image", "F=image", "S=image", "A=image"}}
	got, err := environmentOf(o, App{Env: []string{"A=app", "N=new line\nin a value"}}, img)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"I=inherited", "M=image", "F=file", "S=set", "A=app", "PATH=/inherited", "N=new line\nin a value"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, test := range map[string]struct {
		o    Options
		want []string
	}{
		"path":                   {Options{}, []string{defaultPath}},
		"terminal":               {Options{Interactive: true, Term: "screen"}, []string{defaultPath, "TERM=screen"}},
		"unknown terminal":       {Options{Interactive: true}, []string{defaultPath, "TERM=xterm"}},
		"terminal that was said": {Options{Interactive: true, Term: "screen", Env: []string{"TERM=dumb"}}, []string{"TERM=dumb", defaultPath}},
		"hostile terminal":       {Options{Interactive: true, Term: "a\x00b"}, []string{defaultPath, "TERM=xterm"}},
	} {
		got, err := environmentOf(&test.o, App{}, ocispec.ImageConfig{})
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, bad := range []string{"A", "=b", "", "A\nB=c", "A=b\x00c"} {
		if _, err := environmentOf(&Options{}, App{}, ocispec.ImageConfig{Env: []string{bad}}); err == nil || !strings.Contains(err.Error(), "environment of the image") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCwdOf(t *testing.T) {
	tests := []struct{ option, image, want, err string }{
		{"", "", "/", ""},
		{"", "/srv", "/srv", ""},
		{"", "srv", "/srv", ""},
		{"", "../../etc", "/etc", ""},
		{"/a/../b//c/", "/srv", "/b/c", ""},
		{"a", "/srv", "", "not absolute"},
		{"/a\nb", "", "", "line break"},
		{"", "/a\x00b", "", "NUL"},
		{"/" + strings.Repeat("a", unix.PathMax), "", "", "too long"},
	}
	for _, test := range tests {
		got, err := cwdOf(App{WorkingDir: test.option}, ocispec.ImageConfig{WorkingDir: test.image})
		if !refuses(t, shorten(test.option+"|"+test.image), err, test.err) && got != test.want {
			t.Errorf("%q, %q: %q, want %q", test.option, test.image, got, test.want)
		}
	}
}

func TestUserOf(t *testing.T) {
	tests := []struct{ user, group, image, want, err string }{
		{"", "", "", "0", ""},
		{"", "", "web", "web", ""},
		{"", "", "web:www", "web:www", ""},
		{"", "", "1000:1000", "1000:1000", ""},
		{"", "", ":5", "0:5", ""},
		{"root", "", "web:www", "root", ""},
		{"root", "adm", "web:www", "root:adm", ""},
		{"", "adm", "web:www", "web:adm", ""},
		{"2147483648", "", "", "2147483648", ""},
		{"4294967294", "4294967294", "", "4294967294:4294967294", ""},
		{"4294967295", "", "", "", "ids go from 0 to 4294967294"},
		{"4294967296", "", "", "", "ids go from"},
		{"-1", "", "", "", "ids go from"},
		{"", "99999999999999999999", "", "", "group \"99999999999999999999\": ids"},
		{"", "", "a:b:c", "", `group "b:c"`},
		{"a b", "", "", "", "neither a name nor a number"},
		{"a\nroot", "", "", "", "neither a name"},
		{"a\x00", "", "", "", "neither a name"},
		{"/etc/passwd", "", "", "", "neither a name"},
		{"../x", "", "", "", "neither a name"},
		{strings.Repeat("u", 257), "", "", "", "neither a name"},
	}
	for _, test := range tests {
		got, err := userOf(App{User: test.user, Group: test.group}, ocispec.ImageConfig{User: test.image})
		what := shorten(test.user + "|" + test.group + "|" + test.image)
		if !refuses(t, what, err, test.err) && got != test.want {
			t.Errorf("%s: %q, want %q", what, got, test.want)
		}
	}
}

func TestStopSignalOf(t *testing.T) {
	tests := []struct{ image, want, err string }{
		{"", "SIGTERM", ""},
		{"SIGQUIT", "SIGQUIT", ""},
		{"quit", "SIGQUIT", ""},
		{"3", "SIGQUIT", ""},
		{"SIGRTMIN+3", "37", ""},
		{"RTMAX-1", "63", ""},
		{"37", "37", ""},
		{"SIGRTMAX+1", "", "unknown"},
		{"SIGRTMIN+x", "", "unknown"},
		{"0", "", "not a signal"},
		{"65", "", "not a signal"},
		{"-9", "", "not a signal"},
		{"TERM; rm -rf /", "", "unknown"},
	}
	for _, test := range tests {
		got, err := stopSignalOf(ocispec.ImageConfig{StopSignal: test.image})
		if !refuses(t, test.image, err, test.err) && got != test.want {
			t.Errorf("%q: %q, want %q", test.image, got, test.want)
		}
	}
}

func TestDefaultName(t *testing.T) {
	for image, want := range map[string]string{
		"nginx":                                    "nginx",
		"reg.example:5000/team/Web_App":            "", // not a reference
		"reg.example:5000/team/web_app.x:1":        "web-app-x",
		"reg.example/team/a--":                     "", // not a reference
		"/srv/images/web.tar":                      "web",
		"docker-archive:/srv/images/Web 2.tar:a/b": "web-2",
		"oci:/srv/__":                              "app",
		"reg.example/" + strings.Repeat("x", 100):  strings.Repeat("x", 63),
	} {
		ref, err := reference.Parse(image)
		if err != nil {
			if want != "" {
				t.Error(err)
			}
			continue
		}
		if got := defaultName(ref); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

func TestCapsOf(t *testing.T) {
	without := func(name string) []string {
		var rest []string
		for _, c := range defaultCaps() {
			if c != name {
				rest = append(rest, c)
			}
		}
		return rest
	}
	tests := []struct {
		name           string
		retain, remove []string
		want           []string
		err            string
	}{
		{"default", nil, nil, defaultCaps(), ""},
		{"retain", []string{"net_raw", "CAP_SYS_ADMIN", "NET_RAW"}, nil, []string{"CAP_NET_RAW", "CAP_SYS_ADMIN"}, ""},
		{"remove", nil, []string{"cap_mknod", "sys_admin"}, without("CAP_MKNOD"), ""},
		{"both", []string{"kill"}, []string{"kill"}, nil, "exclude each other"},
		{"unknown", []string{"everything"}, nil, nil, `capability "everything" is unknown`},
		{"empty", nil, []string{""}, nil, "unknown"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := capsOf(App{CapsRetain: test.retain, CapsRemove: test.remove}, defaultCaps())
			if !refuses(t, "capsOf", err, test.err) {
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestCheckHostname(t *testing.T) {
	for _, good := range []string{"", "a", "A-1.example.com", strings.Repeat("a", 64)} {
		if err := checkHostname(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"-a", "a-", "a..b", ".", "a_b", "a b", "a\nb", "a\x00", "ä", strings.Repeat("a", 65)} {
		if checkHostname(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
