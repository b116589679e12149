package tail

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
)

// replayed opens the replica again, replays and drains.
func (r *rig) replayed() error {
	r.t.Helper()
	r.open(owner)
	stop := r.run()
	err := r.tail.Replay(r.ctx())
	if err == nil {
		err = r.tail.Drain(r.ctx())
	}
	if runErr := stop(); err == nil && !errors.Is(runErr, context.Canceled) {
		err = runErr
	}
	if closeErr := r.replica.Close(); closeErr != nil {
		r.t.Error(closeErr)
	}
	return err
}

// history appends a tag, an image and n writes to the log alone.
func (r *rig) history(n uint64) {
	r.t.Helper()
	last := r.append(r.claim(1), 0)
	last = r.append(r.batch(0, created()), last)
	for i := range n {
		last = r.append(r.batch(0, written(i, 100)), last)
	}
}

// journal 69, journal 70, journal 71: everything behind the position is replayed, nothing when there is
// nothing, all when there is no position yet. journal 75: a hole is never passed over.
func TestReplay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history(20)
	if err := r.replayed(); err != nil {
		t.Fatal(err)
	}
	if got, seq := r.replica.Committed(); got != r.mark || seq != 22 {
		t.Errorf("committed %v at message %d", got, seq)
	}
	// From the checkpoint: what lies before may be gone, also the checkpoint's own message.
	last := uint64(22)
	for i := range uint64(5) {
		last = r.append(r.batch(0, written(i, 100)), last)
	}
	if err := r.log.Trim(r.ctx(), 23); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to replay
		if err := r.replayed(); err != nil {
			t.Fatal(err)
		}
		if got, seq := r.replica.Committed(); got != r.mark || seq != last {
			t.Errorf("committed %v at message %d", got, seq)
		}
	}
	// What is needed is gone.
	last = r.append(r.batch(0, written(1, 1)), last)
	last = r.append(r.batch(0, written(1, 1)), last)
	if err := r.log.Trim(r.ctx(), last); err != nil {
		t.Fatal(err)
	}
	if err := r.replayed(); !errors.Is(err, bus.ErrGap) {
		t.Errorf("replay over a gap: %v", err)
	}
}

func TestReplayOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.replayed(); err != nil {
		t.Fatal(err)
	}
}

// TestLostTail restores an older copy of the log's store under a replica that has come
// further.
func TestLostTail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		more uint64 // messages that are appended to the restored log
		want error
	}{
		{"ends before the checkpoint", 0, ErrLostTail},
		{"went on up to the checkpoint", 3, ErrDiverged},
		{"went on past the checkpoint", 5, ErrDiverged},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, old := t.TempDir(), t.TempDir()
			site := sitetest.StartIn(t, "east", dir)
			r := newRigOn(t, site, "JOURNAL_tail")
			r.history(5)
			site.Bus.Close()
			site.Server.Stop()
			copyTree(t, old+"/nats", dir+"/nats")
			r = again(t, r, sitetest.StartIn(t, "east", dir))
			mark, versions := r.mark, cloneVersions(r.versions)
			last := uint64(7)
			for i := range uint64(3) {
				last = r.append(r.batch(0, written(i, 10)), last)
			}
			if err := r.replayed(); err != nil {
				t.Fatal(err)
			}
			r = again(t, r, sitetest.StartIn(t, "east", old))
			r.mark, r.versions = mark, versions
			last = 7
			for i := range c.more {
				last = r.append(r.batch(0, written(i, 20)), last)
			}
			if err := r.replayed(); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func cloneVersions(v map[uint64]events.Position) map[uint64]events.Position {
	out := map[uint64]events.Position{}
	for k, p := range v {
		out[k] = p
	}
	return out
}

// again is a rig with its replica and history at another site.
func again(t *testing.T, r *rig, site *sitetest.Site) *rig {
	t.Helper()
	n := newRigOn(t, site, r.log.Name())
	n.dir, n.mark, n.versions = r.dir, r.mark, r.versions
	return n
}

// TestReplayRefusesStrangers: a message that does not continue the one before, or is
// none, is not handed to the replica. journal 73, journal 74, journal 78, journal 87: a wrong sequence, a hole, a
// tag that does not begin at its beginning, a duplicate and damage are each refused, not
// passed over.
func TestReplayRefusesStrangers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		msg  func(r *rig) []byte
		want error
	}{
		{"another chain", func(r *rig) []byte { r.mark.Chain++; return r.batch(0, written(1, 1)) }, ErrDiverged},
		{"a missing entry", func(r *rig) []byte { r.mark.Position++; return r.batch(0, written(1, 1)) }, ErrDiverged},
		{"the last message again", func(r *rig) []byte { return r.last }, ErrDiverged},
		{"a tag without its claim", func(r *rig) []byte {
			r.mark.Position = events.At(r.mark.Position.Tag()+1<<12, 0)
			return r.batch(0, written(1, 1))
		}, ErrDiverged},
		{"a tag that begins late", func(r *rig) []byte { r.claim(1); r.mark.Position++; return r.batch(0, written(1, 1)) }, ErrDiverged},
		{"a tag of another history", func(r *rig) []byte { r.mark.Chain++; return r.claim(2) }, ErrDiverged},
		{"garbage", func(*rig) []byte { return []byte("garbage") }, events.ErrCorrupt},
		{"a newer format", func(*rig) []byte { return append([]byte{0x93, 2, 0xa5}, "batch123456789"...) }, events.ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.history(3)
			good := r.mark
			r.append(c.msg(r), 5)
			if err := r.replayed(); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			if got, _ := r.replica.Committed(); got.Position > good.Position {
				t.Errorf("applied up to %v", got.Position)
			}
		})
	}
}

