package e2e_test

import (
	"context"
	"math"
	"time"

	"tidemark/internal/nbdclient"
)

// longestStart is about how long a site takes to be ready again.
const longestStart = 400 * time.Millisecond

// killPrimary kills the primary under its writers, now and then again while it starts.
// Nothing that it had acknowledged may be missing.
func (m *misfortunes) killPrimary() {
	s := m.sites[m.primary]
	s.kill()
	m.loseWriters()
	for range m.random.IntN(3) {
		m.killWithin(s.launch(), longestStart)
	}
	s.start()
	m.load.demandComplete(s)
}

// killWithin kills a process at a random moment.
func (m *misfortunes) killWithin(p *process, longest time.Duration) {
	moment := time.NewTimer(time.Duration(m.random.Int64N(int64(longest))))
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-p.ended:
	}
	p.kill()
}

// killFollower kills a follower. It comes back at once, in its start as well, or later.
func (m *misfortunes) killFollower() {
	s := m.sites[m.follower()]
	s.kill()
	if m.random.IntN(3) == 0 {
		return
	}
	for range m.random.IntN(3) {
		m.killWithin(s.launch(), longestStart)
	}
	s.start()
}

func (m *misfortunes) cutLink()     { m.around(m.follower(), (*link).sever) }
func (m *misfortunes) silenceLink() { m.around(m.follower(), (*link).silence) }

// restart stops a site in order and starts it again.
func (m *misfortunes) restart() {
	i := m.random.IntN(len(m.sites))
	s := m.sites[i]
	if !s.running() {
		s.start()
	}
	s.terminate()
	if i == m.primary {
		m.loseWriters()
	}
	s.start()
	if i == m.primary {
		m.load.demandComplete(s)
	}
}

// takenSnapshot is one of all images, with the moments of the load between which it was
// taken.
type takenSnapshot struct {
	name         string
	begun, ended uint64
}

// snapshot takes one of all images at one position, under the writers.
func (m *misfortunes) snapshot() {
	taken := takenSnapshot{name: "s" + uniqueNumber(m.count["snapshot"]), begun: m.load.work.Tick()}
	m.sites[m.primary].must("snap", "create", misfortuneDir+"@"+taken.name)
	taken.ended = m.load.work.Tick()
	m.snaps = append(m.snaps, taken)
}

// judgeSnapshots compares the snapshots of all sites, and removes them. The primary's hold
// what they must, at one position.
func (m *misfortunes) judgeSnapshots() {
	m.t.Helper()
	source := m.sites[m.primary]
	for _, snap := range m.snaps {
		v := m.load.work.Verify()
		for i, image := range m.load.images {
			export := image + "@" + snap.name
			source.contents(export, func(offset uint64, p []byte) { v.Observe(i, offset, p) })
			for _, follower := range m.followers() {
				sameContent(m.t, source, m.sites[follower], export)
			}
		}
		if err := v.Between(snap.begun, min(snap.ended, math.MaxUint64)).Prefix(); err != nil {
			m.t.Errorf("snapshot %s: %v", snap.name, err)
		}
		source.mustUnused("snap", "remove", misfortuneDir+"@"+snap.name)
	}
	m.snaps = nil
}

// serves reports whether an image can be opened now.
func (s *site) serves(image string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := nbdclient.Dial(ctx, "unix", s.socket, image)
	if err == nil {
		hangUp(conn)
	}
	return err == nil
}

// lookAtFollower cuts a follower off, whatever it is doing, and judges what it holds: a
// prefix of the history, at one position over all images.
func (m *misfortunes) lookAtFollower() {
	i := m.follower()
	s := m.sites[i]
	if !s.running() {
		s.start()
	}
	m.around(i, (*link).sever)
	defer m.healLinks()
	if !s.serves(m.load.images[0]) {
		m.count["not looked at"]++ // its copy is not complete: it is no disk that ever was
		return
	}
	s.stable(misfortuneDir)
	if err := m.load.judge(s).Prefix(); err != nil {
		m.t.Fatalf("%s, cut off: %v", s.name, err)
	}
}

// copyAnew drops a follower's copy and has it made again, and kills either side in the
// middle of that.
func (m *misfortunes) copyAnew() {
	m.mend()
	s := m.sites[m.follower()]
	s.copyAnew(misfortuneDir)
	if m.random.IntN(2) == 0 {
		m.killWithin(s.process, longestStart)
		s.start()
		return
	}
	source := m.sites[m.primary]
	m.killWithin(source.process, longestStart)
	m.loseWriters()
	source.start()
}
