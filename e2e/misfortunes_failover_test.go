package e2e_test

import "strconv"

func uniqueNumber(n int) string { return strconv.Itoa(n) }

// failOver moves the directory in order, with its writers stopped before or told by the
// demotion. Nothing may be lost that was acknowledged.
func (m *misfortunes) failOver() {
	m.reunite()
	m.mend()
	to := m.follower()
	m.awaitServed(to)
	from := m.sites[m.primary]
	underWriters := m.random.IntN(2) == 0
	if !underWriters {
		m.stopWriting()
	}
	from.must("mirror", "demote", misfortuneDir)
	if underWriters {
		m.loseWriters()
	}
	awaitPromoted(m.t, m.sites[to])
	m.primary = to
	m.load.demandComplete(m.sites[to])
}

// awaitServed waits until a follower has a complete copy.
func (m *misfortunes) awaitServed(i int) {
	m.t.Helper()
	s := m.sites[i]
	await(m.t, patience, s.name+" has a complete copy", func() error {
		now, err := s.mirrorNow(misfortuneDir)
		if err != nil {
			return err
		}
		return unless(now.State == "replaying", "it is %s at %v: %s", now.State, now.Position, now.Error)
	})
}

// failOverByForce loses the primary, or the links to it, and promotes a follower by force.
// That one holds a prefix of the history, which goes on there; the old primary keeps all
// that it had acknowledged.
func (m *misfortunes) failOverByForce() {
	m.reunite()
	m.mend()
	to := m.follower()
	for _, i := range m.followers() {
		m.awaitServed(i)
	}
	old := m.primary
	m.lose(old, to)
	ends := map[int]position{}
	for _, i := range m.followers() {
		ends[i] = m.sites[i].stable(misfortuneDir).Received
	}
	m.promoteByForce(old, to, ends)
	m.write()
	m.writing.awaitWrites(m.random.Int64N(50))
}

// promoteByForce promotes a follower while the old primary is out of reach, and parts the
// history of what was written. ends are how far the followers' journals reach.
func (m *misfortunes) promoteByForce(old, to int, ends map[int]position) {
	m.t.Helper()
	s := m.sites[to]
	said := query[struct {
		Lost struct {
			Entries uint64 `json:"entries"`
			Known   bool   `json:"known"`
		} `json:"lost"`
	}](s, "mirror", "promote", "--force", misfortuneDir).Lost
	seen := m.load.look(s)
	verdict := seen.Verdict()
	if err := verdict.Prefix(); err != nil {
		m.t.Fatalf("%s, promoted by force: %v", s.name, err)
	}
	m.t.Logf("%s, promoted by force, lacks %d of %d acknowledged writes; said to be lost: %+v", s.name, verdict.Missing, verdict.Acknowledged, said)
	there := *m.load
	there.work = m.load.work.Fork(seen)
	_, common := s.lastTag(misfortuneDir)
	m.apart[old] = &refused{load: &there, common: common, entries: verdict.MissingData, said: said.Entries}
	m.primary, m.snaps = to, nil
	for i, end := range ends {
		if i != to && common.before(end) { // it has more of the old history than the new primary
			m.apart[i] = &refused{load: &there, common: common, entries: 1}
			m.count["third site ahead"]++
		}
	}
}

// lose takes the primary away: it is killed, or cut off and written to for a while. A site
// may have heard less of it than others.
func (m *misfortunes) lose(old, to int) {
	s := m.sites[old]
	if m.random.IntN(2) == 0 {
		m.around(to, (*link).silence)
		m.writing.awaitWrites(m.random.Int64N(60))
	}
	switch m.random.IntN(3) {
	case 0:
		s.kill()
		m.loseWriters()
		m.around(old, (*link).sever)
	case 1:
		m.around(old, (*link).sever)
		m.writing.awaitWrites(m.random.Int64N(60))
		m.stopWriting()
	default:
		m.around(old, (*link).silence)
		m.writing.awaitWrites(m.random.Int64N(60))
		m.stopWriting()
	}
	// What waits in a silent link can still arrive when it breaks: it does so before anybody
	// is promoted.
	m.around(old, (*link).sever)
	for ends, wire := range m.wires {
		if ends[0] != old && ends[1] != old {
			wire.heal()
		}
	}
}
