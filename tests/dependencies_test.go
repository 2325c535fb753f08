package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every module that go.mod asks for itself has a row with its reason, and no
// row outlives its module.
func TestDependenciesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../Documentation/devel/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1)
	if len(direct) == 0 {
		t.Fatal("go.mod has no modules")
	}
	major := regexp.MustCompile(`/v\d+$`)
	known := ""
	for _, m := range direct {
		name := major.ReplaceAllString(strings.TrimPrefix(m[1], "github.com/"), "")
		known += name + "\n"
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("module %s has no reason in dependencies.md", name)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(known, row[1]+"\n") {
			t.Errorf("dependencies.md gives a reason for %s, which go.mod does not ask for", row[1])
		}
	}
}
