package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rkt/rkt/pod"
)

// addPod makes a pod of two apps that has run, or runs if held is true.
func addPod(t *testing.T, dir string, held bool) string {
	t.Helper()
	p, err := pod.In(dir).Create()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.WriteManifest(&pod.Manifest{
		Contract: pod.ContractVersion, UUID: p.UUID, Created: time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC), Hostname: "h", Net: "none",
		Insecure: []string{"image"}, Stage1: pod.Stage1{Flavour: "native"},
		Apps: []pod.App{
			{Name: "web", Image: pod.Image{Name: "reg.example/web:1", Digest: "sha256:" + strings.Repeat("ab", 32), Trust: "why"}},
			{Name: "log", Image: pod.Image{Name: "reg.example/log:2", Digest: "sha256:" + strings.Repeat("cd", 32), Verified: true}},
		},
	}))
	must(p.Mkdir("apps", 0o755))
	state := map[bool]string{true: `{"state":"running","pid":2,"started":"2026-01-02T03:04:06Z"}`, false: `{"state":"exited","started":"2026-01-02T03:04:06Z","finished":"2026-01-02T03:04:08Z","exitCode":137,"signal":"SIGKILL"}`}
	for _, app := range []string{"web", "log"} {
		must(p.Mkdir("apps/"+app, 0o755))
		must(p.Create("apps/"+app+"/status.json", []byte(state[held])))
	}
	must(p.Create("pid", []byte("42\n")))
	must(os.Chtimes(filepath.Join(p.Dir(), "pid"), time.Time{}, time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)))
	must(p.Move(pod.InRun))
	if !held {
		must(p.Unlock())
	}
	return p.UUID
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	uuid := addPod(t, dir, true)
	out, _, err := rkt(dir, "list", "--full")
	if err != nil {
		t.Fatal(err)
	}
	want := `^UUID\t+APP\tIMAGE NAME\t+IMAGE ID\t+STATE\tCREATED\t+STARTED\t+NETWORKS
` + uuid + `\tweb\treg.example/web:1\tsha256:abababababab\trunning\t2026-01-0. ..:..:05.6 [-+]\d+ \S+\t2026-01-0. ..:..:06 [-+]\d+ \S+\tnone
\t+log\treg.example/log:2\tsha256:cdcdcdcdcdcd\t+\n$`
	if !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("printed\n%s", out)
	}
	out, _, err = rkt(dir, "list", "--no-legend")
	if err != nil || !regexp.MustCompile(`^`+uuid[:8]+`\tweb\treg.example/web:1\trunning\t\d+ \w+ ago\t+\d+ \w+ ago\t+none\n\t+log\treg.example/log:2\t+\n$`).MatchString(out) {
		t.Errorf("printed %q (%v)", out, err)
	}
	out, _, err = rkt(filepath.Join(dir, "none"), "list", "--format=json")
	if err != nil || out != "[]\n" {
		t.Errorf("no pods: %q (%v)", out, err)
	}
}

