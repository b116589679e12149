package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"tidemark/internal/nbdclient"
)

func TestServeKeepsWhatItHasAcknowledged(t *testing.T) {
	data := t.TempDir()
	s := startServe(t, "--data", data, "--site", "a site", "--node", "n1")
	if s.values["nbd"] != unixPrefix+s.socket || s.values["nats"] == "" || s.values["http"] == "" {
		t.Errorf("the ready line says %v", s.values)
	}
	for path, want := range map[string]string{
		"/healthz": "nats: ok", "/readyz": "journal: ok", "/": "Site a site", "/metrics": "process_start_time_seconds",
	} {
		if body := fetch(t, "http://"+s.values["http"]+path); !strings.Contains(body, want) {
			t.Errorf("%s does not say %q: %s", path, want, body)
		}
	}
	at := []string{"--nats-url", s.values["nats"]}
	for _, command := range []string{"pool create vms", "image create vms/disk --size 1MiB"} {
		if code, _, messages := tidemark(t, "", append(strings.Fields(command), at...)...); code != 0 {
			t.Fatalf("%s: %s", command, messages)
		}
	}
	conn, err := nbdclient.Dial(t.Context(), "unix", s.socket, "vms/disk")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteAt(t.Context(), []byte("precious"), 4096, false); err != nil {
		t.Fatal(err)
	}
	// The session is still open when the process is asked to stop.
	if code := s.stop(t); code != 0 {
		t.Fatalf("serve ended with %d: %s", code, s.log)
	}
	if rest := <-s.rest; rest != "" {
		t.Errorf("serve printed more than its ready line: %q", rest)
	}

	again := startServe(t, "--data", data)
	if again.values["site"] != `"a` { // the name it was founded with, quoted
		t.Errorf("started again, it says %v", again.values)
	}
	code, out, messages := tidemark(t, "", "image", "info", "vms/disk", "-o", "json", "--nats-url", again.values["nats"])
	if code != 0 || !strings.Contains(out, `"size": 1048576`) {
		t.Fatalf("the image is gone: %s%s", out, messages)
	}
	conn, err = nbdclient.Dial(t.Context(), "unix", again.socket, "vms/disk")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 8)
	if err := conn.ReadAt(t.Context(), got, 4096); err != nil || string(got) != "precious" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestServicesInProcessesOfTheirOwn(t *testing.T) {
	data := t.TempDir()
	hub := startServe(t, "--data", data, "--site", "east", "--node", "n1", "--services", "policy")
	if hub.values["nbd"] != "" {
		t.Errorf("a process without images listens for NBD: %v", hub.values)
	}
	at := hub.values["nats"]
	var others []*serving
	for _, name := range []string{"notifier", "replayer", "journal"} {
		others = append(others, startServe(t, "--data", data, "--node", "n1", "--services", name, "--nats-url", at))
	}
	// The same again is refused, and so is a second server on the same store.
	second := launchServe(t, "--data", data, "--services", "journal", "--nats-url", at)
	if code := second.wait(t); code != 5 || !strings.Contains(second.log.String(), "runs journal on") {
		t.Errorf("a second journal service: %d %s", code, second.log)
	}
	third := launchServe(t, "--data", data, "--services", "journal")
	if code := third.wait(t); code != 5 || !strings.Contains(third.log.String(), "runs nats on") {
		t.Errorf("a second NATS server: %d %s", code, third.log)
	}
	for _, command := range []string{"pool create vms", "image create vms/disk --size 1MiB", "status"} {
		if code, _, messages := tidemark(t, "", append(strings.Fields(command), "--nats-url", at)...); code != 0 {
			t.Fatalf("%s: %s", command, messages)
		}
	}
	journal := others[2]
	conn, err := nbdclient.Dial(t.Context(), "unix", journal.socket, "vms/disk")
	if err != nil {
		t.Fatal(err)
	}
	// Forced unit access: the other process must sync its log for us.
	if err := conn.WriteAt(t.Context(), []byte("x"), 0, true); err != nil {
		t.Errorf("a forced write: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	for i := range others {
		if code := others[len(others)-1-i].stop(t); code != 0 {
			t.Errorf("a service ended with %d: %s", code, others[len(others)-1-i].log)
		}
	}
	if code := hub.stop(t); code != 0 {
		t.Errorf("the first process ended with %d: %s", code, hub.log)
	}
}

// A second data folder by the name of a node that lives would get all that the first
// one holds: it is refused, and changes nothing.
func TestNodeNameIsTaken(t *testing.T) {
	hub := startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "n1")
	at := hub.values["nats"]
	other := t.TempDir()
	for _, services := range []string{"journal,replayer", "replayer"} {
		s := launchServe(t, "--data", other, "--node", "n1", "--services", services, "--nats-url", at)
		if code := s.wait(t); code != 5 || !strings.Contains(s.log.String(), `node "n1" of this site runs with another data folder: choose another name with --node`) {
			t.Errorf("%s of the same name: %d %s", services, code, s.log)
		}
	}
	second := startServe(t, "--data", other, "--node", "n2", "--services", "journal,replayer", "--nats-url", at)
	if code := second.stop(t); code != 0 {
		t.Errorf("by another name: %d %s", code, second.log)
	}
	// Nobody was disturbed.
	if code, _, messages := tidemark(t, "", "pool", "create", "vms", "--nats-url", at); code != 0 {
		t.Errorf("the site does not go on: %s", messages)
	}
	wrong := launchServe(t, "--data", t.TempDir(), "--site", "west", "--node", "n3", "--services", "journal", "--nats-url", at)
	if code := wrong.wait(t); code != 2 || !strings.Contains(wrong.log.String(), "this site is called") {
		t.Errorf("another site's name: %d %s", code, wrong.log)
	}
}

