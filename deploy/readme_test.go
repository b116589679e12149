package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// shellOf returns what the sh fences below a heading of README.md say, up to the next one.
func shellOf(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	here, inside := false, false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "#") && !inside:
			here = strings.TrimSpace(strings.TrimLeft(line, "#")) == heading
		case strings.HasPrefix(line, "```"):
			inside = !inside && strings.HasPrefix(line, "```sh")
		case here && inside:
			script.WriteString(line)
		}
	}
	if script.Len() == 0 {
		t.Fatalf("README.md has no commands below %q", heading)
	}
	return script.String()
}

// machine stands for one that the README's commands are said at.
type machine struct {
	t          *testing.T
	repository string // a copy: the commands write there
	root       string // DESTDIR
	bin        string
	calls      string // file with the calls of what needs a real machine
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t, filepath.Join(dir, "src"), filepath.Join(dir, "root"), filepath.Join(dir, "bin"), filepath.Join(dir, "calls")}
	for _, folder := range []string{"systemd", "nats", "container", "compose"} {
		if err := os.CopyFS(filepath.Join(m.repository, "deploy", folder), os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(m.bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"systemctl", "systemd-sysusers", "chown", "podman", "nats-server"} {
		m.provide(filepath.Join(m.bin, name), fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >> %s\n", name, m.calls))
	}
	m.provide(filepath.Join(m.bin, "tidemark"), fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", program))
	for _, name := range []string{"tidemark", "nats-server"} {
		if err := os.Link(filepath.Join(m.bin, name), filepath.Join(m.repository, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) provide(path, script string) {
	m.t.Helper()
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // it is run
		m.t.Fatal(err)
	}
}

// follow says a section's commands, as somebody does who copies them: it ends at the first that
// fails.
func (m *machine) follow(heading string, but ...string) {
	m.t.Helper()
	script := shellOf(m.t, heading)
	for _, line := range but {
		if !strings.Contains(script, line) {
			m.t.Fatalf("%s: no line has %q", heading, line)
		}
		script = strings.ReplaceAll(script, line, ": "+line)
	}
	cmd := exec.CommandContext(bounded(m.t), "sh", "-euc", script)
	cmd.Dir = m.repository
	cmd.Env = append(os.Environ(), "DESTDIR="+m.root, "PATH="+m.bin+":"+os.Getenv("PATH"))
	if out, err := output(m.t, cmd); err != nil {
		m.t.Fatalf("%s: %v\n%s", heading, err, out)
	}
}

// called returns the words of all calls of a program that stands for a machine's own.
func (m *machine) called(name string) (words []string) {
	m.t.Helper()
	text, err := os.ReadFile(m.calls)
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			words = append(words, strings.Fields(rest)...)
		}
	}
	return words
}

// TestReadmeInstalls says the README's commands: what is enabled was installed, the NATS
// server reads the configuration that comes of it, with a user for each key, and the seeds are
// for their owner alone.
func TestReadmeInstalls(t *testing.T) {
	m := newMachine(t)
	m.follow("Install")
	m.follow("A site in one process")
	m.follow("A process for each service", "tidemark status")
	enabled := slices.DeleteFunc(m.called("systemctl"), func(w string) bool { return filepath.Ext(w) != ".service" && filepath.Ext(w) != ".target" })
	if len(enabled) < 6 {
		t.Errorf("only %q is enabled", enabled)
	}
	for _, unit := range enabled {
		unit = strings.Replace(unit, "@east.", "@.", 1)
		if _, err := os.Stat(filepath.Join(m.root, "etc/systemd/system", unit)); err != nil {
			t.Errorf("%s is enabled: %v", unit, err)
		}
	}
	for name, u := range units(t) {
		for _, file := range u.All("Service", "EnvironmentFile") {
			if _, err := os.Stat(filepath.Join(m.root, file)); err != nil && file[0] != '-' {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, c := range u.All("Service", "LoadCredential") {
			_, file, _ := strings.Cut(c, ":")
			if info, err := os.Stat(filepath.Join(m.root, file)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, mode %v", name, err, info.Mode())
			}
		}
	}
	demandUsers(t, filepath.Join(m.root, "etc/tidemark/nats"), 7)
}

// TestReadmeComposes: the folders and files that the compose file binds are there.
func TestReadmeComposes(t *testing.T) {
	m := newMachine(t)
	m.follow("Containers")
	folder := filepath.Join(m.repository, "deploy/compose")
	c := composed(t)
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			if _, err := os.Stat(filepath.Join(folder, v.Source)); err != nil {
				t.Errorf("%s binds %v", name, err)
			}
		}
		for _, secret := range s.Secrets {
			if _, err := os.Stat(filepath.Join(folder, c.Secrets[secret.Source].File)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	demandUsers(t, filepath.Join(folder, "nats"), 6)
	if owner := m.called("chown"); !slices.Contains(owner, single(t, "USER")) {
		t.Errorf("the folders belong to %q", owner)
	}
}

func demandUsers(t *testing.T, folder string, want int) {
	t.Helper()
	natsVariables(t, nil)
	o, err := server.ProcessConfigFile(filepath.Join(folder, "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Nkeys) != want {
		t.Errorf("%s lets %d users in, not %d", folder, len(o.Nkeys), want)
	}
}
