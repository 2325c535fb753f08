package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/rkt-fetch/rights"
	"github.com/rkt/rkt/image/unpack"
	"github.com/rkt/rkt/image/unpack/hostile"
)

// The tests' own program is what Command starts again.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	if rights.Cgo && os.Args[1] != Verb {
		os.Exit(withoutCgo())
	}
	var err error
	switch os.Args[1] {
	case Verb:
		err = Serve(os.Args[2:], os.Stdin, os.Stdout)
	case "probe":
		err = probe(os.Args[2:])
	case "parent":
		err = parent(os.Args[2])
	case "crash":
		panic("as was asked")
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// withoutCgo runs the same tests in a program that was built without cgo, as
// rkt-fetch is. It returns their exit code.
func withoutCgo() int {
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "sandbox.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	run := exec.Command(program, os.Args[1:]...)
	for _, cmd := range []*exec.Cmd{build, run} {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, cmd, err)
			return 1
		}
	}
	return 0
}

func TestLayer(t *testing.T) {
	const mediaType = "application/vnd.oci.image.layer.v1.tar"
	whole := (&hostile.Archive{}).Dir("etc").File("etc/motd", "hello\n").File("usr/.wh.bin", "").Link("motd", "etc/motd").Bytes()
	diffID := digest.FromBytes(whole)
	for _, c := range []struct {
		name   string
		blob   []byte
		diffID digest.Digest
		want   string // of the error
		is     error
	}{
		{"right", whole, diffID, "", nil},
		{"wrong diffID", whole, digest.FromString("x"), "the layer is not the promised one: its content is " + diffID.String(), unpack.ErrDiffID},
		{"damaged", whole[:300], diffID, "the layer is damaged at its beginning: unexpected EOF", unpack.ErrDamaged},
		{"upwards", (&hostile.Archive{}).File("../x", "").Bytes(), diffID, `entry "../x": the name leads upwards by ".."`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, blob := range map[string]io.Reader{"file": fileOf(t, c.blob), "reader": bytes.NewReader(c.blob)} {
				dir := t.TempDir()
				err := Layer(t.Context(), blob, mediaType, c.diffID, dir)
				if c.want == "" {
					if err != nil {
						t.Errorf("%s: %v", kind, err)
					}
					if data, err := os.ReadFile(dir + "/motd"); string(data) != "hello\n" {
						t.Errorf("%s: the file is %q, %v", kind, data, err)
					}
					continue
				}
				if err == nil || !strings.HasPrefix(err.Error(), "unpack layer "+c.diffID.String()+": "+c.want) {
					t.Errorf("%s: got %v, want %q", kind, err, c.want)
				}
				if c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%s: %v is not %v", kind, err, c.is)
				}
			}
		})
	}
}

