// Package docs_test keeps the documents true where a program can: links, files and
// functions that they name exist, and so do the commands and flags that they show.
package docs_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tidemark/events"
)

const root = ".."

// documents returns the text of every Markdown file of the repository by its path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (d.Name() == "testdata" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		found[filepath.ToSlash(path)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../README.md", "../docs/ARCHITECTURE.md", "../docs/GUARANTEES.md", "../docs/OPERATIONS.md"} {
		if found[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	return found
}

// parted splits a document into what stands in fences of a language, and everything
// outside of fences.
func parted(text string) (prose string, fences map[string][]string) {
	fences = map[string][]string{}
	var outside strings.Builder
	language, inside := "", false
	for line := range strings.Lines(text) {
		if mark, ok := strings.CutPrefix(strings.TrimSpace(line), "```"); ok {
			inside, language = !inside, mark
			continue
		}
		if inside {
			fences[language] = append(fences[language], strings.TrimRight(line, "\n"))
		} else {
			outside.WriteString(line)
		}
	}
	return outside.String(), fences
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	span    = regexp.MustCompile("`([^`\n]+)`")
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// anchors returns what a link may name behind the # of a document.
func anchors(text string) []string {
	prose, _ := parted(text)
	var all []string
	for _, m := range heading.FindAllStringSubmatch(prose, -1) {
		all = append(all, strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

func TestLinksLeadSomewhere(t *testing.T) {
	all := documents(t)
	for name, text := range all {
		prose, _ := parted(text)
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), path))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s links to %s: there is no such heading", name, m[1])
			}
		}
	}
}

// A path in code marks is one of ours when it begins with a folder of the repository.
var ourPath = regexp.MustCompile(`^(cmd|events|services|internal|docs|e2e|deploy|\.ci)(/[A-Za-z0-9_.-]+)+/?$`)

func TestPathsExist(t *testing.T) {
	for name, text := range documents(t) {
		prose, fences := parted(text)
		var paths []string
		for _, m := range span.FindAllStringSubmatch(prose, -1) {
			paths = append(paths, m[1])
		}
		for _, line := range fences["text"] {
			paths = append(paths, strings.Fields(line)...)
		}
		for _, path := range paths {
			if !ourPath.MatchString(path) {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s names %s: %v", name, path, err)
			}
		}
	}
}

// A step of a drawing: a file, and a function or method in it.
var step = regexp.MustCompile(`^\s*((?:[a-z0-9_]+/)+[a-z0-9_]+\.go)\s+(?:(\w+)\.)?(\w+)`)

func TestFunctionsInDrawingsExist(t *testing.T) {
	steps := 0
	for name, text := range documents(t) {
		_, fences := parted(text)
		for _, line := range fences["text"] {
			m := step.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			steps++
			code, err := os.ReadFile(filepath.Join(root, m[1]))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want := `(?m)^func ` + m[3] + `[\[(]`
			if m[2] != "" {
				want = `(?m)^func \((?:\w+ )?\*?` + m[2] + `\) ` + m[3] + `\(`
			}
			if !regexp.MustCompile(want).Match(code) {
				t.Errorf("%s: %s has no function %s.%s", name, m[1], m[2], m[3])
			}
		}
	}
	if steps < 20 {
		t.Errorf("only %d steps were found: has the drawing another form?", steps)
	}
}

func TestNoPathsOfAMachine(t *testing.T) {
	machine := regexp.MustCompile(`(?:^|[\s"'=(:` + "`" + `])/(?:root|home|work|tmp|Users|mnt)/\S*`)
	for name, text := range documents(t) {
		for _, found := range machine.FindAllString(text, -1) {
			t.Errorf("%s: %q is a path of somebody's machine", name, strings.TrimSpace(found))
		}
	}
}

func TestStreamsAreListed(t *testing.T) {
	text := documents(t)["../docs/ARCHITECTURE.md"]
	for _, s := range events.SiteStreams() {
		for _, subject := range s.Subjects {
			if !strings.Contains(text, "| `"+s.Name+"` |") || !strings.Contains(text, "`"+subject+"`") {
				t.Errorf("ARCHITECTURE.md does not list stream %s with subject %s", s.Name, subject)
			}
		}
	}
}

// sources returns the text of all Go files but tests.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// A metric is registered under its whole name, or under its last part by a service that
// gives namespace and subsystem apart.
func TestMetricsExist(t *testing.T) {
	code := sources(t)
	metric := regexp.MustCompile("`tidemark_([a-z]+)_([a-z_]+)`")
	for name, text := range documents(t) {
		for _, m := range metric.FindAllStringSubmatch(text, -1) {
			whole, apart := `"tidemark_`+m[1]+"_"+m[2]+`"`, `Subsystem: "`+m[1]+`"`
			if !strings.Contains(code, whole) && !(strings.Contains(code, apart) && strings.Contains(code, `"`+m[2]+`"`)) {
				t.Errorf("%s names the metric tidemark_%s_%s, which nothing registers", name, m[1], m[2])
			}
		}
	}
}

