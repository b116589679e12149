// Package bench holds the product's own measurements: what the bench command runs.
//
// Machines are noisy, so nothing here is an absolute claim: each measurement has a
// baseline that is measured in turn with it, round by round, and the figure to quote is
// the median of the rounds' ratios.
package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
	"tidemark/internal/nbd"
	"tidemark/internal/site"
	"tidemark/services/journal"
)

// Options of a measurement.
type Options struct {
	Dir      string        // where to work; a folder of its own is made in it and removed
	Duration time.Duration // of one round of one side
	Rounds   int
	Size     uint64 // of the image, in bytes
	Block    int    // bytes of one write
	Depth    int    // writes in flight
	Log      *slog.Logger
}

// Result is one measurement: the median of its rounds.
type Result struct {
	Name     string  `json:"name"`
	Product  float64 `json:"product"`  // in Unit
	Baseline float64 `json:"baseline"` // in Unit; zero where there is none
	Ratio    float64 `json:"ratio"`    // median of the rounds' product/baseline
	Unit     string  `json:"unit"`
	What     string  `json:"what"` // what the baseline is
}

// median of no rounds is zero.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// paired runs product and baseline in turn and takes the medians.
func paired(ctx context.Context, o Options, r Result, product, baseline func(context.Context) (float64, error)) (Result, error) {
	c := comparison{Result: r}
	for range o.Rounds {
		b, err := baseline(ctx)
		if err != nil {
			return r, fmt.Errorf("%s: baseline: %w", r.Name, err)
		}
		p, err := product(ctx)
		if err != nil {
			return r, fmt.Errorf("%s: %w", r.Name, err)
		}
		c.add(p, b)
	}
	return c.result(), nil
}

// comparison is a measurement with its rounds.
type comparison struct {
	Result
	ours, theirs, ratios []float64
}

func (c *comparison) add(product, baseline float64) {
	c.ours, c.theirs, c.ratios = append(c.ours, product), append(c.theirs, baseline), append(c.ratios, product/baseline)
}

// result takes the medians.
func (c *comparison) result() Result {
	c.Product, c.Baseline, c.Ratio = median(c.ours), median(c.theirs), median(c.ratios)
	return c.Result
}

// place is a site in this process with one directory and one image.
type place struct {
	server  *natsd.Server
	bus     *bus.Bus
	node    site.Node
	journal *journal.Service
	stop    func()
}

const (
	benchDirectory events.DirectoryID = "be0c4be0c4be0c40"
	benchImage                        = "bench/disk0"
	benchJournal                      = 64 << 30 // bytes: a measurement must not wait for room
)

// newServer runs a NATS server with a store of its own.
func newServer(ctx context.Context, o Options, name string, mode natsd.SyncMode) (*natsd.Server, *bus.Bus, error) {
	server, err := natsd.Start(ctx, natsd.Config{
		Name: name, Dir: filepath.Join(o.Dir, name, "nats"), Listen: "127.0.0.1:0", Sync: mode, Log: o.Log,
	})
	if err != nil {
		return nil, nil, err
	}
	b, err := bus.Connect(bus.Config{Name: name, Syncer: server, Log: o.Log, Dial: server.Dial, Options: []nats.Option{server.InProcess()}})
	if err != nil {
		server.Stop()
		return nil, nil, err
	}
	return server, b, nil
}

// newPlace runs a journal service that owns one directory with one image.
func newPlace(ctx context.Context, o Options, name string) (*place, error) {
	server, b, err := newServer(ctx, o, name, natsd.SyncFiles)
	if err != nil {
		return nil, err
	}
	p := &place{server: server, bus: b}
	inner, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	p.stop = func() {
		cancel()
		if p.journal != nil {
			<-ended //nolint:errcheck // the measurement has its figures
		}
		b.Close()
		server.Stop()
	}
	if err := b.EnsureStreams(ctx, events.SiteStreams()); err != nil {
		p.stop()
		return nil, err
	}
	self, err := site.Identify(ctx, b, name)
	if err != nil {
		p.stop()
		return nil, err
	}
	p.node = site.Node{Site: self, Name: "bench", Incarnation: "1", Data: filepath.Join(o.Dir, name), URL: server.URL()}
	p.journal = journal.New(journal.Deps{Bus: b, Node: p.node, Log: o.Log, JournalBytesMax: benchJournal})
	go func() { ended <- p.journal.Run(inner) }()
	if err := p.create(ctx, o.Size); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *place) create(ctx context.Context, size uint64) error {
	<-p.journal.Ready()
	_, err := p.journal.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Directory: benchDirectory, Role: events.Master}, Pool: "bench", Path: "/",
	})
	if err != nil {
		return err
	}
	return createImage(ctx, p.bus, size)
}

func (p *place) open(ctx context.Context) (nbd.Device, error) {
	return p.journal.Exports().Open(ctx, benchImage)
}

// workFolder makes a folder for one measurement; the returned function removes it.
func workFolder(o Options) (Options, func(), error) {
	dir, err := os.MkdirTemp(o.Dir, "tidemark-bench-")
	if err != nil {
		return o, nil, fmt.Errorf("make a folder to measure in: %w", err)
	}
	o.Dir = dir
	return o, func() {
		if err := os.RemoveAll(dir); err != nil {
			o.Log.Warn("folder of the measurement not removed", "error", err)
		}
	}, nil
}
