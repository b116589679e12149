package events

import (
	"encoding/json"
	"fmt"
	"time"
)

// Instant is a moment in Unix nanoseconds; JSON shows it in RFC 3339. Zero is no time.
type Instant int64

// InstantOf converts a time.
func InstantOf(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixNano())
}

// Time converts back.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i)).UTC()
}

// MarshalJSON writes RFC 3339 with nanoseconds, and null for no time.
func (i Instant) MarshalJSON() ([]byte, error) {
	if i == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(i.Time().Format(time.RFC3339Nano))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (i *Instant) UnmarshalJSON(b []byte) error {
	var t *time.Time
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	*i = 0
	if t == nil {
		return nil
	}
	if *i = InstantOf(*t); !i.Time().Equal(*t) {
		return fmt.Errorf("time %v is out of range", *t)
	}
	return nil
}

// Sub returns the time from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }
