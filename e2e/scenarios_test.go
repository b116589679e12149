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

// accepted is a list of scenarios against which the product is accepted.
type accepted struct {
	name    string // tests say it in front of a scenario's number
	heading string // of its part of SCENARIOS.md
	last    int
	gaps    []int // numbers that the list does not have
}

func acceptedLists() []accepted {
	return []accepted{
		{"journal", "## journal", 307, []int{
			34, 67, 98, 112, 113, 143, 144, 145, 168, 170, 186, 189, 194, 195, 196, 197, 219, 220, 221, 233, 234, 245, 257, 269, 273,
			291, 292, 304, 305, 306,
		}},
		{"directories", "## directories", 147, []int{
			18, 21, 27, 43, 47, 48, 49, 54, 55, 68, 84, 85, 90, 98, 105, 109, 110, 113, 114, 115, 125, 129, 130, 133, 135, 142,
		}},
		{"rivals", "## rivals, section 7", 18, nil},
	}
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

// inTests returns the scenarios that tests name, each with a file.
func (a accepted) inTests(t *testing.T) map[int]string {
	t.Helper()
	named := map[int]string{}
	mention := regexp.MustCompile(`\b` + a.name + ` (` + numbersPattern + `)`)
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(name, ".txtar") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, m := range mention.FindAllSubmatch(text, -1) {
			for _, n := range numbersIn(t, string(m[1])) {
				named[n] = name
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return named
}

// listed returns the scenarios that SCENARIOS.md lists: in a table or as ones that do not
// apply, and as ones that are not covered yet.
func (a accepted) listed(t *testing.T) (covered, notYet map[int]bool) {
	t.Helper()
	text, err := os.ReadFile("SCENARIOS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(text), "\n"+a.heading+"\n")
	if !found {
		t.Fatalf("SCENARIOS.md has no part %q", a.heading)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	covered, notYet = map[int]bool{}, map[int]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (`+numbersPattern+`)`).FindAllStringSubmatch(part, -1) {
		for _, n := range numbersIn(t, row[1]) {
			covered[n] = true
		}
	}
	reasons := regexp.MustCompile(`\([^()]*\)`)
	lists := regexp.MustCompile(`(?s)(Do(?:es)? not apply|Not yet):(.*?)(?:\n\n|$)`)
	for _, list := range lists.FindAllStringSubmatch(part, -1) {
		into := covered
		if list[1] == "Not yet" {
			into = notYet
		}
		for _, n := range numbersIn(t, reasons.ReplaceAllString(list[2], "")) {
			into[n] = true
		}
	}
	return covered, notYet
}

// TestScenarios demands that a test names each scenario, as `journal N`, `directories N` or `rivals N`, or that
// SCENARIOS.md lists it: covered, not to be covered and why, or not covered yet.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, a := range acceptedLists() {
		inTests := a.inTests(t)
		covered, notYet := a.listed(t)
		var missing, waiting []string
		for n := 1; n <= a.last; n++ {
			switch {
			case slices.Contains(a.gaps, n):
			case notYet[n] && (covered[n] || inTests[n] != ""):
				t.Errorf("%s %d is listed as not covered yet, and is covered %s", a.name, n, inTests[n])
			case notYet[n]:
				waiting = append(waiting, strconv.Itoa(n))
			case !covered[n] && inTests[n] == "":
				missing = append(missing, strconv.Itoa(n))
			}
		}
		if len(missing) > 0 {
			t.Errorf("nobody names the %s scenarios %s", a.name, strings.Join(missing, ", "))
		}
		t.Logf("%s: not covered yet: %s", a.name, strings.Join(waiting, ", "))
	}
}

func TestNumbersIn(t *testing.T) {
	if got := numbersIn(t, "89, 97,\n// 171-173"); !slices.Equal(got, []int{89, 97, 171, 172, 173}) {
		t.Error(got)
	}
}

// TestScenariosNameTests demands that every test that SCENARIOS.md names is there.
func TestScenariosNameTests(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, m := range function.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
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
	for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(string(text), -1) {
		if !there[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
