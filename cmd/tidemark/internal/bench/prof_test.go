package bench

import (
	"log/slog"
	"os"
	"testing"
	"time"
)

func TestProf(t *testing.T) {
	f := Append
	if os.Getenv("W") != "" {
		f = Write
	}
	r, err := f(t.Context(), Options{Dir: "/tmp", Duration: 4 * time.Second, Rounds: 1, Size: 1 << 30, Block: 4096, Depth: 64, Log: slog.New(slog.DiscardHandler)})
	t.Log(r, err)
}
