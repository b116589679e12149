package deploy_test

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const containerfile = "container/Containerfile"

// instruction is one of a container's recipe, with the number of its stage.
type instruction struct {
	stage       int
	verb, words string
}

// readRecipe reads a Containerfile.
func readRecipe() ([]instruction, error) {
	text, err := os.ReadFile(containerfile)
	if err != nil {
		return nil, err
	}
	var all []instruction
	stage := -1
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		verb, words, _ := strings.Cut(line, " ")
		if verb == "FROM" {
			stage++
		}
		all = append(all, instruction{stage, verb, strings.TrimSpace(words)})
	}
	return all, nil
}

// final returns what the last stage says with a verb.
func final(t *testing.T, verb string) []string {
	t.Helper()
	all, err := readRecipe()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, i := range all {
		if i.verb == verb && i.stage == all[len(all)-1].stage {
			found = append(found, i.words)
		}
	}
	return found
}

// single is final for what must stand there exactly once.
func single(t *testing.T, verb string) string {
	t.Helper()
	found := final(t, verb)
	if len(found) != 1 {
		t.Fatalf("%s stands there %d times: %q", verb, len(found), found)
	}
	return found[0]
}

// execForm reads a command that no shell takes apart: there is none.
func execForm(t *testing.T, text string) []string {
	t.Helper()
	var words []string
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		t.Fatalf("%s: without a shell, a command is a list: %v", text, err)
	}
	return words
}

// buildAsContainer runs the recipe's own command, but for where the program goes.
func buildAsContainer(target string) error {
	all, err := readRecipe()
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.verb != "RUN" || !strings.Contains(i.words, "go build") {
			continue
		}
		words := strings.Fields(strings.Replace(i.words, "/out/tidemark", target, 1))
		program := slices.Index(words, "go")
		if program < 0 || !slices.Contains(words, target) {
			return fmt.Errorf("%s: %q cannot be run as it is", containerfile, i.words)
		}
		cmd := exec.Command(words[program], words[program+1:]...)
		cmd.Dir, cmd.Env, cmd.Stderr = "..", append(os.Environ(), words[:program]...), os.Stderr
		return cmd.Run()
	}
	return errors.New(containerfile + " does not build the program")
}

// TestContainerHoldsTheProgramAlone: from scratch, as nobody, with a probe that needs no
// shell, and commands that the program takes.
func TestContainerHoldsTheProgramAlone(t *testing.T) {
	if from := single(t, "FROM"); from != "scratch" {
		t.Errorf("the container stands on %s", from)
	}
	user, group, _ := strings.Cut(single(t, "USER"), ":")
	if user == "" || user == "0" || user != group || strings.Trim(user, "0123456789") != "" {
		t.Errorf("user %q, group %q: without /etc/passwd they are numbers, and not root's", user, group)
	}
	copied := map[string]string{}
	for _, words := range final(t, "COPY") {
		fields := strings.Fields(words)
		copied[fields[len(fields)-1]] = words
	}
	for path, want := range map[string]string{
		"/tidemark": "--from=build", "/etc/ssl/certs/ca-certificates.crt": "--from=build", "/data": "--chown=" + user + ":" + user,
	} {
		if !strings.Contains(copied[path], want) {
			t.Errorf("%s: %q, want %s", path, copied[path], want)
		}
	}
	if len(copied) != 3 {
		t.Errorf("the container holds %v", copied)
	}
	if volume := single(t, "VOLUME"); volume != "/data" {
		t.Errorf("the volume is %s", volume)
	}
	entry := execForm(t, single(t, "ENTRYPOINT"))
	if len(entry) != 1 || entry[0] != "/tidemark" {
		t.Errorf("the container runs %q", entry)
	}
	_, probe, _ := strings.Cut(single(t, "HEALTHCHECK"), "CMD ")
	for what, words := range map[string][]string{
		"CMD":         append(entry, execForm(t, single(t, "CMD"))...),
		"HEALTHCHECK": execForm(t, probe),
	} {
		if words[0] != "/tidemark" {
			t.Errorf("%s runs %q", what, words)
		} else if err := accepts(words[1:]...); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestContainerIsBuiltWithTheModulesGo: the image of the first stage is of the version that
// go.mod names.
func TestContainerIsBuiltWithTheModulesGo(t *testing.T) {
	all, err := readRecipe()
	if err != nil {
		t.Fatal(err)
	}
	image, _, _ := strings.Cut(all[0].words, " ")
	var minor string
	if parts := strings.Split(moduleVersion(t, "go"), "."); len(parts) >= 2 {
		minor = parts[0] + "." + parts[1]
	}
	if image != "golang:"+minor {
		t.Errorf("built with %s, and go.mod says %s", image, minor)
	}
}

// moduleVersion returns the version that go.mod gives to a module, or to "go".
func moduleVersion(t *testing.T, module string) string {
	t.Helper()
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == module {
			return fields[1]
		}
	}
	t.Fatalf("go.mod does not name %s", module)
	return ""
}

// TestProgramIsStatic: nothing of the system that built it is needed where it runs.
func TestProgramIsStatic(t *testing.T) {
	f, err := elf.Open(program)
	if err != nil {
		t.Skipf("no ELF file on this system: %v", err)
	}
	defer func() { _ = f.Close() }() // only read
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program needs an interpreter")
		}
	}
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("the program needs %q (%v)", libraries, err)
	}
}

// emptyRoot is what the container's file system holds: the program and a folder that its
// user may write to.
func emptyRoot(t *testing.T, owner int) string {
	t.Helper()
	root := t.TempDir()
	// t.TempDir is below a folder that only its owner may pass; inside the root nobody sees that.
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "tidemark"), text, 0o755); err != nil { //nolint:gosec // others run it
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(root, 0o755), os.Chown(filepath.Join(root, "data"), owner, owner)); err != nil { //nolint:gosec // others pass it
		t.Fatal(err)
	}
	return root
}
