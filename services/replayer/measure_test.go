package replayer

import (
	"errors"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
)

// Who spreads directories over nodes learns what a copy amounts to, and that it is complete.
func TestCopyIsMeasured(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 16<<20)
	o.random(100)
	o.settle()
	_, at, _ := west(t, t.TempDir(), o)
	var m *events.DirectoryMeasured
	subject := (&events.DirectoryMeasured{Directory: westID, Client: "west." + at.Node.Name}).Subject()
	sitetest.Eventually(t, "a complete copy is measured", func() bool {
		last, err := at.Bus.Last(t.Context(), events.StreamPositions, subject)
		if errors.Is(err, bus.ErrNotFound) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		fact, err := events.Unmarshal(last.Data)
		if err != nil {
			t.Fatal(err)
		}
		m = fact.(*events.DirectoryMeasured)
		return m.Complete
	})
	if m.Directory != westID || m.Node != at.Node.Name || m.Bytes == 0 || m.Bytes > 16<<20 {
		t.Errorf("%+v", m)
	}
}
