package replayer

import (
	"testing"
	"testing/synctest"

	"tidemark/events"
)

// A backlog of an earlier tag than the source's is kept although its claim has not come: it
// may be larger than the inbox. A tag that the source claims later settles nothing of what
// was read before.
func TestInboxOfABacklogBeforeALaterTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		earlier := func(entry uint32) received {
			return received{
				message: &events.Batch{Tag: 5, First: entry, End: events.Mark{Position: events.At(5, entry)}},
				data:    make([]byte, inboxBytesMax),
			}
		}
		var b inbox // each message fills it
		b.reset(events.Mark{Position: events.At(5, 7)})
		b.begin(events.At(9, 3))
		for entry := uint32(8); entry < 12; entry++ {
			if err := b.put(t.Context(), earlier(entry)); err != nil {
				t.Fatal(err)
			}
			if _, err := b.first(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.drop()
		}
		if b.allow(events.At(9, 4)) {
			t.Error("a claim that was safe before anything was read is missed")
		}
		if !b.allow(events.At(13, 1)) {
			t.Error("a claim that came while it was read is not waited for")
		}
	})
}
