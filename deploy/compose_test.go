package deploy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/internal/access"
)

const composeFile = "compose/compose.yaml"

// composition is a compose file, with every key of the format that ours uses and no other:
// a misspelt one does not decode.
type composition struct {
	Name     string
	Services map[string]composedService
	Networks map[string]struct{}
	Secrets  map[string]struct{ File string }
	// Extensions are the parts that services share, x-….
	Extensions map[string]any `yaml:",inline"`
}

type composedService struct {
	Image       string
	Build       struct{ Context, Dockerfile string }
	Restart     string
	User        string
	ReadOnly    bool          `yaml:"read_only"`
	CapDrop     []string      `yaml:"cap_drop"`
	SecurityOpt []string      `yaml:"security_opt"`
	StopGrace   time.Duration `yaml:"stop_grace_period"`
	Ulimits     struct{ Nofile int }
	Networks    []string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct {
		Test              []string
		Interval, Timeout time.Duration
		StartPeriod       time.Duration `yaml:"start_period"`
		Disable           bool
	}
	Pid         string
	Ports       []string
	Command     []string
	Environment map[string]string
	Secrets     []struct{ Source, Target string }
	Volumes     []struct {
		Type, Source, Target string
		ReadOnly             bool `yaml:"read_only"`
		Bind                 struct {
			CreateHostPath *bool `yaml:"create_host_path"`
		}
	}
}

var interpolated = regexp.MustCompile(`\$\{([A-Z_]+)(?::([-?])([^}]*))?\}`)

// compose reads the file with these variables.
func compose(t *testing.T, variables map[string]string) composition {
	t.Helper()
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	filled := interpolated.ReplaceAllStringFunc(string(text), func(s string) string {
		m := interpolated.FindStringSubmatch(s)
		if value := variables[m[1]]; value != "" {
			return value
		}
		if m[2] != "-" {
			t.Errorf("%s needs a value: %s", m[1], m[3])
		}
		return m[3]
	})
	var c composition
	dec := yaml.NewDecoder(bytes.NewReader([]byte(filled)))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	for name := range c.Extensions {
		if !strings.HasPrefix(name, "x-") {
			t.Errorf("%s: %s is no part of a compose file", composeFile, name)
		}
	}
	return c
}

func composed(t *testing.T) composition {
	t.Helper()
	return compose(t, map[string]string{"TIDEMARK_SITE": "east"})
}

// TestComposeRunsEachServiceOnce: with flags that the program takes, a seed of its own, and the
// node's one folder; and the NATS server that it was tested with, with our configuration.
func TestComposeRunsEachServiceOnce(t *testing.T) {
	c := composed(t)
	want := append(access.Services(), "nats", "gate")
	for name := range c.Services {
		if !slices.Contains(want, name) {
			t.Errorf("what is %s?", name)
		}
	}
	nats := c.Services["nats"]
	if want := "nats:" + strings.TrimPrefix(moduleVersion(t, "github.com/nats-io/nats-server/v2"), "v") + "-alpine"; nats.Image != want {
		t.Errorf("NATS is %s, want %s", nats.Image, want)
	}
	if !slices.Equal(nats.Command, []string{"--config", "/etc/nats/nats-server.conf"}) {
		t.Errorf("NATS runs with %q", nats.Command)
	}
	var nodes []string
	for _, name := range access.Services() {
		s, ok := c.Services[name]
		if !ok {
			t.Errorf("%s does not run", name)
			continue
		}
		if s.Image != "tidemark:latest" || s.Build.Context != "../.." || s.Build.Dockerfile != "deploy/"+containerfile {
			t.Errorf("%s runs %s, built by %+v", name, s.Image, s.Build)
		}
		if err := accepts(s.Command...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for flag, value := range map[string]string{
			"--services": name, "--data": "/data", "--site": "east",
			"--creds": "/run/secrets/nats.seed", "--http-token-file": "/run/secrets/http.token",
		} {
			if i := slices.Index(s.Command, flag); i < 0 || s.Command[i+1] != value {
				t.Errorf("%s: %s is not %s: %q", name, flag, value, s.Command)
			}
		}
		nodes = append(nodes, s.Command[slices.Index(s.Command, "--node")+1])
		secrets := map[string]string{}
		for _, secret := range s.Secrets {
			secrets[secret.Target] = c.Secrets[secret.Source].File
		}
		if len(secrets) != 2 || secrets["nats.seed"] != "./keys/"+name+".seed" || secrets["http.token"] != "./keys/http.token" {
			t.Errorf("%s has the secrets %v", name, secrets)
		}
		if s.Volumes[0].Source != "./data/node" || s.Volumes[0].Target != "/data" {
			t.Errorf("%s keeps its data in %+v", name, s.Volumes)
		}
		if s.DependsOn["nats"].Condition != "service_healthy" {
			t.Errorf("%s does not wait for NATS", name)
		}
		probe := s.Healthcheck.Test
		if len(probe) < 2 || probe[0] != "CMD" || probe[1] != "/tidemark" {
			t.Errorf("%s is probed by %q", name, probe)
		} else if err := accepts(probe[2:]...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if slices.Sort(nodes); len(slices.Compact(nodes)) != 1 {
		t.Errorf("the services of one node call it %q", nodes)
	}
}

// TestComposeGivesNothingAway: no process may become root, write to its image, or be reached
// from outside, and none is killed before it has stopped.
func TestComposeGivesNothingAway(t *testing.T) {
	for name, s := range composed(t).Services {
		if s.User != single(t, "USER") || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s is user %s, read only %v, without %q, with %q", name, s.User, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s can be reached from other hosts: %s", name, port)
			}
		}
		if !slices.Equal(s.Networks, []string{"site"}) {
			t.Errorf("%s is in the networks %q", name, s.Networks)
		}
		if need := patience(t, 1, false); s.StopGrace < need {
			t.Errorf("%s is killed after %s, and may need %s", name, s.StopGrace, need)
		}
		if s.Ulimits.Nofile < 65536 || s.Restart != "unless-stopped" || len(s.Healthcheck.Test) == 0 && name != "gate" {
			t.Errorf("%s may open %d files, is restarted %q and probed by %q", name, s.Ulimits.Nofile, s.Restart, s.Healthcheck.Test)
		}
		for _, v := range s.Volumes {
			if v.Type != "bind" || v.Bind.CreateHostPath == nil || *v.Bind.CreateHostPath {
				t.Errorf("%s: %s would be made, as root's, if it were missing", name, v.Source)
			}
		}
	}
}

