package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tidemark/cmd/tidemark/internal/bench"
	"tidemark/internal/fault"
)

// Bounds of a measurement.
const (
	benchBlockMax    = 128 << 10
	benchDepthMax    = 4096
	benchSizeMin     = 16 << 20
	benchDurationMax = 10 * time.Minute
	benchRoundsMax   = 100
)

// benchConfig is how to measure.
type benchConfig struct {
	dir           string
	duration      time.Duration
	rounds, depth int
	block, size   size
}

type measurement func(context.Context, bench.Options) ([]bench.Result, error)

func newBench(c *cli) *cobra.Command {
	cmd := group("bench", "Measure this machine with the product's own measurements",
		c.newMeasurement("append", "How fast a directory takes writes, against bare JetStream publishing", 256, bench.Append),
		c.newMeasurement("write", "How fast writes go through NBD, and how long a flushed one takes", 32, bench.Write),
		c.newMeasurement("replay", "How fast a follower works off a backlog, against only reading it", 256, bench.Replay),
	)
	cmd.Long = `Each measurement sets up what it needs in a folder of its own and removes it.
Where there is a baseline, product and baseline run in turn, and the ratio is the
median of the rounds' ratios: compare ratios, not figures of different runs.`
	return cmd
}

func (c *cli) newMeasurement(name, short string, depth int, measure measurement) *cobra.Command {
	cfg := benchConfig{block: 4 << 10, size: 1 << 30}
	cmd := &cobra.Command{Use: name, Short: short, Args: takes(0, 0)}
	cmd.RunE = c.action(func(ctx context.Context, _ []string) error {
		if err := cfg.check(); err != nil {
			return err
		}
		results, err := measure(ctx, bench.Options{
			Dir: cfg.dir, Duration: cfg.duration, Rounds: cfg.rounds, Depth: cfg.depth,
			Size: uint64(cfg.size), Block: int(cfg.block), Log: c.logger(slog.LevelError),
		})
		if err != nil {
			return err
		}
		return c.show(results, func(t *table) { benchTable(t, results) })
	})
	f := cmd.Flags()
	f.StringVar(&cfg.dir, "dir", os.TempDir(), "`folder` on the disk to measure")
	f.DurationVar(&cfg.duration, "duration", 3*time.Second, "of one round of one side")
	f.IntVar(&cfg.rounds, "rounds", 5, "rounds of product and baseline")
	f.IntVar(&cfg.depth, "depth", depth, "writes in flight")
	f.Var(&cfg.block, "block", "size of one write")
	f.Var(&cfg.size, "size", "size of the image")
	return cmd
}

func (b benchConfig) check() error {
	switch {
	case b.block == 0 || b.block > benchBlockMax:
		return fault.New(fault.Usage, "--block is 1 to %d bytes", benchBlockMax)
	case b.size < benchSizeMin:
		return fault.New(fault.Usage, "--size is at least %d bytes", benchSizeMin)
	case b.depth < 1 || b.depth > benchDepthMax:
		return fault.New(fault.Usage, "--depth is 1 to %d", benchDepthMax)
	case b.rounds < 1 || b.rounds > benchRoundsMax:
		return fault.New(fault.Usage, "--rounds is 1 to %d", benchRoundsMax)
	case b.duration <= 0 || b.duration > benchDurationMax:
		return fault.New(fault.Usage, "--duration is up to %s", benchDurationMax)
	}
	return nil
}

func benchTable(t *table, results []bench.Result) {
	t.row("MEASUREMENT", "PRODUCT", "BASELINE", "RATIO", "UNIT", "BASELINE IS")
	for _, r := range results {
		baseline, ratio := "", ""
		if r.Baseline > 0 {
			baseline, ratio = fmt.Sprintf("%.0f", r.Baseline), fmt.Sprintf("%.2f", r.Ratio)
		}
		t.row(r.Name, fmt.Sprintf("%.0f", r.Product), baseline, ratio, r.Unit, r.What)
	}
}
