package e2e_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

// rounds is how often a directory is moved to the other site and back.
const rounds = 20

// TestTwentyRounds moves a directory to the other site and back twenty times, by demotion
// and promotion: unmodified, with writes before each move, and with either by chance
// where now and then the site that was left is killed. After each move both sites hold the
// same content, nothing that was acknowledged is missing, and no site ever says that the
// histories have parted; journal 288, 289, 290; rivals 2.
func TestTwentyRounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		writes func() bool // before a move
		kill   func() bool // the site that was left
	}{
		{"unmodified", never, never},
		{"with writes", func() bool { return true }, never},
		{"by chance", func() bool { return rand.IntN(2) == 0 }, func() bool { return rand.IntN(4) == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			east, west := pair(t)
			images := []string{"vms/prod/a", "vms/prod/b"}
			for _, image := range images {
				east.createImage(image, "8MiB", "--object-size", "1MiB")
			}
			west.must("mirror", "add", "vms/prod")
			awaitLevel(t, east, west, "vms/prod")
			l := newLoad(t, 8<<20, images...)
			primary, other := east, west
			for range 2 * sitetest.Rounds(rounds) {
				if c.writes() {
					w := l.start(primary)
					w.awaitWrites(rand.Int64N(100))
					w.end()
				}
				primary.must("mirror", "demote", "vms/prod")
				awaitPromoted(t, other)
				if c.kill() {
					killAndStart(t, primary)
				}
				primary, other = other, primary
				l.demandComplete(primary)
				awaitLevel(t, primary, other, "vms/prod")
				sameContent(t, primary, other, images...)
			}
			for _, s := range []*site{east, west} {
				if split := s.lifecycle("diverged"); len(split) > 0 {
					t.Errorf("%s saw a split brain: %q", s.name, split)
				}
			}
		})
	}
}

// killAndStart kills a site, which must be ready again soon: it has almost nothing to
// recover.
func killAndStart(t *testing.T, s *site) {
	t.Helper()
	s.kill()
	began := time.Now()
	s.start()
	sitetest.Prompt(t, s.name+" is ready after a kill", began, 15*time.Second)
}

func never() bool { return false }
