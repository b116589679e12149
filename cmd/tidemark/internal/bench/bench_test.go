package bench

import (
	"log/slog"
	"os"
	"testing"
	"time"
)

func TestAppendMeasures(t *testing.T) {
	o := Options{Dir: t.TempDir(), Duration: 200 * time.Millisecond, Rounds: 1, Size: 64 << 20, Block: 4096, Depth: 32, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if os.Getenv("BENCH") != "" {
		o.Duration, o.Rounds, o.Size = 3*time.Second, 5, 4<<30
		o.Depth = 256
	}
	results, err := Append(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		t.Logf("%+v", r)
		if r.Product <= 0 || r.Baseline <= 0 {
			t.Errorf("%s: nothing was measured", r.Name)
		}
	}
}

func TestReplayMeasures(t *testing.T) {
	o := Options{Dir: t.TempDir(), Rounds: 1, Size: 64 << 20, Block: 4096, Depth: 256, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if os.Getenv("BENCH") != "" {
		o.Rounds, o.Size = 3, 2<<30
	}
	results, err := Replay(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		t.Logf("%+v", r)
		if r.Product <= 0 || r.Baseline <= 0 {
			t.Errorf("%s: nothing was measured", r.Name)
		}
	}
}
