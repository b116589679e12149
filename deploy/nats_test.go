package deploy_test

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tidemark/deploy"
	"tidemark/internal/access"
	"tidemark/internal/keys"
)

const natsFolder = "nats"

var update = flag.Bool("update", false, "render nats/users.conf anew")

// render returns what the program makes of a list of users.
func render(t *testing.T, list string) string {
	t.Helper()
	out, err := exec.Command(program, "access", "users", "--site", "east", list).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestUsersAreRendered: the users in the repository are what the program makes of their list.
func TestUsersAreRendered(t *testing.T) {
	want := render(t, filepath.Join(natsFolder, "users.txt"))
	file := filepath.Join(natsFolder, "users.conf")
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not what `tidemark access users` makes of its list (%v): go test ./deploy -run TestUsersAreRendered -update", file, err)
	}
}

// natsVariables sets what nats-server.env says, but for the addresses and folders.
func natsVariables(t *testing.T, changed map[string]string) {
	t.Helper()
	variables, err := deploy.ReadEnvironment(filepath.Join(natsFolder, "nats-server.env"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
	for name, value := range changed {
		if _, known := variables[name]; !known {
			t.Errorf("%s is no variable of nats-server.env", name)
		}
		t.Setenv(name, value)
	}
}

// natsOptions reads the configuration in a folder as the server does.
func natsOptions(t *testing.T, dir string) *server.Options {
	t.Helper()
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// TestNATSConfigurationSaysWhatTidemarkNeeds reads it with the server's own parser.
func TestNATSConfigurationSaysWhatTidemarkNeeds(t *testing.T) {
	natsVariables(t, nil)
	o := natsOptions(t, natsFolder)
	if !o.JetStream || !o.SyncAlways || o.StoreDir != "/var/lib/tidemark-nats" {
		t.Errorf("JetStream %v, synced always %v, in %s", o.JetStream, o.SyncAlways, o.StoreDir)
	}
	if o.JetStreamMaxStore != 100e9 && o.JetStreamMaxStore != 100<<30 {
		t.Errorf("the streams take at most %d bytes", o.JetStreamMaxStore)
	}
	if o.MaxPayload < 2<<20 || o.MaxPending < 64<<20 {
		t.Errorf("messages of %d bytes, %d pending", o.MaxPayload, o.MaxPending)
	}
	for what, host := range map[string]string{"clients": o.Host, "monitoring": o.HTTPHost} {
		if host != "127.0.0.1" {
			t.Errorf("%s are listened for at %q", what, host)
		}
	}
	if o.NoAuthUser != "" || len(o.Users) > 0 || o.Username != "" || o.Authorization != "" {
		t.Error("there is a way in without a key")
	}
	if o.SystemAccount != "SYS" {
		t.Errorf("the system account is %q", o.SystemAccount)
	}
	for _, u := range o.Nkeys {
		if u.Account == nil || u.Account.Name != "TIDEMARK" || u.Permissions == nil || u.Permissions.Publish == nil || u.Permissions.Subscribe == nil {
			t.Errorf("user %s has account %v and permissions %v", u.Nkey, u.Account, u.Permissions)
		}
	}
	if len(o.Nkeys) != 7 {
		t.Errorf("%d users", len(o.Nkeys))
	}
}

// deployed is a NATS server that runs the configuration, with users whose seeds are here.
type deployed struct {
	dir    string
	server *server.Server
	keys   map[string]*keys.Key
}

// roomy is room for the site's own streams, and for some journals.
const roomy = "4GB"

// runConfiguration starts a server with the configuration of the repository, in which only
// the keys, the addresses and the folder differ.
func runConfiguration(t *testing.T, maxFile string) deployed {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(natsFolder)); err != nil {
		t.Fatal(err)
	}
	d := deployed{dir: dir, keys: map[string]*keys.Key{}}
	files := []string{"access", "key"}
	for _, user := range append(access.Services(), access.Node, "operator", "monitor", "gate") {
		files = append(files, filepath.Join(dir, user+".seed"))
	}
	list, err := exec.Command(program, files...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files[2:] {
		key, err := keys.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		d.keys[strings.TrimSuffix(filepath.Base(file), ".seed")] = key
	}
	if err := os.WriteFile(filepath.Join(dir, "users.txt"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "users.conf"), []byte(render(t, filepath.Join(dir, "users.txt"))), 0o600); err != nil {
		t.Fatal(err)
	}
	natsVariables(t, map[string]string{
		"TIDEMARK_NATS_LISTEN": "127.0.0.1:-1", "TIDEMARK_NATS_MONITOR": "127.0.0.1:-1", "TIDEMARK_NATS_STORE": filepath.Join(dir, "store"),
		"TIDEMARK_NATS_MAX_FILE": maxFile, "TIDEMARK_NATS_PID": filepath.Join(dir, "pid"),
	})
	opts := natsOptions(t, dir)
	opts.NoSigs, opts.NoLog = true, true
	if d.server, err = server.NewServer(opts); err != nil {
		t.Fatal(err)
	}
	d.server.Start()
	t.Cleanup(func() {
		d.server.Shutdown()
		d.server.WaitForShutdown()
	})
	if !d.server.ReadyForConnections(testTime) {
		t.Fatal("the NATS server does not start")
	}
	return d
}

// refused is a NATS error handler that passes on the subjects that were refused, in order.
func refused(subjects chan<- string) nats.ErrHandler {
	return func(_ *nats.Conn, _ *nats.Subscription, err error) {
		parts := strings.Split(err.Error(), `"`) // … for Publish to "SUBJECT"
		if !errors.Is(err, nats.ErrPermissionViolation) || len(parts) < 3 {
			parts = []string{err.Error(), ""}
		}
		subjects <- parts[len(parts)-2]
	}
}

// until reads subjects to the one that is the last, and sorts what came before it.
func until(t *testing.T, subjects <-chan string, last string) []string {
	t.Helper()
	limit := time.NewTimer(testTime)
	defer limit.Stop()
	var all []string
	for {
		select {
		case s := <-subjects:
			if s == last {
				slices.Sort(all)
				return all
			}
			all = append(all, s)
		case <-limit.C:
			t.Fatalf("the server does not refuse %s", last)
		}
	}
}

// example makes a subject of a pattern that it matches.
func example(pattern string) string {
	return strings.ReplaceAll(strings.ReplaceAll(pattern, "*", "any"), ">", "any.any")
}

// matches reports whether a pattern matches a subject, as NATS has it.
func matches(pattern, subject string) bool {
	have := strings.Split(subject, ".")
	for i, want := range strings.Split(pattern, ".") {
		switch {
		case want == ">":
			return i < len(have)
		case i >= len(have) || want != "*" && want != have[i]:
			return false
		}
		if i == strings.Count(pattern, ".") {
			return len(have) == i+1
		}
	}
	return false
}

func anyMatches(patterns []string, subject string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, subject) })
}

// grants are the grants of all users of a site, as package access has them.
func grants() map[string]access.Grant {
	all := map[string]access.Grant{"operator": access.Operator("east"), "monitor": access.Monitor("east"), "gate": access.Gate("east")}
	for _, service := range append(access.Services(), access.Node) {
		all[service] = access.Service("east", service)
	}
	return all
}

// TestEachUserMayDoItsOwnAndNothingElse tries, as each user of a server that runs the
// configuration, every subject that any user may publish or subscribe to, those of another
// site, of the system and of everything. The server refuses exactly what the grant does not
// give.
func TestEachUserMayDoItsOwnAndNothingElse(t *testing.T) {
	d := runConfiguration(t, roomy)
	publish := []string{"$SYS.REQ.SERVER.PING", "tidemark.journal.west.any.entries", "$JS.API.STREAM.DELETE.POOLS", "$JS.API.STREAM.SNAPSHOT.POOLS", "anything"}
	subscribe := []string{">", "$SYS.>", "$JS.API.>", "_INBOX.>", "tidemark.>", "tidemark.journal.>"}
	for _, g := range grants() {
		for _, pattern := range slices.Concat(g.Publish, g.DenyPublish) {
			publish = append(publish, example(pattern))
		}
		subscribe = append(subscribe, g.Subscribe...)
	}
	slices.Sort(publish)
	slices.Sort(subscribe)
	publish, subscribe = slices.Compact(publish), slices.Compact(subscribe)
	for user, g := range grants() {
		t.Run(user, func(t *testing.T) {
			subjects := make(chan string, len(publish)+len(subscribe)+1)
			nc, err := nats.Connect(d.server.ClientURL(), append(d.keys[user].Options(), nats.ErrorHandler(refused(subjects)), nats.NoReconnect())...)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			var want []string
			for _, subject := range publish {
				if err := nc.Publish(subject, nil); err != nil {
					t.Fatal(err)
				}
				if !anyMatches(g.Publish, subject) || anyMatches(g.DenyPublish, subject) {
					want = append(want, subject)
				}
			}
			for _, pattern := range subscribe {
				if _, err := nc.SubscribeSync(pattern); err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(g.Subscribe, func(mine string) bool { return matches(mine, example(pattern)) }) {
					want = append(want, pattern)
				}
			}
			slices.Sort(want)
			if len(want) < len(subscribe)/2 {
				t.Fatalf("only %d subjects are tried that %s may not", len(want), user)
			}
			const last = "the.end" // nobody may, and refusals come in order
			if err := nc.Publish(last, nil); err != nil {
				t.Fatal(err)
			}
			if got := until(t, subjects, last); !slices.Equal(got, want) {
				t.Errorf("refused but granted: %q\ngranted but refused: %q", without(want, got), without(got, want))
			}
		})
	}
}

// without returns what is in all and not in some.
func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// TestNobodyElseComesIn: without a key, or with one that is not listed.
func TestNobodyElseComesIn(t *testing.T) {
	d := runConfiguration(t, roomy)
	stranger, err := keys.New()
	if err != nil {
		t.Fatal(err)
	}
	for who, options := range map[string][]nats.Option{
		"nobody": nil, "a stranger": stranger.Options(), "a password": {nats.UserInfo("admin", "admin")},
	} {
		if nc, err := nats.Connect(d.server.ClientURL(), options...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", who, err)
			nc.Close()
		}
	}
}

// TestTooSmallStoreIsSaid: max_file_store is less than the streams' limits together.
func TestTooSmallStoreIsSaid(t *testing.T) {
	d := runConfiguration(t, "1GB")
	seed, err := d.keys[access.Policy].Seed()
	if err != nil {
		t.Fatal(err)
	}
	dir := writeFiles(t, map[string]string{"seed": seed})
	out, err := output(t, exec.CommandContext(bounded(t), program, "serve", "--services", "policy", "--data", filepath.Join(dir, "data"), "--http", "",
		"--creds", filepath.Join(dir, "seed"), "--nats-url", d.server.ClientURL(), "--nats-monitor", "http://"+d.server.MonitorAddr().String()))
	if err == nil || !strings.Contains(out, "raise max_file_store") {
		t.Errorf("serve: %v\n%s", err, out)
	}
}