// journal 72, journal 83: the entries of several tags are replayed in their order; a newer tag
// ends the one before wherever that stands.
func TestReplayOfSeveralTags(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history(3)
	last := uint64(5)
	for site := range uint16(3) {
		last = r.append(r.claim(site+1), last)
		last = r.append(r.batch(0, written(uint64(site), 10), written(9, 10)), last)
		last = r.append(r.claim(site+1), last) // a tag without entries
	}
	if err := r.replayed(); err != nil {
		t.Fatal(err)
	}
	if got, seq := r.replica.Committed(); got != r.mark || seq != last || len(r.replica.Tags()) != 7 {
		t.Errorf("committed %v at message %d, %d tags", got.Position, seq, len(r.replica.Tags()))
	}
}

// TestFind looks for the continuation of histories that stand at different points.
func TestFind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	marks := []events.Mark{{}} // before each message
	last := uint64(0)
	put := func(msg []byte) {
		last = r.append(msg, last)
		marks = append(marks, r.mark)
	}
	put(r.claim(1))
	put(r.batch(0, created(), written(0, 1), written(1, 1)))
	for i := range uint64(10) {
		put(r.batch(0, written(i, 10), written(i, 10)))
		if i%4 == 3 {
			put(r.claim(1))
		}
	}
	ahead, forked := r.mark, r.mark
	ahead.Position++
	forked.Chain++
	inside := marks[2]
	inside.Position--
	old := marks[3]
	old.Chain++
	cases := []struct {
		name string
		mark events.Mark
		want uint64
		err  error
	}{
		{"equal", r.mark, last + 1, nil},
		{"new", events.Mark{}, 1, nil},
		{"ahead", ahead, last + 1, ErrDiverged},
		{"diverged at the end", forked, last + 1, ErrDiverged},
		{"diverged before", old, 4, ErrDiverged},
		{"inside of a message", inside, 2, ErrDiverged},
		{"far ahead", events.Mark{Position: Everything}, last + 1, ErrDiverged},
	}
	for i, m := range marks {
		cases = append(cases, struct {
			name string
			mark events.Mark
			want uint64
			err  error
		}{fmt.Sprint("behind, at message ", i), m, uint64(i) + 1, nil})
	}
	for _, c := range cases {
		if got, err := Find(r.ctx(), r.log, c.mark); got != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
	if err := r.log.Trim(r.ctx(), 5); err != nil {
		t.Fatal(err)
	}
	stranger := marks[4]
	stranger.Chain++
	for _, c := range []struct {
		name string
		mark events.Mark
		want uint64
		err  error
	}{
		{"equal", r.mark, last + 1, nil},
		{"just before the first", marks[4], 5, nil},
		{"there, with another history", stranger, 5, ErrDiverged},
		{"trimmed", marks[3], 5, ErrTrimmed},
		{"new", events.Mark{}, 5, ErrTrimmed},
	} {
		if got, err := Find(r.ctx(), r.log, c.mark); got != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("trimmed log: %s: %d, %v", c.name, got, err)
		}
	}
}

// TestFindInAPromotedLog: the log of a follower that was promoted begins where its own
// copy stood, with a tag that names its predecessor.
func TestFindInAPromotedLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got, err := Find(r.ctx(), r.log, events.Mark{Position: 77}); got != 1 || err != nil {
		t.Errorf("empty log: %d, %v", got, err)
	}
	east := events.Mark{Position: events.At(0x1001, 500), Chain: 7, Entries: 500, Bytes: 9000}
	r.mark = east
	r.append(r.claim(2), 0)
	r.append(r.batch(0, created()), 1)
	other, behind, ahead := east, east, east
	other.Chain++
	behind.Position--
	ahead.Position++
	for _, c := range []struct {
		name string
		mark events.Mark
		want uint64
		err  error
	}{
		{"the predecessor", east, 1, nil},
		{"the predecessor with another chain", other, 1, ErrDiverged},
		{"behind", behind, 1, ErrTrimmed},
		{"what the new owner never saw", ahead, 1, ErrDiverged},
		{"equal", r.mark, 3, nil},
	} {
		if got, err := Find(r.ctx(), r.log, c.mark); got != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}

// A log that was put back to an older state is noticed even where it still holds all that
// was checkpointed: the replica has noted how far it was safe; rivals 13.
func TestLogOlderThanWhatWasSafe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.noteSafe = true
	r.history(5)
	if err := r.replayed(); err != nil {
		t.Fatal(err)
	}
	r.open(owner)
	if err := r.replica.NoteSafe(events.Mark{Position: r.mark.Position + 1, Chain: 7}, 8); err != nil {
		t.Fatal(err)
	}
	if err := r.replica.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.replayed(); !errors.Is(err, ErrLostTail) {
		t.Fatalf("replay of a log that ends one message too early: %v", err)
	}
	r.append(r.batch(0, written(1, 1)), 7)
	if err := r.replayed(); err != nil {
		t.Fatalf("replay of a log that reaches what was noted: %v", err)
	}
	if noted, seq := r.replica.NotedSafe(); !noted.Same(r.mark) || seq != 8 {
		t.Errorf("noted %v at message %d, safe is %v at message 8", noted, seq, r.mark)
	}
}