// TestComposeLetsPeersIn: the gate writes the users where NATS reads them, and sees its process.
func TestComposeLetsPeersIn(t *testing.T) {
	c := composed(t)
	gate, nats := c.Services["gate"], c.Services["nats"]
	if err := accepts(gate.Command...); err != nil {
		t.Error(err)
	}
	source := func(s composedService, path string) string {
		for _, v := range s.Volumes {
			if rest, ok := strings.CutPrefix(path, v.Target+"/"); ok {
				return v.Source + "/" + rest
			}
		}
		return "nowhere"
	}
	value := func(flag string) string { return gate.Command[slices.Index(gate.Command, flag)+1] }
	if got, want := source(gate, value("--follow")), source(nats, "/etc/nats/users.conf"); got != want {
		t.Errorf("the gate writes %s, NATS reads %s", got, want)
	}
	if got, want := source(gate, value("--reload")), source(nats, nats.Environment["TIDEMARK_NATS_PID"]); got != want {
		t.Errorf("the gate reads %s, NATS writes %s", got, want)
	}
	if gate.Pid != "service:nats" || gate.User != nats.User {
		t.Errorf("the gate is %s with the processes of %q, and tells user %s", gate.User, gate.Pid, nats.User)
	}
	if len(gate.Secrets) != 1 || c.Secrets[gate.Secrets[0].Source].File != "./keys/gate.seed" {
		t.Errorf("the gate has the secrets %+v", gate.Secrets)
	}
}

// TestComposeConfiguresNATS: the configuration reads with what the file sets.
func TestComposeConfiguresNATS(t *testing.T) {
	nats := composed(t).Services["nats"]
	natsVariables(t, nats.Environment)
	o := natsOptions(t, natsFolder)
	if o.ServerName != "east-nats" || o.Port != 4222 || o.HTTPPort != 8222 || o.StoreDir != "/store" || !o.SyncAlways {
		t.Errorf("NATS is %s on %d, monitored on %d, stores in %s, synced %v", o.ServerName, o.Port, o.HTTPPort, o.StoreDir, o.SyncAlways)
	}
	targets := map[string]string{}
	for _, v := range nats.Volumes {
		targets[v.Target] = v.Source
	}
	if targets["/store"] == "" || targets[filepath.Dir(nats.Command[1])] != "./nats" {
		t.Errorf("NATS sees %v", targets)
	}
}

// moved returns a service's command as it runs in this test: at another NATS server, with a
// seed, ports and folders of the test.
func moved(s composedService, replaced map[string]string) []string {
	words := slices.Clone(s.Command)
	for i, word := range words {
		if now, ok := replaced[word]; ok {
			words[i] = now
		}
	}
	return words
}

func TestMisspeltCompositionIsNoticed(t *testing.T) {
	var c composition
	dec := yaml.NewDecoder(strings.NewReader("services: {nats: {imagine: x}}"))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err == nil {
		t.Errorf("it decodes as %+v", c)
	}
}
