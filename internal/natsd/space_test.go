package natsd

import (
	"errors"
	"testing"
	"time"
)

func TestSpaceIsRefusedBeforeTheDiskIsFull(t *testing.T) {
	now := time.Unix(1000, 0)
	var free, total uint64
	var broken error
	s := &space{now: func() time.Time { return now }, free: func(string) (uint64, uint64, error) { return free, total, broken }}
	for _, c := range []struct {
		name        string
		free, total uint64
		broken      error
		want        error
	}{
		{"large disk, half full", 500 << 30, 1 << 40, nil, nil},
		{"large disk, the last GiB", 1<<30 - 1, 1 << 40, nil, ErrNoSpace},
		{"small disk, a tenth left", 100 << 20, 1 << 30, nil, nil},
		{"small disk, less than a twentieth left", 50 << 20, 1 << 30, nil, ErrNoSpace},
		{"unreadable", 0, 0, errors.ErrUnsupported, errors.ErrUnsupported},
	} {
		now = now.Add(spaceAge)
		free, total, broken = c.free, c.total, c.broken
		if err := s.check(); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestSpaceIsLookedAtNotForEveryMessage(t *testing.T) {
	now, looks := time.Unix(1000, 0), 0
	s := &space{now: func() time.Time { return now }, free: func(string) (uint64, uint64, error) {
		looks++
		return 1 << 40, 1 << 40, nil
	}}
	for range 1000 {
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
	}
	if looks != 1 {
		t.Errorf("the disk was looked at %d times at one moment", looks)
	}
}
