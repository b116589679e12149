package e2e_test

import (
	"testing"
	"time"
)

// fleet is several sites that share pool vms.
type fleet struct {
	t     *testing.T
	sites []*site
	// wires are the links: over wires[{a, b}] site a reaches the NATS of site b.
	wires map[[2]int]*link
}

// everyPair makes each of n sites a peer of every other.
func everyPair(n int) (pairs [][2]int) {
	for a := range n {
		for b := a + 1; b < n; b++ {
			pairs = append(pairs, [2]int{a, b})
		}
	}
	return pairs
}

// newFleet starts sites, of which pairs are peers. A site has one address for all its
// peers, so it is started again under the address of another link before each of them
// joins.
func newFleet(t *testing.T, names []string, pairs [][2]int) *fleet {
	t.Helper()
	f := &fleet{t: t, wires: map[[2]int]*link{}}
	for _, name := range names {
		f.sites = append(f.sites, newSite(t, name))
	}
	for _, pair := range pairs {
		a, b := pair[0], pair[1]
		f.wires[[2]int{a, b}] = newLink(t, f.sites[b].nats, 0)
		f.wires[[2]int{b, a}] = newLink(t, f.sites[a].nats, 0)
		f.reachableFrom(b, a)
		f.reachableFrom(a, b)
		f.sites[a].awaitReady(t)
		f.sites[b].awaitReady(t)
		peers(t, "vms", f.sites[a], f.sites[b])
	}
	return f
}

// reachableFrom starts a site, again if need be, under the address by which another one
// reaches it. It does not wait.
func (f *fleet) reachableFrom(from, to int) {
	f.t.Helper()
	s := f.sites[to]
	if s.process != nil {
		s.terminate()
	}
	s.flags = []string{"--advertise", "nats://" + f.wires[[2]int{from, to}].address}
	s.launch()
}

// around does something to all links of a site.
func (f *fleet) around(a int, act func(*link)) {
	for ends, wire := range f.wires {
		if ends[0] == a || ends[1] == a {
			act(wire)
		}
	}
}

// running reports whether a site's process has not ended.
func (s *site) running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// startAll starts every site that is down.
func (f *fleet) startAll() {
	f.t.Helper()
	for _, s := range f.sites {
		if !s.running() {
			s.start()
		}
	}
}

// stable returns a replica's position, once it has not moved for a moment: nothing more
// arrives there.
func (s *site) stable(dir string) mirrorState {
	s.t.Helper()
	var last mirrorState
	seen := 0
	await(s.t, patience, dir+" at "+s.name+" stands still", func() error {
		m, err := s.mirrorNow(dir)
		if err != nil {
			return err
		}
		if m.Position != last.Position || m.Received != last.Received || m.Position != m.Received {
			seen = 0
		}
		last = m
		seen++
		return unless(seen > 2, "it is %s at %v of %v", m.State, m.Position, m.Received)
	})
	return last
}

// lastTag returns the tag in force of a journal, and the position that it continues.
func (s *site) lastTag(dir string) (tag uint32, continues position) {
	s.t.Helper()
	tags := query[[]struct {
		Tag         uint32   `json:"tag"`
		Predecessor position `json:"predecessor"`
	}](s, "journal", "tags", dir)
	if len(tags) == 0 {
		s.t.Fatalf("%s: the journal of %s has no tag", s.name, dir)
	}
	last := tags[len(tags)-1]
	return last.Tag, last.Predecessor
}

// awaitFollowing waits until a follower has applied all that its source has now. It must
// never say that its history is another one.
func (f *fleet) awaitFollowing(source, follower int, dir string) {
	f.t.Helper()
	from, to := f.sites[source], f.sites[follower]
	began := time.Now()
	var end mirrorState
	await(f.t, patience, from.name+" is primary", func() (err error) {
		end, err = from.mirrorNow(dir)
		if err != nil {
			return err
		}
		// One that is just being opened does not know yet how far it has come.
		return unless(end.Role == "master" && end.Position != (position{}), "it is %s at %v: %s", end.Role, end.Position, end.Error)
	})
	await(f.t, patience, to.name+" is level with "+from.name, func() error {
		m, err := to.mirrorNow(dir)
		if err != nil {
			return err
		}
		if m.State == "split_brain" || m.State == "disconnected" {
			f.t.Fatalf("%s is %s after %s, and nothing parted its history from that of %s: %s", to.name, m.State, seconds(began), from.name, m.Error)
		}
		return unless(m.State == "replaying" && !m.Position.before(end.Position),
			"%s was at %v, %s is %s at %v: %s", from.name, end.Position, to.name, m.State, m.Position, m.Error)
	})
}
