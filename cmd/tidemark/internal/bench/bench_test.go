package bench

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// Each measurement runs once, small: it must work, and every figure must be one.
func TestMeasurements(t *testing.T) {
	for name, measure := range map[string]func(context.Context, Options) ([]Result, error){
		"append": Append, "write": Write, "replay": Replay,
	} {
		t.Run(name, func(t *testing.T) {
			results, err := measure(t.Context(), Options{
				Dir: t.TempDir(), Duration: 100 * time.Millisecond, Rounds: 1,
				Size: 32 << 20, Block: 4096, Depth: 64, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if r.Product <= 0 || r.Baseline < 0 || r.What != "" && r.Ratio <= 0 {
					t.Errorf("nothing was measured: %+v", r)
				}
			}
		})
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median of 3, 1, 2 is %v", got)
	}
	if got := median(nil); got != 0 {
		t.Errorf("median of nothing is %v", got)
	}
}