func fileOf(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLimitIsTyped(t *testing.T) {
	whole := (&hostile.Archive{}).File("a", "").File("b", "").Bytes()
	_, err := Run(t.Context(), bytes.NewReader(whole), t.TempDir(), Request{Limits: unpack.Limits{Entries: 1}})
	var limit *unpack.LimitError
	if !errors.As(err, &limit) || limit.Limit != "entries" || limit.Max != 1 {
		t.Errorf("got %v, want the limit of entries", err)
	}
}

// TestMerge unpacks two layers onto each other.
func TestMerge(t *testing.T) {
	work := t.TempDir()
	if err := os.Mkdir(filepath.Join(work, Rootfs), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, layer := range []*hostile.Archive{
		(&hostile.Archive{}).File("a/one", "1").File("b", "1"),
		(&hostile.Archive{}).File("a/two", "2").File(".wh.b", ""),
	} {
		if _, err := Run(t.Context(), bytes.NewReader(layer.Bytes()), work, Request{Merge: true}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, name := range []string{"rootfs/a/one", "rootfs/a/two", "rootfs/b", "layer"} {
		if _, err := os.Lstat(filepath.Join(work, name)); err == nil {
			got = append(got, name)
		}
	}
	if d := cmp.Diff([]string{"rootfs/a/one", "rootfs/a/two"}, got); d != "" {
		t.Error(d)
	}
}

// TestHostileLayers sends every hostile layer through the child.
func TestHostileLayers(t *testing.T) {
	base := t.TempDir()
	canary, root := base+"/canary", base+"/a/b/root"
	if err := errors.Join(hostile.Canary(canary), os.MkdirAll(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range hostile.Cases(canary) {
		t.Run(c.Name, func(t *testing.T) {
			if err := errors.Join(os.RemoveAll(root), os.Mkdir(root, 0o755)); err != nil {
				t.Fatal(err)
			}
			before, err := hostile.Census(base, root)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err = Run(ctx, bytes.NewReader(c.Layer), root, Request{})
			if c.Refused == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if c.Refused != "" && (err == nil || !strings.Contains(err.Error(), c.Refused)) {
				t.Errorf("got %v, want %q", err, c.Refused)
			}
			after, err := hostile.Census(base, root)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("something outside of the root changed:\n%s", d)
			}
		})
	}
}

// TestReaderFails holds that the reason why a blob cannot be read is what is
// reported, not what the child makes of it.
func TestReaderFails(t *testing.T) {
	broken := errors.New("the blob is corrupt")
	whole := (&hostile.Archive{}).File("a", strings.Repeat("x", 1<<20)).Bytes()
	blob := io.MultiReader(bytes.NewReader(whole[:1<<19]), failing{broken})
	if _, err := Run(t.Context(), blob, t.TempDir(), Request{}); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestJudge(t *testing.T) {
	died := errors.New("signal: killed")
	for _, c := range []struct {
		name, stdout, stderr string
		exit                 error
		want                 string
	}{
		{"answer", `{"stats":{"entries":3}}`, "", nil, ""},
		{"silence", "", "", died, "the unpacking process failed: signal: killed"},
		{"panic", "", "panic: boom\n\ngoroutine 1", died, `the unpacking process failed: signal: killed, and said "panic: boom"`},
		{"nothing at all", "", "", nil, "the unpacking process failed: it ended without an answer"},
		{"half an answer", `{"stats":{"entr`, "", died, "the unpacking process failed: signal: killed"},
		{"answer, then death", `{"stats":{"entries":3}}`, "", died, "the unpacking process failed: signal: killed"},
		{"error", `{"error":"it is bad"}`, "", nil, "it is bad"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := judge([]byte(c.stdout), []byte(c.stderr), c.exit)
			if fmt.Sprint(err) != c.want && (c.want != "" || err != nil) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestServeAlone(t *testing.T) {
	for _, args := range [][]string{nil, {"no JSON"}, {"{}", "x"}} {
		var out bytes.Buffer
		if err := Serve(args, strings.NewReader(""), &out); err == nil || out.Len() > 0 {
			t.Errorf("%q: got %v and the answer %q", args, err, &out)
		}
	}
}

// TestCancel holds that the child ends when the context does.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	done := make(chan error, 1)
	go func() { done <- Layer(ctx, r, "", digest.FromString("x"), t.TempDir()) }()
	if _, err := w.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that the context was cancelled", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the child outlives its context")
	}
}

// TestDiesWithParent kills the parent of a child that waits for its blob.
func TestDiesWithParent(t *testing.T) {
	cmd := Command(t.Context(), "parent", t.TempDir())
	cmd.SysProcAttr.Cloneflags = 0 // it would be the child's parent by another number
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// Pdeathsig is about the thread, see exec.Cmd.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var pid int
	if _, err := fmt.Fscan(bufio.NewReader(out), &pid); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatalf("the child %d is not there", pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the child %d outlives its parent", pid)
		}
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// parent starts a child, says its number and does nothing more.
func parent(target string) error {
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	r, _, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := Command(context.Background(), Verb, "{}")
	cmd.Stdin, cmd.ExtraFiles = r, []*os.File{dir}
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	return unix.Pause()
}

// TestMemory holds that a child that needs too much memory is refused it.
func TestMemory(t *testing.T) {
	p := runProbe(t, nil, "memory")
	if p != "" {
		t.Errorf("the child could allocate more than its limit: %s", p)
	}
}