// outsideServer runs a NATS server that is none of ours, with monitoring.
func outsideServer(t *testing.T, syncAlways bool) (url, monitor string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT,
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: syncAlways, MaxPayload: 2 << 20, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(testTime) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL(), "http://" + s.MonitorAddr().String()
}

func TestOutsideServerMustProveThatItSyncs(t *testing.T) {
	good, goodMonitor := outsideServer(t, true)
	lazy, lazyMonitor := outsideServer(t, false)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no proof":         {[]string{"--nats-url", good}, "name its monitoring with --nats-monitor"},
		"lazy":             {[]string{"--nats-url", lazy, "--nats-monitor", lazyMonitor}, "sync_interval: always"},
		"another's":        {[]string{"--nats-url", lazy, "--nats-monitor", goodMonitor}, "belongs to another server"},
		"unreachable":      {[]string{"--nats-url", good, "--nats-monitor", "http://127.0.0.1:1"}, "NATS monitoring at"},
		"not a monitoring": {[]string{"--nats-url", good, "--nats-monitor", goodMonitor + "/nothing"}, "404"},
		"quorum":           {[]string{"--nats-url", good, "--durability", "quorum"}, "not replicated yet"},
	} {
		t.Run(name, func(t *testing.T) {
			s := launchServe(t, append(c.args, "--data", t.TempDir(), "--timeout", "200ms")...)
			if code := s.wait(t); code != 5 || !strings.Contains(s.log.String(), c.want) {
				t.Errorf("exit code %d: %s", code, s.log)
			}
		})
	}
	for name, args := range map[string][]string{
		"proven":  {"--nats-url", good, "--nats-monitor", goodMonitor},
		"relaxed": {"--nats-url", lazy, "--durability", "relaxed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServe(t, append(args, "--data", t.TempDir())...)
			if code := s.stop(t); code != 0 {
				t.Errorf("exit code %d: %s", code, s.log)
			}
		})
	}
}

func TestSyncIsRefusedOnARelaxedServer(t *testing.T) {
	hub := startServe(t, "--data", t.TempDir(), "--services", "policy", "--durability", "relaxed")
	s := launchServe(t, "--data", t.TempDir(), "--services", "journal", "--nats-url", hub.values["nats"])
	if code := s.wait(t); code != 5 || !strings.Contains(s.log.String(), "--durability relaxed") {
		t.Errorf("exit code %d: %s", code, s.log)
	}
}

func TestAdvertisedURL(t *testing.T) {
	for listening, want := range map[string]string{
		"nats://127.0.0.1:4222": "nats://127.0.0.1:4222",
		"nats://0.0.0.0:4222":   "nats://" + hostName() + ":4222",
		"nats://[::]:4222":      "nats://" + hostName() + ":4222",
	} {
		if got := (&serveConfig{}).advertised(listening); got != want {
			t.Errorf("%s is advertised as %s, want %s", listening, got, want)
		}
	}
	if got := (&serveConfig{advertise: "nats://nats.example.com"}).advertised("nats://0.0.0.0:1"); got != "nats://nats.example.com" {
		t.Errorf("--advertise is not heeded: %s", got)
	}
}
