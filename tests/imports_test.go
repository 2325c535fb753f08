package tests

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// mayImport is the architecture: which folders a folder may import, besides
// itself and internal. Test files are free.
var mayImport = map[string][]string{
	"rkt":        {"stage0", "image", "store", "pod"},
	"cri":        {"stage0", "image", "store", "pod"},
	"stage0":     {"image", "store", "pod"},
	"stage1":     {"pod", "networking"},
	"stage1-fly": {"pod"},
	"image":      {"store"},
	"store":      {},
	"pod":        {},
	"networking": {},
	"internal":   {},
	"tests":      {},
}

// withoutCode are the top folders that hold no Go package.
var withoutCode = []string{"Documentation", "dist", "bin"}

func TestImports(t *testing.T) {
	for _, p := range goList(t, "./...") {
		path, _ := below(p.ImportPath)
		folder := top(path)
		allowed, declared := mayImport[folder]
		if !declared {
			continue // TestTopFolders speaks of it
		}
		for _, imported := range p.Imports {
			target, ours := below(imported)
			if !ours || top(target) == folder || top(target) == "internal" {
				continue
			}
			if !slices.Contains(allowed, top(target)) {
				t.Errorf("%s imports %s: %s may import only [%s] and internal", path, target, folder, strings.Join(allowed, " "))
			}
		}
	}
}

func TestTopFolders(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if _, declared := mayImport[e.Name()]; !declared && !slices.Contains(withoutCode, e.Name()) {
			t.Errorf("folder %s is not declared: say in tests/imports_test.go what it may import", e.Name())
		}
	}
}
