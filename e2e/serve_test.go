package e2e_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestStopUnderLoad stops a site in order while clients write: everything acknowledged
// is there when it starts again, and it carries on.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	images := []string{"vms/prod/a", "vms/prod/b"}
	for _, image := range images {
		s.createImage(image, "16MiB")
	}
	l := newLoad(t, 16<<20, images...)
	for range 3 {
		w := l.start(s)
		w.awaitWrites(200)
		s.terminate()
		w.abandon()
		s.start()
		l.demandComplete(s)
	}
}

// TestHTTP checks the pages that probes and Prometheus ask for.
func TestHTTP(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	for path, want := range map[string]string{"/healthz": "", "/readyz": "", "/metrics": "tidemark_"} {
		code, body := get(t, "http://"+s.http+path)
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d %.300s", path, code, body)
		}
	}
	if code, _ := get(t, "http://"+s.http+"/../../etc/passwd"); code == http.StatusOK {
		t.Error("GET of a file outside was answered with 200")
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }() // only read
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// TestSecondServe checks that two processes never share a data folder or an address.
func TestSecondServe(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	for name, c := range map[string]struct {
		data, nats, nbd, http string
		says                  string
	}{
		"same folder":      {s.data(), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "another process"},
		"same NATS port":   {t.TempDir(), s.nats, "127.0.0.1:0", "127.0.0.1:0", s.nats},
		"same NBD socket":  {t.TempDir(), "127.0.0.1:0", "unix:" + s.socket, "127.0.0.1:0", s.socket},
		"same HTTP port":   {t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", s.http, s.http},
		"folder is a file": {tidemark, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "data folder"},
	} {
		r := runCommand(t, nil, "serve", "--data", c.data, "--nats-listen", c.nats, "--nbd", c.nbd, "--http", c.http, "-o", "json")
		lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
		r.stderr = lines[len(lines)-1] + "\n" // the others are its log
		if e := r.problem(t); r.code == 0 || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: want a refusal that names %q: %s", name, c.says, r)
		}
	}
	s.must("pool", "create", "still-there")
}

// TestStrangers checks that nothing listens beyond this host by accident.
func TestStrangers(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--nats-listen", "--nbd", "--http"} {
		for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0"} {
			r := runCommand(t, nil, "serve", "--data", t.TempDir(), flag, address, "-o", "json")
			if e := r.problem(t); r.code != 2 || e.Code != "usage" || !strings.Contains(e.Message, "--insecure") {
				t.Errorf("%s %s: want exit code 2 and a word about --insecure: %s", flag, address, r)
			}
		}
	}
}

// TestWrongFlags checks what serve says to flags that cannot be meant.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"", "--data", "--data d --services nonsense", "--data d --services ", "--data d --durability maybe",
		"--data d --nats-listen nowhere", "--data d --http 127.0.0.1:99999", "--data d --nbd unix:",
		"--data d --site a/b", "--data d --node *", "--data d --journal-max-bytes 0", "--data d extra",
		"--data d --nats-url http://x", "--data d --nats-url nats://127.0.0.1:1 --nats-listen 127.0.0.1:0",
		"--data d --log-level loud",
	} {
		all := []string{"serve"}
		if args != "" {
			all = append(all, strings.Split(args, " ")...)
		}
		r := runCommand(t, nil, append(all, "-o", "json")...)
		if e := r.problem(t); r.code != 2 || e.Code != "usage" {
			t.Errorf("serve %s: want exit code 2: %s", args, r)
		}
	}
}

// TestRestarts starts a site many times: the ready line comes each time, and a
// site that has data says nothing alarming.
func TestRestarts(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/disk", "8MiB")
	for range 3 {
		s.terminate()
		s.start()
		s.must("image", "info", "vms/disk")
	}
	if contains(tailOf(s.logs[0]), `"level":"ERROR"`) {
		t.Errorf("an error in the log of a site that was only started and stopped")
	}
}
