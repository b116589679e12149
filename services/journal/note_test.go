package journal

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// journal 108: listeners are told once that a directory closes, before it is closed for its
// clients, and once that it is closed; a directory that was not open says neither.
func TestClosingIsTold(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *Service, d *directory, stop func()){
		"released": func(s *Service, d *directory, _ func()) { wantNil(t, s.stop(d)) },
		"stopped":  func(_ *Service, _ *directory, stop func()) { stop() },
	} {
		t.Run("journal 108: "+name, func(t *testing.T) {
			at := sitetest.Start(t, "east")
			s, stop := start(t, at)
			d := acquire(t, s)
			end(s, d, stop)
			stop()
			var turns []events.Lifecycle
			for _, n := range notes(t, at) {
				turns = append(turns, n.What)
				if n.What != events.Opened && n.Mark != d.life.tail.Marks().Committed && n.What != events.Closing {
					t.Errorf("%s at %+v", n.What, n.Mark)
				}
			}
			if len(turns) != 3 || turns[0] != events.Opened || turns[1] != events.Closing || turns[2] != events.Closed {
				t.Errorf("told of %q", turns)
			}
		})
	}
}
