package e2e_test

import "testing"

// TestFollowersOfEachOther loses the primary of two followers, which then follow each other.
// It comes back and is demoted at once: the demotion reaches them, and one is promoted.
// It was seen to fail when a follower stays with a source that hears nothing, although a
// third site has more.
func TestFollowersOfEachOther(t *testing.T) {
	t.Parallel()
	f := newFleet(t, []string{"east", "west", "north"}, everyPair(3))
	east, west := f.sites[0], f.sites[1]
	east.createImage("vms/prod/a", "8MiB", "--object-size", "1MiB")
	l := newLoad(t, 8<<20, "vms/prod/a")
	w := l.start(east)
	w.awaitWrites(100)
	for i, s := range f.sites[1:] {
		s.must("mirror", "add", "vms/prod")
		f.awaitFollowing(0, i+1, "vms/prod")
	}
	east.kill()
	w.abandon()
	for _, s := range f.sites[1:] {
		await(t, patience, s.name+" follows the other one", func() error {
			m, err := s.mirrorNow("vms/prod")
			if err != nil {
				return err
			}
			return unless(m.Primary != "east" && (m.State == "replaying" || m.State == "stalled"), "it is %s, of %q: %s", m.State, m.Primary, m.Error)
		})
	}
	east.start()
	l.demandComplete(east)
	east.must("mirror", "demote", "vms/prod")
	awaitPromoted(t, west)
	l.demandComplete(west)
	for _, i := range []int{0, 2} {
		f.awaitFollowing(1, i, "vms/prod")
		l.demandComplete(f.sites[i])
	}
}
