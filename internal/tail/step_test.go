package tail

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/events"
	"tidemark/internal/fault"
)

// spelt returns a queue of messages of 1 MiB: "T" is a tag, any other word a batch, each
// of whose letters is an entry: "w" stands for itself, "0/3" is a part.
func spelt(words string) []item {
	var queue []item
	for i, word := range strings.Fields(words) {
		it := item{seq: uint64(i) + 1, bytes: 1 << 20, message: &events.TagClaimed{}}
		if word != "T" {
			b := &events.Batch{Tag: 1}
			for _, entry := range strings.Split(word, ",") {
				var p events.Part
				if entry != "w" {
					p = events.Part{Index: uint32(entry[0] - '0'), Count: uint32(entry[2] - '0')}
				}
				b.Entries = append(b.Entries, events.Entry{Part: p})
			}
			it.message = b
		}
		queue = append(queue, it)
	}
	return queue
}

func TestNextStep(t *testing.T) {
	for _, c := range []struct {
		queue string
		want  step
	}{
		{"w w w", step{1, 1}},
		{"T w", step{1, 1}},
		{"0/2,1/2 w", step{1, 1}},
		{"0/3 1/3 2/3 w", step{3, 3}},
		{"w,0/3 1/3,2/3,w", step{2, 2}},
		{"0/2 1/2,0/2 1/2", step{3, 3}},                // one run begins where another ends
		{"0/3 1/3", step{2, 0}},                        // not decided
		{"0/3", step{1, 0}},                            //
		{"0/3 1/3 T", step{2, 3}},                      // broken off by a tag
		{"0/3 T", step{1, 2}},                          //
		{"0/3 1/3 w", step{2, 3}},                      // by another change
		{"0/3 1/3 0/3", step{2, 3}},                    // by the same change, tried again
		{"0/3 2/3", step{1, 2}},                        // by a hole
		{"0/3 1/4", step{1, 2}},                        // by a part of another
		{"1/3 2/3 w", step{2, 2}},                      // a run whose beginning is missing: void, but for the replica to say
		{strings.Repeat("0/2 ", 50) + "w", step{1, 2}}, // each breaks the one before
		{strings.Repeat("w ", 200), step{1, 1}},        // long, but no run
		{"0/3 T " + strings.Repeat("w ", 50), step{1, 2}},
	} {
		if got, err := nextStep(spelt(c.queue)); got != c.want || err != nil {
			t.Errorf("%.40q: %+v, %v", c.queue, got, err)
		}
	}
	other := spelt("0/2 1/2 w")
	other[1].message.(*events.Batch).Tag = 2
	if got, err := nextStep(other); got != (step{1, 2}) || err != nil {
		t.Errorf("goes on in another tag: %+v, %v", got, err)
	}
}

// TestEndlessRun: a run that no writer of ours makes does not fill the memory.
func TestEndlessRun(t *testing.T) {
	var queue []item
	for i := range uint32(events.PartsMax) {
		queue = append(queue, item{seq: uint64(i) + 1, bytes: 1 << 20, message: &events.Batch{Tag: 1, Entries: []events.Entry{
			{Part: events.Part{Index: i, Count: events.PartsMax}},
		}}})
		_, err := nextStep(queue)
		switch size := (i + 1) << 20; {
		case size <= RunBytesMax && err != nil:
			t.Fatalf("%d bytes: %v", size, err)
		case size > RunBytesMax:
			if fault.CodeOf(err) != fault.Corrupt || size > UnappliedBytesMax {
				t.Fatalf("%d bytes: %v", size, err)
			}
			return
		}
	}
}

// TestSteps takes step by step from queues that come message by message: no step ends
// inside a run that goes on behind it, and what is not taken is an unfinished run.
func TestSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"T", "w", "w,w", "0/2", "1/2", "0/3", "1/3", "2/3", "w,0/2", "1/2,w", "0/2,1/2"}), 1, 12).Draw(t, "words")
		all := spelt(strings.Join(words, " "))
		var queue []item
		for i, it := range all {
			queue = append(queue, it)
			for len(queue) > 0 {
				next, err := nextStep(queue)
				if err != nil {
					t.Fatal(err)
				}
				if next.decided == 0 {
					if next.messages != len(queue) || !open(it.message) {
						t.Fatalf("%v is not decided after message %d", words, i+1)
					}
					break
				}
				last := queue[next.messages-1]
				if at := int(last.seq); at < len(all) && open(last.message) && continues(last.message, all[at].message) {
					t.Fatalf("%v: a step ends inside a run, at message %d", words, at)
				}
				queue = queue[next.messages:]
			}
		}
	})
}

// TestNextSteps takes as much as is safe and the bound allows, in whole steps.
func TestNextSteps(t *testing.T) {
	for _, c := range []struct {
		queue string
		safe  uint64
		want  int
	}{
		{"w w w", 0, 0},
		{"w w w", 2, 2},
		{"w w w", 9, 3},
		{"w 0/3 1/3 2/3 w", 3, 1}, // the run is not safe as a whole
		{"w 0/3 1/3 2/3 w", 4, 4},
		{"w 0/3 1/3", 9, 1},   // it has not ended
		{"w 0/3 1/3 T", 3, 1}, // what breaks it off is not safe
		{"w 0/3 1/3 T", 4, 4}, // it is void
		{"0/2 0/2 1/2", 3, 3}, // one is void, one is not
		{strings.Repeat("w ", 100), 100, 8},
		{strings.Repeat("w ", 7) + "0/3 1/3 2/3 w w", 12, 10}, // as far as its step goes
	} {
		if got, err := nextSteps(spelt(c.queue), c.safe, 8<<20); got != c.want || err != nil {
			t.Errorf("%.40q, safe up to %d: %d, %v", c.queue, c.safe, got, err)
		}
	}
}

func TestSyncingTakesATenthOfTheTime(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: SyncAgeMin, 100 * time.Microsecond: SyncAgeMin, 2 * time.Millisecond: 18 * time.Millisecond,
		6 * time.Millisecond: SyncAgeMax, time.Second: time.Second,
	} {
		if got := syncAge(took); got != want {
			t.Errorf("after a sync of %s: %s, want %s", took, got, want)
		}
	}
}

func TestGatheredMessagesAreSyncedSoonerUnlessTheyAreABacklog(t *testing.T) {
	const took = time.Millisecond
	for _, c := range []struct {
		gathered  bool
		unapplied int
		want      time.Duration
	}{
		{false, 0, SyncAgeMin},
		{true, 0, took},
		{true, backlogBytes - 1, took},
		{true, backlogBytes, SyncAgeMin},
	} {
		tail := &Tail{cfg: Config{Gathered: c.gathered}, unapplied: c.unapplied}
		if got := tail.syncAge(took); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
