package replayer

import (
	"sync"
	"time"

	"tidemark/internal/api"
)

const (
	// meterWindow is the time over which a rate is taken, meterStep the least between two
	// readings of it.
	meterWindow = 5 * time.Second
	meterStep   = 250 * time.Millisecond
)

// meter counts what is copied, and how fast that goes.
type meter struct {
	mu      sync.Mutex
	counted api.Progress // without what progress computes
	began   time.Time
	// readings are of the last meterWindow, oldest first.
	readings []reading
}

// reading says how much was copied at a time.
type reading struct {
	at    time.Time
	bytes uint64
}

// newMeter returns a meter of a copying of so much, of which done objects are here already.
func newMeter(done, objects, bytes uint64, now time.Time) *meter {
	return &meter{
		counted:  api.Progress{Objects: done, ObjectsTotal: done + objects, BytesTotal: bytes},
		began:    now,
		readings: []reading{{now, 0}},
	}
}

// add counts more that was copied.
func (m *meter) add(objects, bytes uint64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counted.Objects += objects
	m.counted.Bytes += bytes
	last := &m.readings[len(m.readings)-1]
	if len(m.readings) > 1 && now.Sub(last.at) < meterStep {
		last.bytes = m.counted.Bytes
		return
	}
	m.readings = append(m.readings, reading{now, m.counted.Bytes})
	for len(m.readings) > 2 && now.Sub(m.readings[1].at) > meterWindow {
		m.readings = m.readings[1:]
	}
}

// progress tells how far the copying has come. Time that passes without anything lowers
// the rate.
func (m *meter) progress(now time.Time) *api.Progress {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.counted
	first := m.readings[0]
	for _, r := range m.readings[1:] {
		if now.Sub(r.at) > meterWindow {
			first = r
		}
	}
	if passed := now.Sub(first.at).Seconds(); passed > 0 {
		p.Rate = float64(p.Bytes-first.bytes) / passed
	}
	if p.Rate > 0 && p.BytesTotal > p.Bytes {
		p.SecondsLeft = float64(p.BytesTotal-p.Bytes) / p.Rate
	}
	return &p
}
