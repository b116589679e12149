package overview

import (
	"testing"

	"tidemark/internal/api"
)

func TestProgressOfACopying(t *testing.T) {
	for want, p := range map[string]api.Progress{
		"3 of 12 objects, 1.5MiB of 48MiB, 2MiB/s, 23s left": {
			Objects: 3, ObjectsTotal: 12, Bytes: 3 << 19, BytesTotal: 48 << 20, Rate: 2 << 20, SecondsLeft: 23.2,
		},
		"0 of 0 objects, 0B": {},
	} {
		if got := Copied(&p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
