package images

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// host is the platform that this machine runs.
func host() ocispec.Platform {
	p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if runtime.GOARCH == "arm64" {
		p.Variant = "v8"
	}
	return p
}

// base is what every image starts with: users, and directories with their modes.
func base() []File {
	return []File{
		{Name: "etc/"},
		{Name: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\n" +
			"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n" +
			"redis:x:999:999:redis:/data:/usr/sbin/nologin\n" +
			"app:x:1000:1000:app:/home/app:/bin/sh\n" +
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
		{Name: "etc/group", Body: "root:x:0:\nadm:x:4:app,www-data\nwww-data:x:33:\nextra:x:500:app\nredis:x:999:\napp:x:1000:\nnogroup:x:65534:\n"},
		{Name: "home/"},
		{Name: "home/app/", UID: 1000, GID: 1000},
		{Name: "root/", Mode: 0o700},
		{Name: "run/"},
		{Name: "tmp/", Mode: 0o1777},
		{Name: "var/"},
		{Name: "var/tmp/", Mode: 0o1777},
	}
}

// Busybox is a small system: a static busybox and a link for each of its tools.
func Busybox() (Image, error) {
	tools, err := busybox()
	if err != nil {
		return Image{}, err
	}
	return build(ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{searchPath}}, base(), tools)
}

func busybox() ([]File, error) {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tools of %s: %w", program, err)
	}
	files := []File{{Name: "bin/"}, {Name: "bin/busybox", Source: program, Mode: 0o755}}
	for tool := range strings.FieldsSeq(string(list)) {
		if tool != "busybox" {
			files = append(files, File{Name: "bin/" + tool, Link: "busybox"})
		}
	}
	return files, nil
}

// Inspect is the program of tests/inspect on top of nothing but users.
func Inspect(program string) (Image, error) {
	return build(ocispec.ImageConfig{Entrypoint: []string{"/inspect"}, Env: []string{searchPath, "INSPECT=yes"}},
		base(), []File{{Name: "inspect", Source: program, Mode: 0o755}})
}

// Nginx is the distribution's nginx with its configuration, as its users run it.
func Nginx() (Image, error) {
	system, err := withLibraries("/usr/sbin/nginx")
	if err != nil {
		return Image{}, err
	}
	tools, err := busybox()
	if err != nil {
		return Image{}, err
	}
	conf, err := Tree("/etc/nginx", "etc/nginx")
	if err != nil {
		return Image{}, err
	}
	kept := []File{{Name: "etc/nginx/"}}
	for _, f := range conf {
		// The modules and the site of this very machine stay here.
		if !strings.Contains(f.Name, "-enabled/") || strings.HasSuffix(f.Name, "/") {
			kept = append(kept, f)
		}
	}
	kept = append(kept,
		File{Name: "etc/nginx/sites-enabled/site", Body: "server { listen 127.0.0.1:80; root /var/www/html; }\n"},
		File{Name: "var/lib/nginx/"}, File{Name: "var/log/nginx/"},
		File{Name: "var/log/nginx/access.log", Link: "/dev/stdout"},
		File{Name: "var/log/nginx/error.log", Link: "/dev/stderr"})
	page := []File{{Name: "var/www/html/"}, {Name: "var/www/html/index.html", Body: "served from a pod\n"}}
	return build(ocispec.ImageConfig{
		Cmd: []string{"nginx", "-g", "daemon off;"}, Env: []string{searchPath},
		ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT",
	}, append(base(), tools...), system, kept, page)
}

// Redis is the distribution's redis server, run by its own user.
func Redis() (Image, error) {
	system, err := withLibraries("/usr/bin/redis-server", "/usr/bin/redis-cli")
	if err != nil {
		return Image{}, err
	}
	tools, err := busybox()
	if err != nil {
		return Image{}, err
	}
	return build(ocispec.ImageConfig{
		User: "redis", WorkingDir: "/data", Env: []string{searchPath}, Volumes: map[string]struct{}{"/data": {}},
		Entrypoint: []string{"redis-server"}, Cmd: []string{"--bind", "127.0.0.1", "--save", ""},
		ExposedPorts: map[string]struct{}{"6379/tcp": {}},
	}, append(base(), tools...), append(system, File{Name: "data/", UID: 999, GID: 999}))
}

// Big has layers of so many megabytes each, of which about a half compresses
// away, in files of different sizes.
func Big(layers, megabytes int) (Image, error) {
	image := Image{Config: ocispec.ImageConfig{Cmd: []string{"/none"}, Env: []string{searchPath}}, Platform: host()}
	for n := range layers {
		random := rand.NewChaCha8([32]byte{byte(n)})
		files := []File{{Name: fmt.Sprintf("layer%d/", n)}}
		for left, i := megabytes<<20, 0; left > 0; i++ {
			size := min(left, 4096<<(i%11))
			body := make([]byte, size)
			if _, err := random.Read(body[:size/2]); err != nil {
				return Image{}, err
			}
			files = append(files, File{Name: fmt.Sprintf("layer%d/file%d", n, i), Body: string(body)})
			left -= size
		}
		layer, err := NewLayer(Gzip, files)
		if err != nil {
			return Image{}, err
		}
		image.Layers = append(image.Layers, layer)
	}
	return image, nil
}

func build(config ocispec.ImageConfig, layers ...[]File) (Image, error) {
	image := Image{Config: config, Platform: host()}
	for _, files := range layers {
		layer, err := NewLayer(Gzip, files)
		if err != nil {
			return Image{}, err
		}
		image.Layers = append(image.Layers, layer)
	}
	return image, nil
}

// withLibraries is the programs and all that the loader would load for them.
func withLibraries(programs ...string) ([]File, error) {
	var files []File
	seen := map[string]bool{}
	add := func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		files = append(files, File{Name: strings.TrimPrefix(path, "/"), Source: path, Mode: 0o755, Type: tar.TypeReg})
	}
	for _, program := range programs {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("%w (its package is listed in tests/setup.sh)", err)
		}
		add(program)
		out, err := exec.Command("ldd", program).Output()
		if err != nil {
			return nil, fmt.Errorf("list the libraries of %s: %w", program, err)
		}
		for word := range strings.FieldsSeq(string(out)) {
			if filepath.IsAbs(word) {
				add(word)
			}
		}
	}
	return files, nil
}
