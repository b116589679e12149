package journal

import (
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/tail"
)

// Settings say how changes are gathered into messages of the log (group commit) and how
// large they may be. While one message is under way the changes that arrive gather in
// the next, whatever the settings; holding a message back on top of that is for logs
// that charge by the message.
type Settings struct {
	// FlushBytes closes a message that has become as large, in bytes; 1 to 512 KiB.
	FlushBytes int
	// FlushEntries sends a message that is held back when it has as many entries; 0 is
	// no such bound.
	FlushEntries int
	// FlushAge is how long a message is held back for more entries to come; 0: it goes
	// out at once when nothing is under way. A message that somebody waits for to be
	// safe is never held back.
	FlushAge time.Duration
	// WritethroughUntilFlush holds nothing back before a client has flushed for the
	// first time: one that never does may not know how.
	WritethroughUntilFlush bool
	// MaxInFlight is how many messages may be under way: 1, which the fence needs.
	MaxInFlight int
	// PayloadBytes is the most data that one entry carries, in bytes; 512 to 256 KiB. A
	// longer write becomes several entries that are applied together.
	PayloadBytes int
	// CheckpointAge is how long, CheckpointBytes how much of the log may be applied to the
	// image without a checkpoint: a restart replays it. 100 ms to 10 minutes, 1 MiB or more.
	CheckpointAge   time.Duration
	CheckpointBytes uint64
}

const (
	payloadBytesMin = 512
	flushAgeMax     = time.Minute

	checkpointAgeMin, checkpointAgeMax = 100 * time.Millisecond, 10 * time.Minute
	checkpointBytesMin                 = 1 << 20
)

// DefaultSettings returns what [Deps] without settings get.
func DefaultSettings() Settings {
	return Settings{
		FlushBytes: events.BatchBytesMax, WritethroughUntilFlush: true, MaxInFlight: 1, PayloadBytes: events.PayloadMax,
		CheckpointAge: tail.CheckpointAge, CheckpointBytes: tail.CheckpointBytes,
	}
}

// Check returns an error with the code [fault.Usage] for settings out of their ranges.
func (s Settings) Check() error {
	switch {
	case s.FlushBytes < 1 || s.FlushBytes > events.BatchBytesMax:
		return fault.New(fault.Usage, "a message of the journal is closed at 1 to %d bytes, not %d", events.BatchBytesMax, s.FlushBytes)
	case s.FlushEntries < 0:
		return fault.New(fault.Usage, "a message of the journal cannot be sent at %d entries", s.FlushEntries)
	case s.FlushAge < 0 || s.FlushAge > flushAgeMax:
		return fault.New(fault.Usage, "a message of the journal is held back up to %v, not %v", flushAgeMax, s.FlushAge)
	case s.MaxInFlight != 1:
		return fault.New(fault.Usage, "one message of a journal is under way at a time, not %d: what keeps a former owner out needs that", s.MaxInFlight)
	case s.PayloadBytes < payloadBytesMin || s.PayloadBytes > events.PayloadMax:
		return fault.New(fault.Usage, "an entry of the journal carries %d to %d bytes, not %d", payloadBytesMin, events.PayloadMax, s.PayloadBytes)
	case s.CheckpointAge < checkpointAgeMin || s.CheckpointAge > checkpointAgeMax:
		return fault.New(fault.Usage, "a checkpoint is taken every %v to %v, not %v", checkpointAgeMin, checkpointAgeMax, s.CheckpointAge)
	case s.CheckpointBytes < checkpointBytesMin:
		return fault.New(fault.Usage, "a checkpoint is taken every %d bytes of the journal or more, not %d", checkpointBytesMin, s.CheckpointBytes)
	}
	return nil
}

// holdsBack reports whether messages are held back for more entries to come.
func (s Settings) holdsBack(flushed bool) bool {
	return s.FlushAge > 0 && (flushed || !s.WritethroughUntilFlush)
}

// due says whether a message goes out now, and otherwise after how long.
func (s Settings) due(entries, bytes int, age time.Duration) (bool, time.Duration) {
	if bytes >= s.FlushBytes || s.FlushEntries > 0 && entries >= s.FlushEntries || age >= s.FlushAge {
		return true, 0
	}
	return false, s.FlushAge - age
}
