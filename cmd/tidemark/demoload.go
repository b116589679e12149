package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/nbdclient"
	"tidemark/internal/workload"
)

const (
	writersPerImage = 8
	writesPerFlush  = 64
	readSize        = 1 << 20
)

// writers write the workload to east over NBD: one connection for each image, several
// writes in flight on each.
type writers struct {
	demo    *demo
	conns   []*nbdclient.Conn
	began   time.Time
	writing time.Duration // spent in writing
	stop    atomic.Bool   // the writers are to end
	killed  atomic.Bool   // east is dead: errors are what is expected
}

func (d *demo) dialWriters(ctx context.Context) (*writers, error) {
	w := &writers{demo: d, began: time.Now()}
	for i := range demoImages {
		conn, err := d.dial(ctx, d.east, i)
		if err != nil {
			w.close()
			return nil, err
		}
		w.conns = append(w.conns, conn)
	}
	return w, nil
}

// dial opens an image, which may just be on its way to a node.
func (d *demo) dial(ctx context.Context, s *demoSite, image int) (*nbdclient.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cli.timeout)
	defer cancel()
	name := events.ImageName{DirectoryName: d.directory, Image: demoImage(image)}.String()
	for {
		conn, err := nbdclient.Dial(ctx, "unix", s.socket(), name)
		if err == nil {
			return conn, nil
		}
		if pause(ctx, pollInterval) != nil {
			return nil, fault.New(fault.Timeout, "%s: %w", s.name, err)
		}
	}
}

func (w *writers) close() {
	gone, cancel := context.WithCancel(context.Background())
	cancel() // east was killed: there is nobody to say goodbye to
	for _, c := range w.conns {
		_ = c.Close(gone)
	}
}

// writeTo writes until so many bytes were acknowledged in all, and flushes.
func (w *writers) writeTo(ctx context.Context, bytes uint64) error {
	failed := w.start(ctx)
	err := w.watch(ctx, bytes, failed)
	w.stop.Store(true)
	for e := range failed {
		err = cmp.Or(err, e)
	}
	if err != nil {
		return err
	}
	for _, c := range w.conns {
		if err := w.flush(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// writeUntilKilled writes on and on; when so many bytes were acknowledged in all, kill
// is called in the middle of it.
func (w *writers) writeUntilKilled(ctx context.Context, bytes uint64, kill func()) error {
	failed := w.start(ctx)
	err := w.watch(ctx, bytes, failed)
	w.killed.Store(true)
	kill()
	for e := range failed { // until all writers have noticed
		err = cmp.Or(err, e)
	}
	return err
}

// start sets the writers to work. Their errors come over the channel, which is closed
// when all of them have ended.
func (w *writers) start(ctx context.Context) <-chan error {
	w.stop.Store(false)
	failed := make(chan error, len(w.conns)*writersPerImage)
	var working sync.WaitGroup
	for image, conn := range w.conns {
		for range writersPerImage {
			working.Go(func() {
				if err := w.write(ctx, image, conn); err != nil && !w.killed.Load() {
					failed <- fmt.Errorf("write to %s at east: %w", demoImage(image), err)
				}
			})
		}
	}
	go func() {
		working.Wait()
		close(failed)
	}()
	return failed
}

// write is one of the writers of an image.
func (w *writers) write(ctx context.Context, image int, conn *nbdclient.Conn) error {
	load := w.demo.load
	buffer := make([]byte, demoBlocksMax*workload.BlockSize)
	for n := 1; !w.stop.Load(); n++ {
		next, ok := load.Begin(image)
		if !ok {
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
			continue
		}
		data := buffer[:next.Bytes()]
		load.Data(next, data)
		if err := conn.WriteAt(ctx, data, next.Offset(), false); err != nil {
			return err
		}
		load.Acknowledge(next, time.Since(w.began))
		if n%writesPerFlush == 0 {
			if err := w.flush(ctx, conn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writers) flush(ctx context.Context, conn *nbdclient.Conn) error {
	begun := w.demo.load.BeginFlush()
	if err := conn.Flush(ctx); err != nil {
		return err
	}
	// Other connections' writes count too: a flush speaks for the whole directory.
	w.demo.load.EndFlush(begun)
	return nil
}

// watch waits until so many bytes were acknowledged in all. It returns early when a
// writer failed, or when nothing moves any more.
func (w *writers) watch(ctx context.Context, bytes uint64, failed <-chan error) error {
	began, moved := time.Now(), time.Now()
	defer func() { w.writing += time.Since(began) }()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for last := int64(-1); ; {
		_, written := w.demo.load.Written()
		w.demo.progress.at(uint64(written), w.demo.size)
		if uint64(written) >= bytes {
			return nil
		}
		if written != last {
			last, moved = written, time.Now()
		}
		if time.Since(moved) > w.demo.cli.timeout {
			return fault.New(fault.Timeout, "east does not acknowledge writes any more, after %s", formatSize(uint64(written)))
		}
		select {
		case err, open := <-failed:
			if open {
				return err
			}
			return errors.New("all writers have ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// verify reads both images of a site and judges them. opened is when the first could
// be read.
func (d *demo) verify(ctx context.Context, s *demoSite, writable bool) (verdict workload.Verdict, opened time.Time, err error) {
	judge := d.load.Verify()
	for i := range demoImages {
		conn, err := d.dial(ctx, s, i)
		if err != nil {
			return verdict, opened, err
		}
		if opened.IsZero() {
			opened = time.Now()
			d.progress.begin("checking " + s.name)
		}
		err = d.observe(ctx, judge, i, conn)
		if err == nil && writable && conn.ReadOnly() {
			err = errors.New("it takes no writes")
		}
		if err = errors.Join(err, conn.Close(ctx)); err != nil {
			return verdict, opened, fmt.Errorf("read %s at %s: %w", demoImage(i), s.name, err)
		}
	}
	return judge.Verdict(), opened, nil
}

func (d *demo) observe(ctx context.Context, judge *workload.Verifier, image int, conn *nbdclient.Conn) error {
	buffer := make([]byte, readSize)
	total := conn.Size() * demoImages
	for offset := uint64(0); offset < conn.Size(); {
		part := buffer[:min(readSize, conn.Size()-offset)]
		if err := conn.ReadAt(ctx, part, offset); err != nil {
			return err
		}
		judge.Observe(image, offset, part)
		offset += uint64(len(part))
		d.progress.at(uint64(image)*conn.Size()+offset, total)
	}
	return nil
}
