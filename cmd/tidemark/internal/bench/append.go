package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
	"tidemark/internal/nbd"
	"tidemark/internal/tail"
)

// rawEntries is how many blocks the raw baseline packs into one message.
const rawEntries = 32

// Append measures how fast a directory takes writes, without NBD, against a loop that
// does nothing but publish messages of 32 blocks to JetStream, one in flight. Each row
// compares equal promises: "logged", where an acknowledged write survives the process and
// is safe soon after, and "safe", where it survives power loss. The product also applies
// what it logs to an image.
func Append(ctx context.Context, o Options) ([]Result, error) {
	o, remove, err := workFolder(o)
	if err != nil {
		return nil, err
	}
	defer remove()
	p, err := newPlace(ctx, o, "product")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	dev, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, safe := range []bool{false, true} {
		raw, stop, err := newRaw(ctx, o, safe)
		if err != nil {
			return nil, err
		}
		name, what := "append, logged", "raw publish of 32 blocks a message, its log synced as often as the product's"
		if safe {
			name, what = "append, safe", "raw publish of 32 blocks a message, synced by the server (sync_always)"
		}
		r, err := paired(ctx, o, Result{Name: name, Unit: "writes/s", What: what},
			func(ctx context.Context) (float64, error) { return submit(ctx, o, dev, safe) },
			raw)
		stop()
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, dev.Close(ctx)
}

// newRaw returns a round of the baseline on a server of its own.
func newRaw(ctx context.Context, o Options, safe bool) (func(context.Context) (float64, error), func(), error) {
	mode := natsd.SyncFiles
	if safe {
		mode = natsd.SyncAlways
	}
	server, b, err := newServer(ctx, o, "raw-"+string(mode), mode)
	if err != nil {
		return nil, nil, err
	}
	stop := func() {
		b.Close()
		server.Stop()
	}
	log, err := b.OpenLog(ctx, events.Stream{Name: "RAW", Subjects: []string{"raw"}})
	if err != nil {
		stop()
		return nil, nil, err
	}
	var last uint64
	return func(ctx context.Context) (float64, error) {
		ctx, cancel := context.WithCancel(ctx)
		syncing := make(chan error, 1)
		go func() { syncing <- syncOften(ctx, log) }()
		n, err := publish(ctx, o, log, &last)
		cancel()
		return float64(n*rawEntries) / o.Duration.Seconds(), errors.Join(err, <-syncing)
	}, stop, nil
}

// syncOften syncs a log as a tail does whose clients never flush, until ctx ends.
func syncOften(ctx context.Context, log *bus.Log) error {
	tick := time.NewTicker(tail.SyncAgeMax)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := log.Sync(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func publish(ctx context.Context, o Options, log *bus.Log, last *uint64) (int, error) {
	msg := make([]byte, rawEntries*o.Block)
	n := 0
	for end := time.Now().Add(o.Duration); time.Now().Before(end); n++ {
		seq, err := log.Append(ctx, "raw", msg, *last)
		if err != nil {
			return n, err
		}
		*last = seq
	}
	return n, nil
}

// submit keeps Depth random writes in flight for one round and returns writes per
// second.
func submit(ctx context.Context, o Options, dev nbd.Device, safe bool) (float64, error) {
	block := make([]byte, o.Block)
	blocks := o.Size / uint64(o.Block)
	slots := make(chan error, o.Depth)
	for range o.Depth {
		slots <- nil
	}
	var writes int
	var wait sync.WaitGroup
	for end := time.Now().Add(o.Duration); time.Now().Before(end); writes++ {
		if err := <-slots; err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
		wait.Add(1)
		dev.Write(ctx, block, rand.Uint64N(blocks)*uint64(o.Block), safe, func(err error) {
			slots <- err
			wait.Done()
		})
	}
	wait.Wait()
	return float64(writes) / o.Duration.Seconds(), nil
}

func createImage(ctx context.Context, b *bus.Bus, size uint64) error {
	_, err := api.Call[api.Image](ctx, b.Conn(), api.HolderSubject(benchDirectory, api.ImageCreate),
		api.ImageCreateRequest{Image: "disk0", Size: size})
	return err
}
