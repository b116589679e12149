package e2e_test

import (
	"fmt"
	"strings"
)

// reunite brings the sites back whose history has parted: each keeps what it has, says so,
// and gives it up when it is told to.
func (m *misfortunes) reunite() {
	m.t.Helper()
	parted := m.partedSites()
	if len(parted) == 0 {
		return
	}
	m.mend()
	var histories []*refused
	for _, i := range parted {
		m.giveUp(m.sites[i], m.apart[i])
		histories = append(histories, m.apart[i])
	}
	clear(m.apart)
	m.mend()
	for n, i := range parted {
		m.awaitFollowing(m.primary, i, misfortuneDir)
		if histories[n].kept {
			m.judgeKept(m.sites[i], histories[n])
		}
	}
	m.excuse(append(parted, m.primary)...)
}

// giveUp demotes a site whose history has parted, if it is still a primary. Both sides say so
// where anything is refused. It keeps all that it has, and follows when it is told to give it
// up.
func (m *misfortunes) giveUp(s *site, r *refused) {
	m.t.Helper()
	if s.mirror(misfortuneDir).Role == "master" {
		r.whole = true
		m.judgeRefused(s, r)
		if r.entries > 0 {
			m.awaitSplit(s, r)
			m.awaitSplit(m.sites[m.primary], r)
		}
		s.must("mirror", "demote", misfortuneDir)
	}
	if now := m.awaitSplit(s, r); now.State == "replaying" {
		m.count["nothing to give up"]++
		return
	}
	m.judgeRefused(s, r)
	m.startOver(s, r)
}

// judgeRefused judges a history that was cut off, at its site: everything that a former
// primary has acknowledged, or a prefix of it.
func (m *misfortunes) judgeRefused(s *site, r *refused) {
	m.t.Helper()
	verdict := r.judge(s)
	err := verdict.Prefix()
	if r.whole {
		err = verdict.Complete()
	}
	if err != nil {
		m.t.Fatalf("%s, which is apart: %v", s.name, err)
	}
}

// awaitSplit waits until a site reports that its history and another one have parted, and
// where; or, where nothing is refused, until it follows.
func (m *misfortunes) awaitSplit(s *site, r *refused) mirrorState {
	m.t.Helper()
	var now mirrorState
	await(m.t, patience, s.name+" reports a split brain", func() (err error) {
		now, err = s.mirrorNow(misfortuneDir)
		switch {
		case err != nil:
			return err
		case now.State == "replaying" && r.entries == 0:
			return nil
		case now.State != "split_brain" || now.Split == nil:
			return fmt.Errorf("it is %s at %v: %s", now.State, now.Position, now.Error)
		}
		refused := now.Split.Ours
		if s == m.sites[m.primary] {
			refused = now.Split.Theirs
		}
		return unless(now.Split.Common == r.common && refused.Entries >= max(uint64(r.entries), r.said) && len(now.Split.Resolve) > 0,
			"histories have parted at %v, at least %d entries are refused, %d were reported as lost; it says: %+v",
			r.common, r.entries, r.said, *now.Split)
	})
	return now
}

// startOver has a site give up what it holds and follow the primary: by a resync, with either
// side killed in the middle of it or not, or by making its copy anew.
func (m *misfortunes) startOver(s *site, r *refused) {
	m.t.Helper()
	if m.random.IntN(4) == 0 {
		s.copyAnew(misfortuneDir)
		return
	}
	args := []string{"mirror", "resync", misfortuneDir}
	if r.kept = m.random.IntN(2) == 0; r.kept {
		args = append(args, "--keep-refused")
	}
	m.count["resync"]++
	s.must(args...)
	switch m.random.IntN(3) {
	case 0:
		m.killWithin(s.process, longestStart)
		s.start()
	case 1:
		source := m.sites[m.primary]
		m.stopWriting()
		m.killWithin(source.process, longestStart)
		source.start()
		m.write()
	}
}

// judgeKept judges the images in which a site has kept what it was made to give up, and
// removes them.
func (m *misfortunes) judgeKept(s *site, r *refused) {
	m.t.Helper()
	kept := map[int]string{}
	for _, shown := range query[[]shownImage](s, "image", "list", misfortuneDir) {
		for i, image := range r.images {
			for _, name := range shown.Names {
				if strings.HasPrefix(misfortuneDir+"/"+name, image+".conflict-") {
					kept[i] = misfortuneDir + "/" + name
				}
			}
		}
	}
	if len(kept) == 0 {
		m.t.Errorf("%s was told to keep what it gives up, and shows none of it", s.name)
	}
	if len(kept) == len(r.images) { // an image that had not changed is not kept
		m.count["kept image judged"]++
		v := r.work.Verify()
		for i, name := range kept {
			s.contents(name, func(offset uint64, p []byte) { v.Observe(i, offset, p) })
		}
		verdict := v.Verdict()
		if err := verdict.Prefix(); err != nil || r.whole && verdict.Missing > 0 {
			m.t.Errorf("%s has kept what it gave up, without %d writes: %v", s.name, verdict.Missing, err)
		}
	}
	for _, name := range kept {
		s.mustUnused("image", "remove", name)
	}
}
