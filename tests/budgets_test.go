package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines     = 600
	maxFunctionLines = 80
	maxFlatLines     = 120 // a table or one switch, read from top to bottom
	maxPackageFiles  = 12  // test files aside; rkt has one for each verb
)

// drawers are names that say nothing about what is inside.
var drawers = []string{"common", "helper", "helpers", "lib", "manager", "misc", "pkg", "types", "util", "utils"}

func TestPackages(t *testing.T) {
	for _, p := range goList(t, "./...") {
		path, _ := below(p.ImportPath)
		if len(p.GoFiles) == 0 {
			continue // nothing but tests
		}
		if p.Doc == "" {
			t.Errorf("package %s has no package comment: say what it is, what it never does and where its specification is", path)
		}
		if len(p.GoFiles) > maxPackageFiles && path != "rkt" {
			t.Errorf("package %s has %d files, more than %d: %s", path, len(p.GoFiles), maxPackageFiles, strings.Join(p.GoFiles, " "))
		}
		if slices.Contains(drawers, filepath.Base(path)) {
			t.Errorf("package %s is named as a drawer: name the noun that it holds, or keep the code where it is used", path)
		}
	}
}

func TestBudgets(t *testing.T) {
	for _, p := range goList(t, "./...") {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			checkFile(t, p.ImportPath, file)
		}
	}
}

func checkFile(t *testing.T, pkg, file string) {
	t.Helper()
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("parse %s: %v", file, err)
		return
	}
	path, _ := below(pkg)
	name := path + "/" + filepath.Base(file)
	if lines := fset.File(parsed.FileStart).LineCount(); lines > maxFileLines {
		t.Errorf("%s has %d lines, more than %d: split it by noun", name, lines, maxFileLines)
	}
	if strings.HasSuffix(file, "_test.go") {
		return
	}
	for _, decl := range parsed.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			t.Errorf("%s has an init function: nothing may happen because a package is imported", name)
		}
		limit := maxFunctionLines
		if len(fn.Body.List) <= 3 {
			limit = maxFlatLines
		}
		if lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; lines > limit {
			t.Errorf("%s: function %s has %d lines, more than %d", name, fn.Name.Name, lines, limit)
		}
	}
}