// command is a node of the command line: what its --help says.
type command struct {
	subs  []string
	flags []string
}

// commandLine asks a freshly built program for its commands, as it is asked about them.
type commandLine struct {
	program string
	known   map[string]command
}

func build(t *testing.T) *commandLine {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tidemark")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, root+"/cmd/tidemark").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return &commandLine{program, map[string]command{}}
}

var (
	subLine  = regexp.MustCompile(`^  ([a-z][a-z-]*) +\S`)
	flagLine = regexp.MustCompile(`^ +(?:(-\w), )?(--[a-z][a-z-]*)`)
)

func (c *commandLine) at(t *testing.T, path []string) command {
	t.Helper()
	key := strings.Join(path, " ")
	if found, ok := c.known[key]; ok {
		return found
	}
	out, err := exec.CommandContext(t.Context(), c.program, append(slices.Clone(path), "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("tidemark %s --help: %v\n%s", key, err, out)
	}
	var found command
	section := ""
	for line := range strings.Lines(string(out)) {
		if title, ok := strings.CutSuffix(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(line, " ") {
			section = title
		}
		switch section {
		case "Available Commands":
			if m := subLine.FindStringSubmatch(line); m != nil {
				found.subs = append(found.subs, m[1])
			}
		case "Flags", "Global Flags":
			if m := flagLine.FindStringSubmatch(line); m != nil {
				found.flags = append(found.flags, m[1], m[2])
			}
		}
	}
	c.known[key] = found
	return found
}

// check reports what is wrong with the words behind `tidemark`.
func (c *commandLine) check(t *testing.T, words []string) string {
	t.Helper()
	var path []string
	node := c.at(t, nil)
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case strings.HasPrefix(word, "-") && word != "-":
			flag, _, hasValue := strings.Cut(word, "=")
			if !slices.Contains(node.flags, flag) {
				return "tidemark " + strings.Join(path, " ") + " has no flag " + flag
			}
			// Of the flags that stand before a command, these take a value.
			if !hasValue && slices.Contains([]string{"--nats-url", "--creds", "-o", "--output", "--timeout"}, flag) {
				i++
			}
		case slices.Contains(node.subs, word):
			path = append(path, word)
			node = c.at(t, path)
		case len(node.subs) > 0:
			return "tidemark " + strings.Join(path, " ") + " has no command " + word
		}
	}
	return ""
}

// commandsIn returns the words of each call of the program in lines of shell.
func commandsIn(lines []string) [][]string {
	var all [][]string
	separators := regexp.MustCompile(`\|\||&&|[|;&]|\s#`)
	for _, line := range lines {
		for _, part := range separators.Split(line, -1) {
			part, _, _ = strings.Cut(part, " > ")
			part = strings.Replace(strings.TrimSpace(part), "go run ./cmd/tidemark", "tidemark", 1)
			words := strings.Fields(part)
			for len(words) > 0 && strings.Contains(words[0], "=") { // environment
				words = words[1:]
			}
			if len(words) > 0 && strings.TrimPrefix(words[0], "./") == "tidemark" {
				all = append(all, words[1:])
			}
		}
	}
	return all
}

func TestCommandsExist(t *testing.T) {
	line := build(t)
	checked := 0
	for name, text := range documents(t) {
		prose, fences := parted(text)
		lines := fences["sh"]
		for _, m := range span.FindAllStringSubmatch(prose, -1) {
			lines = append(lines, m[1])
		}
		for _, words := range commandsIn(lines) {
			checked++
			if wrong := line.check(t, words); wrong != "" {
				t.Errorf("%s: %s", name, wrong)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d commands were found in the documents", checked)
	}
	for words, bad := range map[string]bool{
		"pool create vms": false, "pool make vms": true, "status --loud": true, "-o json mirror status": false,
	} {
		if got := line.check(t, strings.Fields(words)) != ""; got != bad {
			t.Errorf("%q: wrong is %v", words, got)
		}
	}
}

// Whatever is shown as JSON is whole: a message cut short would hide what a reader
// looks for.
func TestShownMessagesAreJSON(t *testing.T) {
	for name, text := range documents(t) {
		_, fences := parted(text)
		for _, line := range fences["text"] {
			if strings.HasPrefix(line, "{") && !json.Valid([]byte(line)) {
				t.Errorf("%s shows a message that is no JSON: %.60s", name, line)
			}
		}
	}
}
