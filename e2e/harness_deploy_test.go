package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/deploy"
	"tidemark/internal/keys"
)

// repository is where the files lie that an operator installs.
const deployFolder = "../deploy"

// services are those that have a unit each.
var services = []string{"policy", "notifier", "journal", "replayer"}

// installation is a site as deploy/README.md installs it: a NATS server by the configuration
// there, and each service by its unit. Only folders, addresses and keys differ.
type installation struct {
	*site
	etc     string // what /etc/tidemark is
	monitor string // HOST:PORT of the NATS server's monitoring
	// primaries and replicas are the sockets of journal and replayer: site.socket is the one of
	// the role in which the site is looked at.
	primaries, replicas string
	server              *process
	gate                *process // lets peers in
	parts               map[string]*process
}

// natsServer returns the path of the NATS server, of the version in go.mod.
var natsServer = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(tidemark), "nats-server")
	out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the NATS server: %w: %s", err, out)
	}
	return path, nil
})

// install puts a site's files in place.
func install(t *testing.T, name string) *installation {
	t.Helper()
	i := &installation{site: newSite(t, name), monitor: freePort(t), parts: map[string]*process{}}
	i.etc, i.primaries, i.replicas = filepath.Join(i.dir, "etc"), i.socket, i.socket+"-ro"
	if err := os.CopyFS(filepath.Join(i.etc, "nats"), os.DirFS(filepath.Join(deployFolder, "nats"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(i.etc, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	i.creds = i.seed("operator")
	arguments := []string{"access", "key"}
	for _, user := range append([]string{"operator", "monitor", "gate"}, services...) {
		arguments = append(arguments, i.seed(user))
	}
	i.write("nats/users.txt", runCommand(t, nil, arguments...).stdout)
	i.renderUsers()
	return i
}

func (i *installation) seed(user string) string {
	return filepath.Join(i.etc, "keys", user+".seed")
}

func (i *installation) write(name, text string) {
	i.t.Helper()
	if err := os.WriteFile(filepath.Join(i.etc, name), []byte(text), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

func (i *installation) renderUsers() {
	i.t.Helper()
	r := runCommand(i.t, nil, "access", "users", "--site", i.name, filepath.Join(i.etc, "nats/users.txt"))
	if r.code != 0 {
		i.t.Fatal(r)
	}
	i.write("nats/users.conf", r.stdout)
}

// key returns the key of one of the site's users.
func (i *installation) key(user string) *keys.Key {
	i.t.Helper()
	key, err := keys.Load(i.seed(user))
	if err != nil {
		i.t.Fatal(err)
	}
	return key
}

// unit returns what a unit runs here: its command, and its environment.
func (i *installation) unit(name string) (command, environment []string) {
	i.t.Helper()
	u, err := deploy.ReadUnit(filepath.Join(deployFolder, "systemd"), name)
	if err != nil {
		i.t.Fatal(err)
	}
	variables := i.variables()
	words, err := u.Command(map[string]string{"d": i.credentials(u)}, variables)
	if err != nil {
		i.t.Fatal(err)
	}
	program, err := natsServer()
	if err != nil {
		i.t.Fatal(err)
	}
	moved := strings.NewReplacer(
		"/usr/local/bin/tidemark", tidemark, "/usr/local/bin/nats-server", program,
		"/etc/tidemark/", i.etc+"/", "/var/lib/", i.dir+"/", "/run/tidemark-nats/", i.dir+"/run-",
	)
	for at := range words {
		words[at] = moved.Replace(words[at])
		if at > 0 && (words[at-1] == "--http" || words[at-1] == "--nbd") {
			words[at] = i.address(name, words[at-1])
		}
	}
	for key, value := range variables {
		environment = append(environment, key+"="+moved.Replace(value))
	}
	return words, environment
}

// address stands for one that a unit names: those are taken on a machine with several sites.
func (i *installation) address(unit, flag string) string {
	switch {
	case flag == "--http":
		return freePort(i.t)
	case strings.Contains(unit, "replayer"):
		return "unix:" + i.replicas
	}
	return "unix:" + i.primaries
}

// variables are those of the environment files.
func (i *installation) variables() map[string]string {
	i.t.Helper()
	all := map[string]string{}
	for _, file := range []string{"systemd/tidemark.env", "nats/nats-server.env"} {
		some, err := deploy.ReadEnvironment(filepath.Join(deployFolder, file))
		if err != nil {
			i.t.Fatal(err)
		}
		for name, value := range some {
			all[name] = value
		}
	}
	for name, value := range map[string]string{
		"TIDEMARK_SITE": i.name, "TIDEMARK_NODE": i.name + "-1", "TIDEMARK_NATS_URL": i.url(),
		"TIDEMARK_NATS_MONITOR_URL": "http://" + i.monitor,
		"TIDEMARK_NATS_CA":          i.ca, "TIDEMARK_NATS_CERT": i.certificate(), "TIDEMARK_NATS_KEY": i.certificate(),
		"TIDEMARK_NATS_NAME": i.name + "-nats", "TIDEMARK_NATS_LISTEN": i.nats, "TIDEMARK_NATS_MONITOR": i.monitor,
	} {
		if _, known := all[name]; !known {
			i.t.Fatalf("no environment file in %s has %s", deployFolder, name)
		}
		all[name] = value
	}
	return all
}

// credentials makes the folder that %d stands for.
func (i *installation) credentials(u deploy.Unit) string {
	i.t.Helper()
	dir := filepath.Join(i.dir, "credentials", u.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		i.t.Fatal(err)
	}
	for _, c := range u.All("Service", "LoadCredential") {
		name, file, _ := strings.Cut(c, ":")
		text, err := os.ReadFile(strings.Replace(file, "/etc/tidemark", i.etc, 1))
		if err != nil {
			i.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o400); err != nil {
			i.t.Fatal(err)
		}
	}
	return dir
}

// run starts what a unit runs.
func (i *installation) runUnit(name string) *process {
	i.t.Helper()
	command, environment := i.unit(name)
	part := strings.TrimSuffix(name, ".service")
	log := filepath.Join(i.dir, part+".log")
	if !slices.Contains(i.logs, log) {
		i.logs = append(i.logs, log)
	}
	return startProcess(i.t, i.name+"/"+part, log, append(append([]string{"env"}, environment...), command...)...)
}

// installWithTLS is install with a NATS server that speaks TLS, as between hosts.
func installWithTLS(t *testing.T, name string) *installation {
	t.Helper()
	i := install(t, name)
	text, err := os.ReadFile(filepath.Join(i.etc, "nats/listen-tls.conf"))
	if err != nil {
		t.Fatal(err)
	}
	i.write("nats/listen.conf", string(text))
	writeCertificate(t, i.certificate())
	return i
}

// certificate is the file of the NATS server's certificate and key.
func (i *installation) certificate() string { return filepath.Join(i.etc, "nats/server.pem") }

// trustEachOther has sites, and those who say commands there, trust all their certificates.
func trustEachOther(all ...*installation) {
	var certificates []byte
	for _, i := range all {
		text, err := os.ReadFile(i.certificate())
		if err != nil {
			i.t.Fatal(err)
		}
		certificates = append(certificates, text...)
	}
	for _, i := range all {
		i.ca = filepath.Join(i.etc, "ca.pem")
		i.write("ca.pem", string(certificates))
	}
}

// trust is how a connection by hand trusts the server.
func (i *installation) trust() []nats.Option {
	if i.ca == "" {
		return nil
	}
	return []nats.Option{nats.RootCAs(i.ca)}
}

// writeCertificate makes a certificate for this host that is signed by itself.
func writeCertificate(t *testing.T, file string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(file))))},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startNATS runs the NATS server and waits until it is healthy.
func (i *installation) startNATS() {
	i.t.Helper()
	i.server = i.runUnit("tidemark-nats.service")
	await(i.t, patience, "the NATS server of "+i.name, func() error {
		response, err := http.Get("http://" + i.monitor + "/healthz")
		if err != nil {
			return err
		}
		_ = response.Body.Close() // only its status counts
		return unless(response.StatusCode == http.StatusOK, "it answers %s", response.Status)
	})
}

// startAll runs the whole site.
func (i *installation) startAll() {
	i.t.Helper()
	i.startNATS()
	i.gate = i.runUnit("tidemark-gate.service")
	for _, service := range services {
		i.parts[service] = i.runUnit("tidemark-" + service + ".service")
	}
	for _, p := range i.parts {
		p.awaitReady(i.t)
	}
}

// killAll ends the whole site as a power cut would, but for its disk.
func (i *installation) killAll() {
	for _, p := range i.parts {
		p.kill()
	}
	i.gate.kill()
	i.server.kill()
}

// stopAll stops the whole site in order.
func (i *installation) stopAll() {
	i.t.Helper()
	for _, service := range []string{"replayer", "journal", "notifier", "policy"} {
		if code := i.parts[service].stop(i.t); code != 0 {
			i.t.Errorf("%s/%s ended with exit code %d\n%s", i.name, service, code, i.parts[service].lastWords())
		}
	}
	if code := i.gate.stop(i.t); code != 0 {
		i.t.Errorf("the gate of %s ended with exit code %d\n%s", i.name, code, i.gate.lastWords())
	}
	if code := i.server.stop(i.t); code != 0 {
		i.t.Errorf("the NATS server of %s ended with exit code %d\n%s", i.name, code, i.server.lastWords())
	}
}
