package deploy_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/deploy"
	"tidemark/internal/access"
)

const unitFolder = "systemd"

// units returns all services, by their files' names.
func units(t *testing.T) map[string]deploy.Unit {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(unitFolder, "*.service"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]deploy.Unit{}
	for _, name := range names {
		u, err := deploy.ReadUnit(unitFolder, filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		all[u.Name] = u
	}
	return all
}

// command is what a unit runs, with the variables of the environment files in this folder.
func command(t *testing.T, u deploy.Unit) []string {
	t.Helper()
	variables := map[string]string{"TIDEMARK_FLAGS": "--log-level warn"}
	for _, file := range []string{"systemd/tidemark.env", "nats/nats-server.env"} {
		more, err := deploy.ReadEnvironment(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range more {
			variables[name] = value
		}
	}
	words, err := u.Command(map[string]string{"i": "east", "d": "/run/credentials/" + u.Name}, variables)
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// TestUnitsRunTheProgram: the program takes every unit's flags, each service has a unit
// that runs it alone, and journal and replayer of a node share its data folder and name.
func TestUnitsRunTheProgram(t *testing.T) {
	flagOf := func(words []string, flag string) string {
		if i := slices.Index(words, flag); i >= 0 && i+1 < len(words) {
			return words[i+1]
		}
		return ""
	}
	folders, nodes, addresses := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for name, u := range units(t) {
		words := command(t, u)
		if words[0] == "/usr/local/bin/nats-server" {
			continue
		}
		if words[0] != "/usr/local/bin/tidemark" {
			t.Errorf("%s runs %q", name, words[0])
			continue
		}
		if err := accepts(words[1:]...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if words[1] != "serve" {
			continue
		}
		state := "/var/lib/" + strings.ReplaceAll(u.Get("Service", "StateDirectory"), "%i", "east")
		if data := flagOf(words, "--data"); data != state {
			t.Errorf("%s keeps its data in %s and may write to %s", name, data, state)
		}
		services := flagOf(words, "--services")
		if services == "" {
			continue
		}
		if name != "tidemark-"+services+".service" {
			t.Errorf("%s runs %s", name, services)
		}
		folders[flagOf(words, "--data")], nodes[flagOf(words, "--node")] = true, true
		for _, flag := range []string{"--nbd", "--http"} {
			if address := flagOf(words, flag); address != "" && addresses[address] {
				t.Errorf("%s listens on %s, and so does another", name, address)
			} else if address != "" {
				addresses[address] = true
			}
		}
	}
	if len(folders) != 1 || len(nodes) != 1 {
		t.Errorf("the services of a node have folders %v and names %v", folders, nodes)
	}
	for _, service := range append(access.Services(), "nats", "gate") {
		if _, ok := units(t)["tidemark-"+service+".service"]; !ok {
			t.Errorf("%s has no unit", service)
		}
	}
}

// TestUnitsLeaveTimeToStop: systemd kills nothing that serve would still wait for.
func TestUnitsLeaveTimeToStop(t *testing.T) {
	for name, u := range units(t) {
		seconds, err := strconv.Atoi(u.Get("Service", "TimeoutStopSec"))
		if err != nil {
			t.Fatalf("%s: TimeoutStopSec: %v", name, err)
		}
		need := patience(t, 1, false)
		if strings.HasPrefix(name, "tidemark-site@") {
			need = patience(t, 4, true)
		}
		if got := time.Duration(seconds) * time.Second; got < need {
			t.Errorf("%s: stopped for at most %s, which may need %s", name, got, need)
		}
	}
}

// TestUnitsKeepSeedsOutOfSight: a service reads the seed of its own user, by credential.
func TestUnitsKeepSeedsOutOfSight(t *testing.T) {
	for _, service := range append(access.Services(), "gate") {
		u := units(t)["tidemark-"+service+".service"]
		want := "nats.seed:/etc/tidemark/keys/" + service + ".seed"
		if got := u.All("Service", "LoadCredential"); len(got) != 1 || got[0] != want {
			t.Errorf("%s loads %q, want %q", u.Name, got, want)
		}
		if words := command(t, u); !slices.Contains(words, "/run/credentials/"+u.Name+"/nats.seed") {
			t.Errorf("%s does not use its credential: %q", u.Name, words)
		}
	}
}

// TestUnitsAreHardened: what the shared drop-in says reaches every unit.
func TestUnitsAreHardened(t *testing.T) {
	for name, u := range units(t) {
		for key, want := range map[string]string{
			"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateDevices": "yes",
			"CapabilityBoundingSet": "", "RestrictSUIDSGID": "yes", "UMask": "0077", "Restart": "on-failure",
		} {
			if got := u.All("Service", key); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		if user := u.Get("Service", "User"); user == "" || user == "root" {
			t.Errorf("%s runs as %q", name, user)
		}
		filter := u.All("Service", "SystemCallFilter")
		if !slices.Contains(filter, "@system-service") || !slices.Contains(filter, "~@privileged @resources") {
			t.Errorf("%s lets system calls %q through", name, filter)
		}
		if limit, err := strconv.Atoi(u.Get("Service", "LimitNOFILE")); err != nil || limit < 65536 {
			t.Errorf("%s may open %d files (%v)", name, limit, err)
		}
	}
}

// systemRoot is a system's root with the units installed, for systemd's own tools.
func systemRoot(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is missing")
	}
	root := t.TempDir()
	own := filepath.Join(root, "etc/systemd/system")
	if err := os.CopyFS(own, os.DirFS(unitFolder)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(root, "usr/lib/systemd/system"), os.DirFS("/usr/lib/systemd/system")); err != nil {
		t.Skipf("systemd's own units: %v", err)
	}
	for _, name := range []string{"usr/local/bin/tidemark", "usr/local/bin/nats-server", "bin/kill"} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o700); err != nil { //nolint:gosec // it stands for a program
			t.Fatal(err)
		}
	}
	return root
}

// installed is a unit's name as it is started: an instance of a template.
func installed(name string) string { return strings.Replace(name, "@.", "@east.", 1) }

// TestSystemdTakesTheUnits: systemd knows every setting, and finds little exposed.
func TestSystemdTakesTheUnits(t *testing.T) {
	root := systemRoot(t)
	for name := range units(t) {
		if out, err := output(t, exec.CommandContext(bounded(t), "systemd-analyze", "verify", "--root="+root, "--man=no", installed(name))); err != nil || out != "" {
			t.Errorf("verify %s: %v\n%s", name, err, out)
		}
		const tenthsOfExposure = 20 // of 100: "OK" ends at 50
		out, err := output(t, exec.CommandContext(bounded(t), "systemd-analyze", "security", "--offline=true", "--no-pager",
			"--root="+root, fmt.Sprintf("--threshold=%d", tenthsOfExposure), installed(name)))
		if err != nil {
			t.Errorf("security of %s: %v\n%s", name, err, out)
		}
	}
	wrong := filepath.Join(root, "etc/systemd/system/tidemark-wrong.service")
	if err := os.WriteFile(wrong, []byte("[Service]\nExecStart=/usr/local/bin/tidemark\nProtectSytem=strict\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := output(t, exec.CommandContext(bounded(t), "systemd-analyze", "verify", "--root="+root, "--man=no", "tidemark-wrong.service")); !strings.Contains(out, "ProtectSytem") {
		t.Errorf("a misspelt setting is not noticed: %q", out)
	}
}

// TestSiteUnitServes runs what the unit of a whole site runs, with its folder and ports
// moved, and hears it tell systemd that it is ready.
func TestSiteUnitServes(t *testing.T) {
	u := units(t)["tidemark-site@.service"]
	words, err := u.Command(map[string]string{"i": "east"}, map[string]string{
		"TIDEMARK_FLAGS": "--nats-listen 127.0.0.1:0 --nbd 127.0.0.1:0 --http 127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range words {
		words[i] = strings.Replace(words[i], "/var/lib/", dir+"/", 1)
	}
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }() // ends the test
	cmd := exec.Command(program, words[1:]...)
	cmd.Env = []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "notify")}
	site := start(t, cmd)
	line := site.awaitReady(t)
	if u.Get("Service", "Type") == "notify" {
		heard := make([]byte, 64)
		if err := manager.SetReadDeadline(time.Now().Add(testTime)); err != nil {
			t.Fatal(err)
		}
		if n, err := manager.Read(heard); err != nil || string(heard[:n]) != "READY=1" {
			t.Errorf("systemd hears %q, %v", heard[:n], err)
		}
	}
	if got := valueOf(line, "site"); got != "east" {
		t.Errorf("the site is %q", got)
	}
	site.stop(t)
}
