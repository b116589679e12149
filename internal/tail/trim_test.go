package tail

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/natsd"
	"tidemark/internal/sitetest"
)

// journal 6, journal 8, journal 63, journal 64; for J11 and J12: what is cut only ever grows, never past a
// client or the copy's own checkpoint, and a client that was disconnected holds nothing.
//
// TestTrim fills a log with more than 100 MiB while a slow client stands at its
// beginning, somewhere in the middle, and is disconnected. What it or the replica needs
// is never cut; the log shrinks as soon as they do not, without another write.
func TestTrim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	positions := NewPositions()
	close(positions.known)
	said := uint64(0)
	client := func(p events.Position, state events.ClientState) {
		said++
		positions.Note(said, events.PositionCommitted{Directory: "d", Client: "west.n", State: state, Mark: events.Mark{Position: p}})
	}
	r.open(func(cfg *Config) {
		cfg.TrimBelow = func() events.Position { return positions.Needed("d", "east.n", everybody) }
	})
	client(1, events.ClientConnected)
	r.run()
	r.begin()
	const messages = 230 // of 512 KiB
	marks := map[uint64]events.Mark{}
	for i := range uint64(messages) {
		r.put(r.batch(0, written(i, events.PayloadMax), written(i, events.PayloadMax)))
		marks[r.tail.LastSequence()] = r.mark
	}
	r.level("committed", committed)
	end := r.tail.LastSequence()
	if st := r.state(); st.First != 1 || st.Bytes < 100<<20 {
		t.Fatalf("the client that holds the log is not heeded: %+v", st)
	}
	half := marks[end/2]
	client(half.Position, events.ClientConnected)
	sitetest.Eventually(t, "trimmed", func() bool { return r.state().First > 1 })
	st := r.state()
	if cut := marks[st.First-1]; cut.Position > half.Position {
		t.Errorf("cut at %v, the client stands at %v", cut.Position, half.Position)
	}
	if held := marks[st.First-1]; half.Bytes-held.Bytes > natsd.TrimSlack {
		t.Errorf("%d bytes are kept that nobody needs", half.Bytes-held.Bytes)
	}
	client(half.Position, events.ClientDisconnected)
	sitetest.Eventually(t, "trimmed to the checkpoint", func() bool { return r.state().First > st.First })
	st = r.state()
	if behind := r.mark.Bytes - marks[st.First-1].Bytes; behind < natsd.TrimSlack || st.Bytes > 2*natsd.TrimSlack {
		t.Errorf("cut %d bytes behind the checkpoint; %d bytes are left", behind, st.Bytes)
	}
	// What is left is what a replay needs.
	if err := r.replayedFrom(end); err != nil {
		t.Error(err)
	}
}

func (r *rig) state() (st struct{ First, Last, Bytes uint64 }) {
	r.t.Helper()
	s, err := r.log.State(r.ctx())
	if err != nil {
		r.t.Fatal(err)
	}
	st.First, st.Last, st.Bytes = s.First, s.Last, s.Bytes
	return st
}

// replayedFrom demands that a copy which stands at the end finds itself in the log.
func (r *rig) replayedFrom(end uint64) error {
	r.t.Helper()
	got, err := Find(r.ctx(), r.log, r.mark)
	if err == nil && got != end+1 {
		r.t.Errorf("the end is found at %d of %d", got, end+1)
	}
	return err
}

// TestNothingToTrim: without somebody to ask nothing is cut.
func TestNothingToTrim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	if r.tail.trimmer.moved() {
		t.Error("somebody moved")
	}
	if err := r.tail.trimmer.trim(t.Context(), events.Mark{Bytes: 1 << 40}); err != nil {
		t.Error(err)
	}
}
