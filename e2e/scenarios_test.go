package e2e_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// journalScenarios returns the numbers of the catalogue's blocks 4.A to 4.J.
func journalScenarios() []int {
	gaps := []int{34, 67, 98, 112, 113, 143, 144, 145, 168, 170, 186, 189}
	var all []int
	for n := 1; n <= 193; n++ {
		if !slices.Contains(gaps, n) {
			all = append(all, n)
		}
	}
	return all
}

const numbersPattern = `\d+(?:-\d+)?(?:,[ \t\n/]*\d+(?:-\d+)?)*`

// numbersIn reads a list like "89, 97, 171-173".
func numbersIn(t *testing.T, list string) []int {
	t.Helper()
	var all []int
	for _, part := range regexp.MustCompile(`\d+(?:-\d+)?`).FindAllString(list, -1) {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			t.Fatalf("the range %q: %v, %v", part, err1, err2)
		}
		for n := first; n <= last; n++ {
			all = append(all, n)
		}
	}
	return all
}

// namedScenarios returns the journal scenarios that tests name, each with a file, and those
// that SCENARIOS.md lists in its part about the journal: in a table, or as ones that do not
// apply.
func namedScenarios(t *testing.T) map[int]string {
	t.Helper()
	named := map[int]string{}
	inTests := regexp.MustCompile(`\bjournal (` + numbersPattern + `)`)
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(name, ".txtar") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, m := range inTests.FindAllSubmatch(text, -1) {
			for _, n := range numbersIn(t, string(m[1])) {
				named[n] = name
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("SCENARIOS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n## journal\n")
	part, _, _ = strings.Cut(part, "\n## ")
	for _, row := range regexp.MustCompile(`(?m)^\| (`+numbersPattern+`)`).FindAllStringSubmatch(part, -1) {
		for _, n := range numbersIn(t, row[1]) {
			named[n] = "SCENARIOS.md"
		}
	}
	reasons := regexp.MustCompile(`\([^()]*\)`)
	for _, list := range regexp.MustCompile(`(?s)Do(?:es)? not apply:(.*?)(?:\n\n|$)`).FindAllStringSubmatch(part, -1) {
		for _, n := range numbersIn(t, reasons.ReplaceAllString(list[1], "")) {
			named[n] = "SCENARIOS.md, as one that does not apply"
		}
	}
	return named
}

// TestJournalScenarios counts the scenarios of the journal's catalogue that a test names as
// `journal N`, or that SCENARIOS.md lists.
func TestJournalScenarios(t *testing.T) {
	t.Parallel()
	named := namedScenarios(t)
	var missing []string
	all := journalScenarios()
	for _, n := range all {
		if named[n] == "" {
			missing = append(missing, strconv.Itoa(n))
		}
	}
	if len(missing) > 0 {
		t.Errorf("nobody names the journal scenarios %s", strings.Join(missing, ", "))
	}
}

func TestNumbersIn(t *testing.T) {
	if got := numbersIn(t, "89, 97,\n// 171-173"); !slices.Equal(got, []int{89, 97, 171, 172, 173}) {
		t.Error(got)
	}
}
