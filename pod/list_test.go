package pod_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/pod"
)

func TestList(t *testing.T) {
	dir := t.TempDir()
	ps := pod.In(dir)
	write := func(p *pod.Pod, name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(p.Dir(), name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.Dir(), name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	running := create(t, ps, pod.InRun)
	write(running, "pid", "4242\n")
	write(running, "apps/web/status.json", `{"state":"running","pid":2,"uid":7}`)

	exited := create(t, ps, pod.InRun)
	write(exited, "pid", "1")
	write(exited, "apps/web/status.json", `{"state":"exited","exitCode":3,"finished":"2026-01-02T03:04:05Z"}`)

	killed := create(t, ps, pod.InRun)
	write(killed, "apps/web/status.json", `{"state":"running","pid":2}`)

	torn := create(t, ps, pod.InRun)
	write(torn, "pod.json", "")

	tornStatus := create(t, ps, pod.InRun)
	write(tornStatus, "apps/web/status.json", "{")

	huge := create(t, ps, pod.InRun)
	write(huge, "pod.json", strings.Repeat(" ", 5<<20))

	empty, err := ps.Create()
	if err != nil {
		t.Fatal(err)
	}
	create(t, ps, pod.InRun, pod.InExitedGarbage, pod.InGarbage)
	for _, p := range []*pod.Pod{exited, killed, torn, tornStatus, huge} {
		if err := p.Unlock(); err != nil {
			t.Fatal(err)
		}
	}

	list, err := ps.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 7 || !slices.IsSortedFunc(list, func(a, b pod.Info) int { return strings.Compare(a.UUID, b.UUID) }) {
		t.Fatalf("%d pods: %v", len(list), list)
	}
	find := func(p *pod.Pod) pod.Info {
		t.Helper()
		i := slices.IndexFunc(list, func(info pod.Info) bool { return info.UUID == p.UUID })
		if i < 0 {
			t.Fatalf("pod %s is not listed", p.UUID)
		}
		return list[i]
	}
	if r := find(running); r.Phase != pod.Running || r.Pid != 4242 || r.Started.IsZero() || r.Apps[0].State != pod.AppRunning || r.Apps[0].UID != 7 || r.Err != nil {
		t.Errorf("running: %+v", r)
	}
	if e := find(exited); e.Phase != pod.Exited || e.Pid != 0 || *e.Apps[0].ExitCode != 3 || e.Finished.Year() != 2026 || e.Err != nil {
		t.Errorf("exited: %+v", e)
	}
	if k := find(killed); k.Apps[0].State != pod.AppExited || k.Apps[0].Pid != 0 || k.Apps[0].ExitCode != nil {
		t.Errorf("killed: %+v", k)
	}
	if p := find(empty); p.Phase != pod.Preparing || p.Manifest != nil || p.Err != nil {
		t.Errorf("preparing: %+v", p)
	}
	for name, p := range map[string]*pod.Pod{"torn": torn, "torn status": tornStatus, "huge": huge} {
		if info := find(p); info.Phase != pod.Exited || info.Err == nil {
			t.Errorf("%s: %+v", name, info)
		}
	}
}

// TestListWhilePodsMove lists pods that other goroutines create, move and
// delete. Pods that live all the time must be in every list.
func TestListWhilePodsMove(t *testing.T) {
	ps := pod.In(t.TempDir())
	steady := []string{create(t, ps, pod.InRun).UUID, create(t, ps, pod.InPrepared).UUID}
	stop, done := make(chan struct{}), make(chan error)
	const movers = 3
	for range movers {
		go func() {
			done <- func() error {
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					p, err := ps.Create()
					if err != nil {
						return err
					}
					if err := p.WriteManifest(manifest(p.UUID)); err != nil {
						return err
					}
					for _, to := range []pod.Place{pod.InRun, pod.InExitedGarbage} {
						if err := p.Move(to); err != nil {
							return err
						}
					}
					if err := p.Remove(); err != nil {
						return err
					}
				}
			}()
		}()
	}
	for range 200 {
		list, err := ps.List()
		if err != nil {
			t.Error(err)
		}
		missing := slices.Clone(steady)
		for _, info := range list {
			if info.Err != nil {
				t.Errorf("pod %s, %s: %v", info.UUID, info.Phase, info.Err)
			}
			missing = slices.DeleteFunc(missing, func(u string) bool { return u == info.UUID })
		}
		if len(missing) > 0 {
			t.Errorf("not listed: %v", missing)
		}
	}
	close(stop)
	for range movers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestWait(t *testing.T) {
	ps := pod.In(t.TempDir())
	p := create(t, ps, pod.InRun)
	w, err := ps.Open(p.UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	// The process that holds the lock, and writes its pid only after a while.
	cmd := exec.Command("sh", "-c", "sleep 0.05; echo $$ >pid; read x")
	cmd.Dir = p.Dir()
	fd, err := p.Inherit()
	if err != nil {
		t.Fatal(err)
	}
	shared, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(shared), "lock")}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.WaitStarted(ctx); err != nil {
		t.Fatal(err)
	}
	if pid, since, err := w.Pid(); err != nil || pid != cmd.Process.Pid || time.Since(since) > time.Minute {
		t.Errorf("pid %d since %v (%v), want %d", pid, since, err, cmd.Process.Pid)
	}
	short, cancelShort := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancelShort()
	if err := w.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a running pod = %v, want the end of the context", err)
	}
	_, _ = p.Close(), cmd.ExtraFiles[0].Close() // now only the process holds it
	result := make(chan error)
	go func() { result <- w.Wait(ctx) }()
	in.Close()
	_ = cmd.Wait()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if got := phase(t, w); got != pod.Exited {
		t.Errorf("phase %q", got)
	}
	if err := w.WaitStarted(ctx); err == nil || !strings.Contains(err.Error(), "has exited") {
		t.Errorf("WaitStarted for an exited pod = %v", err)
	}
}

func BenchmarkList1000(b *testing.B) {
	ps := pod.In(b.TempDir())
	for range 1000 {
		p, err := ps.Create()
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(p.WriteManifest(manifest(p.UUID)), p.Move(pod.InRun), p.Close()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		list, err := ps.List()
		if err != nil || len(list) != 1000 {
			b.Fatal(len(list), err)
		}
	}
}
