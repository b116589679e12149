package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tidemark/internal/nbd"
	"tidemark/internal/nbdclient"
)

// Write measures writes through NBD over a unix socket: how many a second with Depth in
// flight, and how long one takes that is flushed before the next begins. There is no
// baseline here: NBD servers without a journal are outside programs, which the scripts
// in e2e measure in turn with this one.
func Write(ctx context.Context, o Options) ([]Result, error) {
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
	listener, err := net.Listen("unix", filepath.Join(o.Dir, "nbd"))
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- nbd.New(nbd.Config{Exports: p.journal.Exports(), Log: o.Log}).Serve(serving, listener)
	}()
	results, err := writeThrough(ctx, o, listener.Addr().String())
	stop()
	if serveErr := <-ended; err == nil {
		err = serveErr
	}
	return results, err
}

func writeThrough(ctx context.Context, o Options, socket string) ([]Result, error) {
	conn, err := nbdclient.Dial(ctx, "unix", socket, benchImage)
	if err != nil {
		return nil, err
	}
	var rates, latencies []float64
	for range o.Rounds {
		rate, err := deep(ctx, o, conn)
		if err != nil {
			return nil, err
		}
		latency, err := flushed(ctx, o, conn)
		if err != nil {
			return nil, err
		}
		rates, latencies = append(rates, rate), append(latencies, latency)
	}
	return []Result{
		{Name: fmt.Sprintf("write, %d in flight", o.Depth), Product: median(rates), Unit: "writes/s"},
		{Name: "write and flush, one at a time, median", Product: median(latencies), Unit: "us"},
	}, conn.Close(ctx)
}

// deep keeps Depth writes in flight for one round.
func deep(ctx context.Context, o Options, conn *nbdclient.Conn) (float64, error) {
	var wait sync.WaitGroup
	counts, failures := make([]int, o.Depth), make([]error, o.Depth)
	end := time.Now().Add(o.Duration)
	for worker := range o.Depth {
		wait.Go(func() {
			block := make([]byte, o.Block)
			for time.Now().Before(end) && failures[worker] == nil {
				failures[worker] = conn.WriteAt(ctx, block, o.offset(), false)
				counts[worker]++
			}
		})
	}
	wait.Wait()
	total := 0
	for worker, err := range failures {
		if err != nil {
			return 0, err
		}
		total += counts[worker]
	}
	return float64(total) / o.Duration.Seconds(), nil
}

// flushed returns the median time of a write with its flush, in microseconds.
func flushed(ctx context.Context, o Options, conn *nbdclient.Conn) (float64, error) {
	block := make([]byte, o.Block)
	var times []float64
	for end := time.Now().Add(o.Duration); time.Now().Before(end); {
		start := time.Now()
		if err := conn.WriteAt(ctx, block, o.offset(), false); err != nil {
			return 0, err
		}
		if err := conn.Flush(ctx); err != nil {
			return 0, err
		}
		times = append(times, float64(time.Since(start).Nanoseconds())/1e3)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// offset draws a block of the image.
func (o Options) offset() uint64 {
	return rand.Uint64N(o.Size/uint64(o.Block)) * uint64(o.Block)
}
