package fetcher

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rkt/rkt/internal/insecure"
)

// script writes a program that stands where rkt-fetch would.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rkt-fetch")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

const someDigest = "sha256:4e388ab32b10dc8dbc7e28144f552830adc74787c1e2c0824032078a79f227fb"

func TestAnswers(t *testing.T) {
	for _, tc := range []struct{ name, body, wantErr string }{
		{"good", `echo '{"name":"n","digest":"` + someDigest + `","fetched":true}'`, ""},
		{"refused", `exit 254`, ErrSaid.Error()},
		{"killed", `kill -KILL $$`, "does not work: signal: killed"},
		{"panic", `exit 2`, "does not work: exit status 2"},
		{"silent", `exit 0`, "another version"},
		{"no digest", `echo '{"name":"n","digest":"x"}'`, "another version"},
		{"endless", `yes`, "fetch \"img\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := run(t.Context(), script(t, tc.body), Options{Image: "img"})
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error is %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || r.Name != "n" || r.Digest != someDigest || !r.Fetched {
				t.Errorf("result is %+v, %v", r, err)
			}
		})
	}
}

func TestArguments(t *testing.T) {
	out := filepath.Join(t.TempDir(), "args")
	o := Options{
		Dir: "/d", SystemConfig: "/s", LocalConfig: "/l", UserConfig: "/u", Insecure: insecure.HTTP | insecure.Image,
		PullPolicy: "new", Platform: "linux/arm64", Signature: "/sig", Name: "n", Quiet: true, Image: "--odd",
	}
	_, err := run(t.Context(), script(t, `printf '%s\n' "$@" > `+out+`; exit 254`), o)
	if !errors.Is(err, ErrSaid) {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	want := "fetch --dir=/d --system-config=/s --local-config=/l --user-config=/u --insecure-options=image,http --pull-policy=new --platform=linux/arm64 --signature=/sig --name=n --quiet -- --odd"
	if err != nil || strings.Join(strings.Fields(string(got)), " ") != want {
		t.Errorf("arguments are %q, %v, want %q", got, err, want)
	}
}

func TestSignalsAndContextEndTheChild(t *testing.T) {
	const body = `trap 'echo got TERM > $OUT; exit 254' TERM; touch $OUT.ready; while :; do sleep 0.01; done`
	for _, how := range []string{"signal", "context"} {
		t.Run(how, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			t.Setenv("OUT", out)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				if !appears(out + ".ready") {
					return
				}
				if how == "context" {
					cancel()
				} else {
					_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
				}
			}()
			_, err := run(ctx, script(t, body), Options{Image: "img"})
			if !errors.Is(err, ErrSaid) {
				t.Errorf("error is %v", err)
			}
			if said, err := os.ReadFile(out); err != nil || string(said) != "got TERM\n" {
				t.Errorf("the child said %q, %v", said, err)
			}
		})
	}
}

// TestDeathOfTheCaller kills a process that runs a fetch: the fetch must not
// go on without it.
func TestDeathOfTheCaller(t *testing.T) {
	if path := os.Getenv("FETCHER_CHILD"); path != "" {
		_, _ = run(context.Background(), path, Options{Image: "img"})
		return
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(os.Args[0], "-test.run=^TestDeathOfTheCaller$")
	cmd.Env = append(os.Environ(), "FETCHER_CHILD="+script(t, "echo $$ > "+pidFile+".new; mv "+pidFile+".new "+pidFile+"; exec sleep 60"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ok := appears(pidFile)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !ok {
		t.Fatal("the child did not start")
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Error("the fetch goes on without its caller")
}

func appears(path string) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}
