package reference

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

var (
	sha256Digest = "sha256:" + strings.Repeat("4e", 32)
	sha512Digest = "sha512:" + strings.Repeat("4e", 64)
)

func TestParse(t *testing.T) {
	d := digest.Digest(sha256Digest)
	for in, want := range map[string]Reference{
		"nginx":                                 {Host: "docker.io", Path: "library/nginx", Tag: "latest"},
		"docker://nginx":                        {Host: "docker.io", Path: "library/nginx", Tag: "latest"},
		"docker:nginx:1":                        {Host: "docker.io", Path: "library/nginx", Tag: "1"},
		"nginx@" + sha256Digest:                 {Host: "docker.io", Path: "library/nginx", Digest: d},
		"nginx:1@" + sha256Digest:               {Host: "docker.io", Path: "library/nginx", Tag: "1", Digest: d},
		"nginx@" + sha512Digest:                 {Host: "docker.io", Path: "library/nginx", Digest: digest.Digest(sha512Digest)},
		"team/app":                              {Host: "docker.io", Path: "team/app", Tag: "latest"},
		"docker.io/nginx":                       {Host: "docker.io", Path: "library/nginx", Tag: "latest"},
		"index.docker.io/library/nginx":         {Host: "docker.io", Path: "library/nginx", Tag: "latest"},
		"registry-1.docker.io/library/nginx":    {Host: "docker.io", Path: "library/nginx", Tag: "latest"},
		"localhost/app":                         {Host: "localhost", Path: "app", Tag: "latest"},
		"localhost:5000/app:v1.2_x-y":           {Host: "localhost:5000", Path: "app", Tag: "v1.2_x-y"},
		"host:5000/app":                         {Host: "host:5000", Path: "app", Tag: "latest"},
		"REG.Example/app":                       {Host: "reg.example", Path: "app", Tag: "latest"},
		"reg.example/a/b.c/d_e/f__g/h---i:T":    {Host: "reg.example", Path: "a/b.c/d_e/f__g/h---i", Tag: "T"},
		"127.0.0.1:5000/app":                    {Host: "127.0.0.1:5000", Path: "app", Tag: "latest"},
		"[0:0::1]:5000/app":                     {Host: "[::1]:5000", Path: "app", Tag: "latest"},
		"[::1]/app":                             {Host: "[::1]", Path: "app", Tag: "latest"},
		"oci:/srv/img":                          {Local: "oci:/srv/img"},
		"oci:/srv//img/../img:app:1":            {Local: "oci:/srv/img", Tag: "app:1"},
		"oci-archive:/srv/img.tar:1":            {Local: "oci-archive:/srv/img.tar", Tag: "1"},
		"docker-archive:/a.tar:reg.example/a:1": {Local: "docker-archive:/a.tar", Tag: "reg.example/a:1"},
		"/srv/img.tar":                          {Local: "file:/srv/img.tar"},
		"file:/srv/a:b.tar":                     {Local: "file:/srv/a:b.tar"},
		"file:///srv/img.tar":                   {Local: "file:/srv/img.tar"},
	} {
		t.Run(in, func(t *testing.T) {
			got, err := Parse(in)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			again, err := Parse(got.String())
			if err != nil || again != got {
				t.Errorf("its string %q is read as %+v, %v", got, again, err)
			}
		})
	}
}

func TestParseRelativePaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for in, want := range map[string]string{
		"oci:img":             "oci:" + filepath.Join(dir, "img"),
		"./x.tar":             "file:" + filepath.Join(dir, "x.tar"),
		"../x.tar":            "file:" + filepath.Join(filepath.Dir(dir), "x.tar"),
		"file:x.tar":          "file:" + filepath.Join(dir, "x.tar"),
		"docker-archive:./x":  "docker-archive:" + filepath.Join(dir, "x"),
		"oci-archive:a/../b/": "oci-archive:" + filepath.Join(dir, "b"),
	} {
		got, err := Parse(in)
		if err != nil || got.Repository() != want || !got.IsLocal() {
			t.Errorf("Parse(%q) = %+v, %v, want repository %q", in, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, reason := range map[string]string{
		"":                                      "it is empty",
		"Nginx":                                 "upper case letter 'N'",
		"MyHost/app":                            "upper case letter 'M'",
		"reg.example/Foo":                       "upper case letter 'F'",
		"reg.example/":                          "no repository path",
		"reg.example//a":                        "empty component",
		"a b":                                   `the character ' '`,
		"app\n":                                 `the character '\n'`,
		"reg.example/../x":                      "starts or ends with a separator",
		"reg.example/a/-b":                      "starts or ends with a separator",
		"a..b":                                  `has ".."`,
		"a___b":                                 `has "___"`,
		"a._b":                                  `has "._"`,
		"app:":                                  "tag is empty",
		"app:.x":                                `the character '.'`,
		"app:" + strings.Repeat("x", 129):       "longer than 128",
		"app:ü":                                 "letters, digits",
		"r.ex/" + strings.Repeat("x", 256):      "longer than 255",
		"app@sha256:12":                         "not 64 lower case",
		"app@sha256":                            "no algorithm",
		"app@" + strings.ToUpper("sha256:a"):    "not supported",
		"app@md5:" + strings.Repeat("a", 32):    "not supported",
		"app@sha256:" + strings.Repeat("A", 64): "not 64 lower case",
		"app@" + sha256Digest + "@" + sha256Digest: "not 64 lower case",
		sha256Digest:                       "digest without a repository",
		"sha256:4e38":                      "digest without a repository",
		strings.Repeat("4e", 32):           "image ID",
		"reg.example:0/app":                "port",
		"reg.example:70000/app":            "port",
		"reg.example:080/app":              "port",
		"reg.example:+80/app":              "port",
		"reg.example:/app":                 "port",
		"reg_x.example/app":                "not a host name",
		"reg..example/app":                 "not a host name",
		"reg.example./app":                 "not a host name",
		"-reg.example/app":                 "not a host name",
		"user@reg.example/app":             "no algorithm",
		"[::1/app":                         "IPv6",
		"[fe80::1%eth0]/app":               "IPv6",
		"[127.0.0.1]/app":                  "IPv6",
		"https://reg.example/app":          `do not come by "https://"`,
		"docker://https://reg.example/app": `do not come by "https://"`,
		"app,os=linux":                     `the character ','`,
		"oci:":                             "path is empty",
		"oci:/dir:":                        "name after its path is empty",
		"oci:/dir:a b":                     "may only have",
		"oci:/dir\x00":                     "control character",
		"oci:/dir\u009b":                   "control character",
		"file:/\xff":                       "not UTF-8",
		"/" + strings.Repeat("a/", 2500):   "longer",
	} {
		t.Run(in, func(t *testing.T) {
			got, err := Parse(in)
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			message := err.Error()
			if !strings.Contains(message, reason) || !strings.HasPrefix(message, "image name \"") {
				t.Errorf("says %q, want the input quoted and %q", message, reason)
			}
			if strings.ContainsAny(message, "\n\x00") || len(message) > 800 {
				t.Errorf("message is not one short line: %q", message)
			}
		})
	}
}

func TestParseRefusesColonInPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a:b")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if got, err := Parse("oci:img"); err == nil {
		t.Errorf("accepted as %+v, which does not read back", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"nginx", "docker://reg.example:5000/a/b:t@" + sha256Digest, "oci:/a:b", "oci-archive:x:y", "./x", "[::1]:5/a", "file://x", "docker:docker:docker",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil {
			t.Fatalf("%q gives %q, which is refused: %v", s, r, err)
		}
		if again != r {
			t.Fatalf("%q gives %+v, and its string %q gives %+v", s, r, r, again)
		}
		if r.IsLocal() == (r.Host != "") || r.IsLocal() == (r.Path != "") {
			t.Fatalf("%q is both local and remote: %+v", s, r)
		}
	})
}
