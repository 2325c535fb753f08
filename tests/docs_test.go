package tests

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const pages = "../Documentation/commands/"

// TestCommandPages holds that each command has a page, which is the page of its
// parent where it has none of its own, and that all its flags stand there.
// Flags of every command stand on one page for all.
func TestCommandPages(t *testing.T) {
	rkt := filepath.Join(t.TempDir(), "rkt")
	build := exec.Command("go", "build", "-o", rkt, "./rkt")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build rkt: %v\n%s", err, out)
	}
	checkCommand(t, rkt, nil, "")
}

var (
	commandLine = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) `)
	flagLine    = regexp.MustCompile(`(?m)^ +(?:-., )?(--[a-z][a-z0-9-]*)`)
)

func checkCommand(t *testing.T, rkt string, command []string, parentPage string) {
	t.Helper()
	out, err := exec.Command(rkt, append(append([]string{}, command...), "--help")...).Output()
	if err != nil {
		t.Fatalf("rkt %s --help: %v", strings.Join(command, " "), err)
	}
	// Flags of every command are those of rkt itself.
	help, _, _ := strings.Cut(string(out), "\nGlobal Flags:")
	page := pages + "global-flags.md"
	if len(command) > 0 {
		page = pages + strings.Join(command, "-") + ".md"
	}
	text, err := os.ReadFile(page)
	if errors.Is(err, fs.ErrNotExist) && parentPage != "" {
		page = parentPage
		text, err = os.ReadFile(page)
	}
	if err != nil {
		t.Errorf("command rkt %s has no page: %v", strings.Join(command, " "), err)
	}
	_, flags, _ := strings.Cut(help, "\nFlags")
	for _, flag := range flagLine.FindAllStringSubmatch(flags, -1) {
		if flag[1] != "--help" && !regexp.MustCompile(`[^-a-z]`+flag[1]+`\b[^-]`).Match(text) && len(text) > 0 {
			t.Errorf("%s does not mention %s of rkt %s", page, flag[1], strings.Join(command, " "))
		}
	}
	_, list, found := strings.Cut(help, "\nAvailable Commands:\n")
	if !found {
		return
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for _, c := range commandLine.FindAllStringSubmatch(list, -1) {
		if c[1] != "help" {
			checkCommand(t, rkt, append(append([]string{}, command...), c[1]), page)
		}
	}
}

// TestLinksInDocuments holds that what a document links is there.
func TestLinksInDocuments(t *testing.T) {
	documents, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("../Documentation", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]*)\)`)
	code := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(code.ReplaceAllFunc(text, blank), -1) {
			target, anchor, _ := strings.Cut(string(m[1]), "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := document
			if target != "" {
				file = filepath.Join(filepath.Dir(document), target)
			}
			linked, err := os.ReadFile(file)
			if err != nil {
				t.Errorf("%s links %s: %v", document, m[1], err)
			} else if anchor != "" && !hasHeading(linked, anchor) {
				t.Errorf("%s links %s, but no heading there is %q", document, m[1], anchor)
			}
		}
	}
}

// blank hides code, which may look like a link, and keeps the target of a link
// whose text is code.
func blank(code []byte) []byte { return bytes.Repeat([]byte(" "), len(code)) }

var (
	heading     = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

func hasHeading(text []byte, anchor string) bool {
	for _, m := range heading.FindAllSubmatch(text, -1) {
		name := notInAnchor.ReplaceAllString(strings.ToLower(string(m[1])), "")
		if strings.ReplaceAll(name, " ", "-") == anchor {
			return true
		}
	}
	return false
}
