package journal

import "testing"

func TestNearlyFull(t *testing.T) {
	for _, c := range []struct {
		bytes, bound uint64
		was, want    bool
	}{
		{0, 0, false, false},
		{1 << 40, 0, true, false},
		{1 << 63, 1<<64 - 1, false, false},
		{79, 100, false, false},
		{80, 100, false, true},
		{100, 100, false, true},
		{1 << 62, 1 << 62, false, true},
		{79, 100, true, true},
		{70, 100, true, true},
		{69, 100, true, false},
	} {
		if got := nearlyFull(c.bytes, c.bound, c.was); got != c.want {
			t.Errorf("%d of %d, before %v: %v", c.bytes, c.bound, c.was, got)
		}
	}
}
