package e2e_test

import (
	"path/filepath"
	"testing"

	"tidemark/internal/sitetest"
)

// quartet is a site of four processes, one for each service, of which the first embeds
// the NATS server.
type quartet struct {
	*site
	parts map[string]*process
	flags map[string][]string
}

func newQuartet(t *testing.T, name string) *quartet {
	t.Helper()
	s := newSite(t, name)
	common := []string{"--nats-url", s.url(), "--http", ""}
	q := &quartet{site: s, parts: map[string]*process{}, flags: map[string][]string{
		"policy":   {"--services", "policy", "--nats-listen", s.nats, "--http", ""},
		"notifier": append([]string{"--services", "notifier"}, common...),
		"journal":  append([]string{"--services", "journal", "--nbd", "unix:" + s.socket}, common...),
		"replayer": append([]string{"--services", "replayer", "--nbd", "unix:" + filepath.Join(s.dir, "ro")}, common...),
	}}
	for _, part := range []string{"policy", "notifier", "journal", "replayer"} {
		q.launch(part)
	}
	for _, p := range q.parts {
		p.awaitReady(t)
	}
	return q
}

func (q *quartet) launch(part string) { q.parts[part] = q.serve(part, q.flags[part]...) }

// TestFourProcesses runs each service of both sites in a process of its own, kills each
// process of each site in turn, and starts it again: writing and mirroring go on. It was
// seen to fail when a follower that could not open its copy again gave up for good, and
// when a request to sync had no deadline.
func TestFourProcesses(t *testing.T) {
	t.Parallel()
	east, west := newQuartet(t, "east"), newQuartet(t, "west")
	west.socket = filepath.Join(west.dir, "ro") // it follows
	peers(t, "vms", east.site, west.site)
	east.createImage("vms/prod/a", "16MiB")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east.site, west.site, "vms/prod")
	l := newLoad(t, 16<<20, "vms/prod/a")
	for _, q := range []*quartet{west, east} {
		for _, part := range []string{"notifier", "replayer", "policy", "journal"} {
			w := l.start(east.site)
			w.awaitWrites(50)
			q.parts[part].kill()
			loses := q == east && (part == "journal" || part == "policy") // with its NATS
			if !loses {
				w.awaitWrites(50)
				w.end()
			}
			q.launch(part)
			q.parts[part].awaitReady(t)
			if loses {
				w.abandon()
			}
			l.demandComplete(east.site)
			awaitLevel(t, east.site, west.site, "vms/prod")
			l.demandComplete(west.site)
		}
	}
	for _, q := range []*quartet{west, east} {
		sitetest.DemandOneHolder(t, q.jetStream().Conn())
		for _, part := range []string{"replayer", "journal", "notifier", "policy"} {
			if code := q.parts[part].stop(t); code != 0 {
				t.Errorf("%s/%s ended with exit code %d", q.name, part, code)
			}
		}
	}
}
