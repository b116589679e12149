package deploy_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
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