// TestSchema holds the documented schema: names, units, and that a document of
// it has no other fields.
func TestSchema(t *testing.T) {
	dir := t.TempDir()
	uuid := addPod(t, dir, false)
	out, _, err := rkt(dir, "status", "--format=json-pretty", uuid[:10])
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	app := func(name, image, digest, trust string, verified bool) map[string]any {
		a := map[string]any{
			"name": name, "state": "exited", "image": map[string]any{"name": image, "digest": digest}, "verified": verified,
			"started": "2026-01-02T03:04:06Z", "finished": "2026-01-02T03:04:08Z", "exitCode": 137., "signal": "SIGKILL",
		}
		if trust != "" {
			a["trust"] = trust
		}
		return a
	}
	want := map[string]any{
		"uuid": uuid, "state": "exited", "created": "2026-01-02T03:04:05.6Z", "started": "2026-01-02T03:04:06Z", "finished": "2026-01-02T03:04:08Z",
		"hostname": "h", "net": "none", "stage1": "native", "insecure": []any{"image"},
		"apps": []any{
			app("web", "reg.example/web:1", "sha256:"+strings.Repeat("ab", 32), "why", false),
			app("log", "reg.example/log:2", "sha256:"+strings.Repeat("cd", 32), "", true),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	list, _, err := rkt(dir, "list", "--format=json")
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	if err := json.Unmarshal([]byte(list), &all); err != nil || len(all) != 1 {
		t.Fatal(err, list)
	}
	if diff := cmp.Diff(want, all[0]); diff != "" {
		t.Errorf("list and status differ: %s", diff)
	}
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	running, exited := addPod(t, dir, true), addPod(t, dir, false)
	out, _, err := rkt(dir, "status", running)
	if err != nil || !regexp.MustCompile(`^state=running\ncreated=.*\nstarted=.*\nnetworks=none\npid=42\ninsecure=image\nexited=false\n$`).MatchString(out) {
		t.Errorf("printed %q (%v)", out, err)
	}
	file := filepath.Join(dir, "uuid")
	if err := os.WriteFile(file, []byte(strings.ToUpper(exited)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err = rkt(dir, "status", "--wait", "--uuid-file", file)
	if err != nil || !regexp.MustCompile(`^state=exited\ncreated=.*\nstarted=.*\nnetworks=none\ninsecure=image\nexited=true\napp-web=137\napp-log=137\n$`).MatchString(out) {
		t.Errorf("printed %q (%v)", out, err)
	}
	for _, test := range []struct {
		want string
		args []string
	}{
		{"has not ended within 10ms", []string{"--wait=10ms", running}},
		{"neither a duration", []string{"--wait=soon", running}},
		{"not both", []string{"--uuid-file", file, running}},
		{"no such file", []string{"--uuid-file", file + ".none"}},
		{"is not a UUID", []string{"--uuid-file", os.Args[0]}},
		{"it is empty", []string{"--uuid-file", "/dev/null"}},
		{"found 2", []string{running, exited}},
		{"must provide the UUID", nil},
		{"UUID cannot be empty", []string{""}},
	} {
		if _, _, err := rkt(dir, append([]string{"status"}, test.args...)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.args, err, test.want)
		}
	}
}

func TestCatManifest(t *testing.T) {
	dir := t.TempDir()
	uuid := addPod(t, dir, false)
	pretty, _, err := rkt(dir, "cat-manifest", uuid)
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := rkt(dir, "cat-manifest", "--pretty-print=false", uuid)
	if err != nil || strings.Count(plain, "\n") != 1 || strings.Count(pretty, "\n") < 10 {
		t.Errorf("%q, %q (%v)", plain, pretty, err)
	}
	for _, text := range []string{plain, pretty} {
		if m, err := pod.ParseManifest([]byte(text)); err != nil || m.UUID != uuid {
			t.Errorf("%v (%v)", m, err)
		}
	}
}

func TestLogs(t *testing.T) {
	dir := t.TempDir()
	uuid := addPod(t, dir, false)
	lines := `2026-01-02T03:04:05.000000001Z stdout F one
2026-01-02T03:04:06Z stderr F oops
2026-01-02T03:04:07Z stdout P tw
2026-01-02T03:04:07Z stdout F o
2026-01-02T03:04:08Z stdout P three
`
	if err := os.WriteFile(filepath.Join(dir, "pods/run", uuid, "apps/web/log"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args        []string
		out, errOut string
	}{
		{nil, "one\ntwo\nthree", "oops\n"},
		{[]string{"--follow"}, "one\ntwo\nthree", "oops\n"},
		{[]string{"--tail=1"}, "two\nthree", ""},
		{[]string{"--tail=2"}, "two\nthree", "oops\n"},
		{[]string{"--tail=0"}, "three", ""},
		{[]string{"--tail=100"}, "one\ntwo\nthree", "oops\n"},
		{[]string{"--timestamps"}, "2026-01-02T03:04:05.000000001Z one\n2026-01-02T03:04:07Z two\n2026-01-02T03:04:08Z three", "2026-01-02T03:04:06Z oops\n"},
		{[]string{"--format=cri"}, lines, ""},
	}
	for _, test := range tests {
		out, errOut, err := rkt(dir, append([]string{"logs", "--app=web", uuid}, test.args...)...)
		if err != nil || out != test.out || errOut != test.errOut {
			t.Errorf("%q: %q, %q (%v), want %q, %q", test.args, out, errOut, err, test.out, test.errOut)
		}
	}
	for _, test := range []struct {
		want string
		args []string
	}{
		{"has 2 apps, specify app using --app: web, log", []string{uuid}},
		{`has no app "x"`, []string{"--app=x", uuid}},
		{"choose from raw, cri", []string{"--format=json", "--app=web", uuid}},
		{"no matches found", []string{"--app=web", "ffff"}},
	} {
		if _, _, err := rkt(dir, append([]string{"logs"}, test.args...)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.args, err, test.want)
		}
	}
	if out, _, err := rkt(dir, "logs", "--app=log", uuid); err != nil || out != "" {
		t.Errorf("an app that wrote nothing: %q (%v)", out, err)
	}
}

func TestTornPods(t *testing.T) {
	dir := t.TempDir()
	good, torn := addPod(t, dir, false), addPod(t, dir, false)
	if err := os.Truncate(filepath.Join(dir, "pods/run", torn, "pod.json"), 0); err != nil {
		t.Fatal(err)
	}
	out, errOut, err := rkt(dir, "list")
	if err != nil || !strings.Contains(out, good[:8]) || !strings.Contains(out, torn[:8]+"\t-") || !strings.Contains(errOut, torn) {
		t.Errorf("%q, %q (%v)", out, errOut, err)
	}
	out, _, err = rkt(dir, "status", torn)
	if err == nil || !strings.HasPrefix(out, "state=exited\n") {
		t.Errorf("%q (%v)", out, err)
	}
	if _, _, err := rkt(dir, "cat-manifest", torn); err == nil {
		t.Error("an empty manifest is printed")
	}
}

func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	running, exited := addPod(t, dir, true), addPod(t, dir, false)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, _, err := rkt(dir, "completion", shell); err != nil || !strings.Contains(out, "__complete") {
			t.Errorf("%s: %v", shell, err)
		}
	}
	if _, _, err := rkt(dir, "completion", "tcsh"); err == nil || !strings.Contains(err.Error(), "choose from bash, zsh, fish") {
		t.Errorf("tcsh: %v", err)
	}
	tests := []struct {
		words     []string
		has, lack string
	}{
		{[]string{"status", ""}, running, ""},
		{[]string{"stop", ""}, running, exited},
		{[]string{"rm", ""}, exited, running},
		{[]string{"rm", exited, ""}, "", exited},
		{[]string{"status", "zz"}, "", running},
		{[]string{"logs", running, "--app", ""}, "web", running},
		{[]string{"run", "--cap"}, "--caps-retain", "--exec"},
	}
	for _, test := range tests {
		out, _, err := rkt(dir, append([]string{"__complete"}, test.words...)...)
		if err != nil || !strings.Contains(out, test.has) || test.lack != "" && strings.Contains(out, test.lack) {
			t.Errorf("%q: %q (%v)", test.words, out, err)
		}
	}
}
