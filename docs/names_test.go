package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPackagesAreListed(t *testing.T) {
	text := documents(t)["../docs/ARCHITECTURE.md"]
	for _, folder := range []string{"internal", "services"} {
		entries, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if path := folder + "/" + e.Name(); !regexp.MustCompile(`(?m)^` + path + ` +\S`).MatchString(text) {
				t.Errorf("ARCHITECTURE.md does not say what %s is", path)
			}
		}
	}
}

func TestStatesAreListed(t *testing.T) {
	text := documents(t)["../docs/ARCHITECTURE.md"]
	state := regexp.MustCompile(`(?m)^\t\w+ +State = "(\w+)"`)
	for _, file := range []string{"services/journal/state.go", "services/replayer/state.go"} {
		code, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		states := state.FindAllStringSubmatch(string(code), -1)
		if len(states) < 5 {
			t.Errorf("only %d states were found in %s: have they another form?", len(states), file)
		}
		for _, m := range states {
			if !strings.Contains(text, "`"+m[1]+"`") {
				t.Errorf("ARCHITECTURE.md does not name the state %s of %s", m[1], file)
			}
		}
	}
}

// What each file of the tests from outside proves stands in a table, what the tools do in a list.
func TestEndToEndFilesAreListed(t *testing.T) {
	table := documents(t)["../e2e/README.md"]
	list, err := os.ReadFile(filepath.Join(root, "e2e/doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "e2e/*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		tool, isTool := strings.CutPrefix(strings.TrimSuffix(name, "_test.go"), "harness_")
		first, _, _ := strings.Cut(strings.TrimSuffix(name, "_test.go"), "_")
		switch {
		case isTool && !strings.Contains(string(list), "harness_"+strings.TrimSuffix(tool, "_linux")):
			t.Errorf("e2e/doc.go does not say what %s is", name)
		case !isTool && !strings.Contains(table, "`"+name+"`") && !strings.Contains(table, "`"+first+"_*_test.go`"):
			t.Errorf("e2e/README.md does not say what %s proves", name)
		}
	}
}

// tests holds the names of all tests of a package by its folder, as far as it was asked for.
type tests map[string][]string

func (known tests) of(t *testing.T, folder string) []string {
	t.Helper()
	if all, ok := known[folder]; ok {
		return all
	}
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example|Benchmark)\w+)\(`)
	var all []string
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllStringSubmatch(string(code), -1) {
			all = append(all, m[1])
		}
	}
	known[folder] = all
	return all
}

var (
	// A package, and tests of it that show something: `internal/tail` TestTrim, TestCommit.
	shownBy = regexp.MustCompile("`([a-z0-9/_]+)` ((?:(?:Test|Fuzz)\\w+(?:, )?)+)")
	// A call that runs some tests of one package; xxx is none, for a call that measures.
	goTest    = regexp.MustCompile("go test [^`\n#]+")
	ofPackage = regexp.MustCompile(` \./([a-z0-9/_]+)( |$)`)
	running   = regexp.MustCompile(` -run '?([A-Za-z][A-Za-z0-9|]*)`)
)

func TestNamedTestsExist(t *testing.T) {
	named, known := 0, tests{}
	for name, text := range documents(t) {
		for _, m := range shownBy.FindAllStringSubmatch(text, -1) {
			for _, test := range strings.Split(strings.TrimSuffix(m[2], ", "), ", ") {
				if named++; !slices.Contains(known.of(t, m[1]), test) {
					t.Errorf("%s names %s of %s, which there is not", name, test, m[1])
				}
			}
		}
		for _, call := range goTest.FindAllString(text, -1) {
			folder, parts := ofPackage.FindStringSubmatch(call), running.FindStringSubmatch(call)
			if folder == nil || parts == nil || parts[1] == "xxx" {
				continue
			}
			for _, part := range strings.Split(parts[1], "|") {
				named++
				has := func(test string) bool { return strings.Contains(test, part) }
				if !slices.ContainsFunc(known.of(t, folder[1]), has) {
					t.Errorf("%s runs %s of %s, which there is not", name, part, folder[1])
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d names of tests were found in the documents", named)
	}
}
