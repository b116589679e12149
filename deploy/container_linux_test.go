package deploy_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tidemark/internal/access"
)

// inContainer returns a command of the container: its root, its user, nothing else of the
// system's file system, no variables.
func inContainer(t *testing.T, root string, user int, words ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), words[0], words[1:]...)
	cmd.Path, cmd.Dir, cmd.Env = words[0], "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     root,
		Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}, //nolint:gosec // a small number of ours
	}
	return cmd
}

// TestContainerServes runs the recipe's ENTRYPOINT, CMD and HEALTHCHECK in a root that holds
// what the container does.
func TestContainerServes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change its root")
	}
	user, err := strconv.Atoi(strings.Split(single(t, "USER"), ":")[0])
	if err != nil {
		t.Fatal(err)
	}
	root := emptyRoot(t, user)
	entry := execForm(t, single(t, "ENTRYPOINT"))
	if out, err := output(t, inContainer(t, root, user, append(entry, "version")...)); err != nil || !strings.HasPrefix(out, "tidemark ") {
		t.Fatalf("version: %v\n%s", err, out)
	}
	command := append(entry, execForm(t, single(t, "CMD"))...)
	command = append(command, "--nats-listen", "127.0.0.1:0", "--nbd", "127.0.0.1:0", "--http", "127.0.0.1:0")
	site := start(t, inContainer(t, root, user, command...))
	line := site.awaitReady(t)
	_, text, _ := strings.Cut(single(t, "HEALTHCHECK"), "CMD ")
	probe := execForm(t, strings.Replace(text, "127.0.0.1:8080", valueOf(line, "http"), 1))
	if out, err := output(t, inContainer(t, root, user, probe...)); err != nil {
		t.Errorf("the probe: %v\n%s", err, out)
	}
	if info, err := os.Stat(root + "/data/nats"); err != nil || info.Sys().(*syscall.Stat_t).Uid != uint32(user) { //nolint:gosec // as above
		t.Errorf("the data: %v, %v", info, err)
	}
	site.stop(t)
	if out, err := output(t, inContainer(t, root, user, probe...)); err == nil {
		t.Errorf("the probe finds a process that has stopped healthy: %s", out)
	}
}

// TestComposeServes runs the four services as the compose file says, in the container's root:
// the NATS server lets each in with its secret, and each probe finds its process ready.
func TestComposeServes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change its root")
	}
	c := composed(t)
	user, err := strconv.Atoi(strings.Split(c.Services["policy"].User, ":")[0])
	if err != nil {
		t.Fatal(err)
	}
	d := runConfiguration(t, roomy)
	root := emptyRoot(t, user)
	giveFolder(t, filepath.Join(root, "run/tidemark"), user)
	var processes []*run
	for _, name := range access.Services() {
		s := c.Services[name]
		command := moved(s, map[string]string{
			"nats://nats:4222": d.server.ClientURL(),
			"http://nats:8222": "http://" + d.server.MonitorAddr().String(),
			"0.0.0.0:8080":     "0.0.0.0:0",
		})
		seed, err := d.keys[name].Seed()
		if err != nil {
			t.Fatal(err)
		}
		for target, text := range map[string]string{"nats.seed": seed, "http.token": "a-token-of-the-test"} {
			inside := "/run/secrets/" + name + "/" + target
			giveFile(t, filepath.Join(root, inside), text, user)
			command[slices.Index(command, "/run/secrets/"+target)] = inside
		}
		p := start(t, inContainer(t, root, user, append(execForm(t, single(t, "ENTRYPOINT")), command...)...))
		processes = append(processes, p)
		_, port, _ := net.SplitHostPort(valueOf(p.awaitReady(t), "http"))
		probe := slices.Clone(s.Healthcheck.Test[1:])
		probe[slices.Index(probe, "127.0.0.1:8080")] = "127.0.0.1:" + port
		if out, err := output(t, inContainer(t, root, user, probe...)); err != nil {
			t.Errorf("%s: the probe: %v\n%s", name, err, out)
		}
	}
	slices.Reverse(processes)
	for _, p := range processes {
		p.stop(t)
		if strings.Contains(p.messages.String(), "NATS refuses") {
			t.Errorf("%s wants more than it may:\n%s", p.cmd, &p.messages)
		}
	}
}

// giveFolder makes a folder for a container's user.
func giveFolder(t *testing.T, path string, user int) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, user, user)); err != nil { //nolint:gosec // as in a container
		t.Fatal(err)
	}
}

// giveFile makes a file that a container's user alone can read.
func giveFile(t *testing.T, path, text string, user int) {
	t.Helper()
	giveFolder(t, filepath.Dir(path), user)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o400), os.Chown(path, user, user)); err != nil {
		t.Fatal(err)
	}
}
