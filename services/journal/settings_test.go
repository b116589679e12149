package journal

import (
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

func TestDue(t *testing.T) {
	hold := func(change func(*Settings)) Settings {
		s := DefaultSettings()
		s.FlushAge = time.Second
		change(&s)
		return s
	}
	for _, c := range []struct {
		name     string
		settings Settings
		entries  int
		bytes    int
		age      time.Duration
		due      bool
		wait     time.Duration
	}{
		{"journal 50: by count, one of two", hold(func(s *Settings) { s.FlushEntries = 2 }), 1, 100, 0, false, time.Second},
		{"journal 50: by count, two of two", hold(func(s *Settings) { s.FlushEntries = 2 }), 2, 100, 0, true, 0},
		{"journal 51: by bytes, one of 7", hold(func(s *Settings) { s.FlushBytes = 10 }), 1, 7, 0, false, time.Second},
		{"journal 51: by bytes, two of 7", hold(func(s *Settings) { s.FlushBytes = 10 }), 2, 14, 0, true, 0},
		{"journal 52: by age, not yet", hold(func(*Settings) {}), 9, 900, 900 * time.Millisecond, false, 100 * time.Millisecond},
		{"journal 52: by age", hold(func(*Settings) {}), 1, 1, time.Second, true, 0},
		{"nothing is held back", DefaultSettings(), 1, 1, 0, true, 0},
	} {
		if due, wait := c.settings.due(c.entries, c.bytes, c.age); due != c.due || wait != c.wait {
			t.Errorf("%s: %v after %v", c.name, due, wait)
		}
	}
	for _, c := range []struct {
		age            time.Duration
		writethrough   bool
		flushed, holds bool
	}{
		{0, false, true, false},
		{1, false, false, true},
		{1, true, false, false}, // journal 111
		{1, true, true, true},
	} {
		s := Settings{FlushAge: c.age, WritethroughUntilFlush: c.writethrough}
		if got := s.holdsBack(c.flushed); got != c.holds {
			t.Errorf("%+v: holds back %v", c, got)
		}
	}
}

func TestSettingsCheck(t *testing.T) {
	wantNil(t, DefaultSettings().Check())
	for _, change := range []func(*Settings){
		func(s *Settings) { s.FlushBytes = 0 },
		func(s *Settings) { s.FlushBytes = events.BatchBytesMax + 1 },
		func(s *Settings) { s.FlushEntries = -1 },
		func(s *Settings) { s.FlushAge = -1 },
		func(s *Settings) { s.FlushAge = time.Hour },
		func(s *Settings) { s.MaxInFlight = 0 },
		func(s *Settings) { s.MaxInFlight = 2 },
		func(s *Settings) { s.PayloadBytes = 511 },
		func(s *Settings) { s.PayloadBytes = events.PayloadMax + 1 },
	} {
		s := DefaultSettings()
		change(&s)
		if err := s.Check(); fault.CodeOf(err) != fault.Usage {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// holding starts a directory whose messages are held back for a minute.
func holding(t *testing.T, at *sitetest.Site, change func(*Settings)) (*Service, *directory, func()) {
	t.Helper()
	s, stop := with(t, at, func(d *Deps) {
		d.Settings = DefaultSettings()
		d.Settings.FlushAge, d.Settings.WritethroughUntilFlush = time.Minute, false
		change(&d.Settings)
	})
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	return s, d, stop
}

// messagesOfWrites returns in which message each write of the log stands.
func messagesOfWrites(t *testing.T, at *sitetest.Site, d *directory) []int {
	t.Helper()
	var all []int
	for _, e := range journalOf(t, at, d) {
		if _, ok := e.Event.(events.Written); ok {
			all = append(all, e.message)
		}
	}
	return all
}

func TestHeldBackMessages(t *testing.T) {
	t.Parallel()
	data := pattern(1, 4096)
	t.Run("journal 49, journal 50: the second write sends both", func(t *testing.T) {
		at := sitetest.Start(t, "east")
		s, d, _ := holding(t, at, func(s *Settings) { s.FlushEntries = 2 })
		dev := open(t, s, "vms/prod/disk0")
		a, b := later(t, dev, data, 0, false), later(t, dev, data, 4096, false)
		wantNil(t, <-a, <-b)
		if m := messagesOfWrites(t, at, d); len(m) != 2 || m[0] != m[1] {
			t.Errorf("the writes are in messages %v", m)
		}
	})
	t.Run("journal 52: age sends it", func(t *testing.T) {
		at := sitetest.Start(t, "east")
		s, _, _ := holding(t, at, func(s *Settings) { s.FlushAge = 20 * time.Millisecond })
		write(t, open(t, s, "vms/prod/disk0"), data, 0, false)
	})
	t.Run("journal 43, journal 54, journal 59: a flush sends everything before it", func(t *testing.T) {
		at := sitetest.Start(t, "east")
		s, d, _ := holding(t, at, func(*Settings) {})
		dev := open(t, s, "vms/prod/disk0")
		a, b := later(t, dev, data, 0, false), later(t, dev, data, 4096, false)
		flush(t, dev)
		wantNil(t, <-a, <-b)
		if m := messagesOfWrites(t, at, d); len(m) != 2 || m[0] != m[1] {
			t.Errorf("the writes are in messages %v", m)
		}
		flush(t, dev) // journal 47: nothing is left to wait for
	})
	t.Run("journal 54: a forced write sends what is before it", func(t *testing.T) {
		at := sitetest.Start(t, "east")
		s, _, _ := holding(t, at, func(*Settings) {})
		dev := open(t, s, "vms/prod/disk0")
		a, b := later(t, dev, data, 0, false), later(t, dev, data, 4096, true)
		wantNil(t, <-b, <-a)
	})
	t.Run("journal 55: a close sends what is held back", func(t *testing.T) {
		at := sitetest.Start(t, "east")
		s, _, stop := holding(t, at, func(*Settings) {})
		a := later(t, open(t, s, "vms/prod/disk0"), data, 4096, false)
		stop()
		wantNil(t, <-a)
		s, _ = start(t, at)
		acquire(t, s)
		if got := read(t, open(t, s, "vms/prod/disk0"), 4096, len(data)); string(got) != string(data) {
			t.Error("it is not there after a restart")
		}
	})
	t.Run("journal 111: nothing is held back before the first flush", func(t *testing.T) {
		at := sitetest.Start(t, "east")
		s, d, _ := holding(t, at, func(s *Settings) { s.WritethroughUntilFlush, s.FlushEntries = true, 2 })
		dev := open(t, s, "vms/prod/disk0")
		select {
		case err := <-later(t, dev, data, 0, false):
			wantNil(t, err)
		case <-time.After(55 * time.Second): // FlushAge is longer
			t.Fatal("the first write is held back")
		}
		flush(t, dev)
		a, b := later(t, dev, data, 4096, false), later(t, dev, data, 8192, false)
		wantNil(t, <-a, <-b)
		if m := messagesOfWrites(t, at, d); len(m) != 3 || m[1] != m[2] {
			t.Errorf("the writes are in messages %v", m)
		}
	})
}

// journal 61: while one message is under way what arrives gathers in the next.
func TestOneMessageInFlight(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	var gate sync.RWMutex
	guarded(t, at, func() error {
		gate.RLock()
		defer gate.RUnlock()
		return nil
	}, nil)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	gate.Lock()
	results := []<-chan error{later(t, dev, pattern(0, 4096), 0, false)}
	w := d.life.writer
	sitetest.Eventually(t, "the first message is under way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.queue) == 0 && w.sealing
	})
	for i := range 9 {
		results = append(results, later(t, dev, pattern(0, 4096), uint64(i)*4096, false))
	}
	gate.Unlock()
	for _, done := range results {
		wantNil(t, <-done)
	}
	m := messagesOfWrites(t, at, d)
	if len(m) != 10 || m[0] == m[1] || m[1] != m[9] {
		t.Errorf("the writes are in messages %v", m)
	}
}

// journal 117, journal 173, journal 188: a flush leaves one mark, which rides with what follows or is
// sent by itself; flushes without a change between them are one, and one before any
// change is none.
func TestFlushedMarker(t *testing.T) {
	t.Parallel()
	at, s, d, stop := owning(t, 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	flush(t, dev)
	write(t, dev, pattern(1, 4096), 0, false)
	flush(t, dev)
	flush(t, dev)
	flushes := func() (n int) {
		for _, e := range journalOf(t, at, d) {
			if _, ok := e.Event.(events.Flushed); ok {
				n++
			}
		}
		return n
	}
	sitetest.Eventually(t, "the mark is sent by itself", func() bool { return flushes() == 1 })
	flush(t, dev) // nothing has changed
	write(t, dev, pattern(1, 4096), 0, false)
	flush(t, dev)
	write(t, dev, pattern(2, 4096), 0, true)
	all := journalOf(t, at, d)
	n := len(all)
	if _, ok := all[n-2].Event.(events.Flushed); !ok || flushes() != 2 {
		t.Errorf("%d marks, and %T before the last write", flushes(), all[n-2].Event)
	}
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	if got := read(t, open(t, s, "vms/prod/disk0"), 0, 4096); string(got) != string(pattern(2, 4096)) {
		t.Error("the last write is lost")
	}
}
