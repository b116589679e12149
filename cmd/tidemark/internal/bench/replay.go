package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/site"
	"tidemark/services/replayer"
)

// Replay measures how fast a follower works off a backlog: from its start to the
// checkpoint that covers all of it, against a loop that only reads the same journal, and,
// where fio is installed, against that much written to a file past the page cache.
// The backlog is as many random writes of one block as make up half the image.
func Replay(ctx context.Context, o Options) ([]Result, error) {
	o, remove, err := workFolder(o)
	if err != nil {
		return nil, err
	}
	defer remove()
	east, err := newPlace(ctx, o, "east")
	if err != nil {
		return nil, err
	}
	defer east.stop()
	stop, err := api.Serve(ctx, east.bus.Conn(), o.Log,
		api.On(api.SharedResolve("bench"), func(context.Context, events.DirectoryName) (api.Directory, error) {
			return api.Directory{ID: benchDirectory, Pool: "bench", Path: "/", Role: events.Master}, nil
		}))
	if err != nil {
		return nil, err
	}
	defer stop()
	west, err := newFollower(ctx, o, east)
	if err != nil {
		return nil, err
	}
	defer west.stop()
	return west.rounds(ctx)
}

// rounds measures reading, writing and replaying in turn.
func (f *follower) rounds(ctx context.Context) ([]Result, error) {
	reading := comparison{Result: Result{Name: "replay", Unit: "MB/s", What: "reading the same journal and dropping it"}}
	writing := comparison{Result: Result{Name: "replay", Unit: "MB/s", What: "fio writing as much to a file with O_DIRECT, 32 at a time"}}
	_, err := exec.LookPath("fio")
	withFio := err == nil
	for range f.o.Rounds {
		read, err := f.drop(ctx)
		if err != nil {
			return nil, fmt.Errorf("replay: reading: %w", err)
		}
		written := 0.0
		if withFio {
			if written, err = f.raw(ctx); err != nil {
				return nil, fmt.Errorf("replay: %w", err)
			}
		}
		replayed, err := f.replay(ctx)
		if err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
		reading.add(replayed, read)
		writing.add(replayed, written)
	}
	if !withFio {
		return []Result{reading.result()}, nil
	}
	return []Result{reading.result(), writing.result()}, nil
}

// raw is a round of fio: as many random writes as the backlog has, to a file as large as
// the image that has all its blocks.
func (f *follower) raw(ctx context.Context) (float64, error) {
	file := filepath.Join(f.o.Dir, "raw")
	args := []string{
		"--name=raw", "--filename=" + file, "--ioengine=libaio", "--direct=1", "--iodepth=32", "--norandommap", "--randrepeat=0",
		"--rw=randwrite", fmt.Sprintf("--bs=%d", f.o.Block), fmt.Sprintf("--size=%d", f.o.Size),
	}
	if _, err := os.Stat(file); err != nil {
		fill := append(slices.Clone(args), "--rw=write", "--bs=1M")
		if out, err := exec.CommandContext(ctx, "fio", fill...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("fio: %w: %s", err, out)
		}
	}
	args = append(args, fmt.Sprintf("--io_size=%d", f.o.Size/2), "--output-format=json")
	out, err := exec.CommandContext(ctx, "fio", args...).Output()
	if err != nil {
		return 0, fmt.Errorf("fio: %w: %s", err, out)
	}
	var report struct {
		Jobs []struct {
			Write struct {
				Rate float64 `json:"bw_bytes"` // bytes per second
			} `json:"write"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Jobs) != 1 {
		return 0, fmt.Errorf("report of fio: %w: %s", err, out)
	}
	return report.Jobs[0].Write.Rate / 1e6, nil
}

// follower is a site in this process that follows east.
type follower struct {
	o    Options
	east *place
	bus  *bus.Bus
	node site.Node
	stop func()
}

func newFollower(ctx context.Context, o Options, east *place) (*follower, error) {
	server, b, err := newServer(ctx, o, "west", "files")
	if err != nil {
		return nil, err
	}
	f := &follower{o: o, east: east, bus: b, stop: func() {
		b.Close()
		server.Stop()
	}}
	if err := f.found(ctx); err != nil {
		f.stop()
		return nil, err
	}
	f.node.URL = server.URL()
	return f, f.follow(ctx)
}

func (f *follower) found(ctx context.Context) error {
	if err := f.bus.EnsureStreams(ctx, events.SiteStreams()); err != nil {
		return err
	}
	self, err := site.Identify(ctx, f.bus, "west")
	if err != nil {
		return err
	}
	f.node = site.Node{Site: self, Name: "bench", Incarnation: "1", Data: filepath.Join(f.o.Dir, "west")}
	return errors.Join(
		join(ctx, f.bus, f.east.node),
		join(ctx, f.east.bus, f.node),
	)
}

// join makes another site a peer of the pool at this one.
func join(ctx context.Context, b *bus.Bus, other site.Node) error {
	_, err := b.Publish(ctx, events.StreamPools, &events.PeerAdded{
		Pool: "bench", Peer: other.Site.UUID, Site: other.Site.Name, URL: other.URL, Direction: events.ReceiveAndSend,
	})
	if err != nil {
		return err
	}
	_, err = b.Publish(ctx, events.StreamPools, &events.MirrorEnabled{Pool: "bench"})
	return err
}

// follow runs a replayer until this copy has committed all that the owner has.
func (f *follower) follow(ctx context.Context) error {
	head, err := f.east.status(ctx)
	if err != nil {
		return err
	}
	s := replayer.New(replayer.Deps{Bus: f.bus, Node: f.node, Log: f.o.Log, JournalBytesMax: benchJournal})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	_, err = s.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Directory: benchDirectory, Role: events.Slave}, Pool: "bench", Path: "/",
	})
	if err == nil {
		err = f.level(ctx, head.Position)
	}
	cancel()
	return errors.Join(err, <-ended)
}

// level waits until the copy's commit position, as the follower publishes it, is head.
func (f *follower) level(ctx context.Context, head events.Mark) error {
	err := f.bus.Watch(ctx, events.StreamPositions, "tidemark.position.>", func() {}, func(_ uint64, fact events.Fact) error {
		if p, ok := fact.(*events.PositionCommitted); ok && p.Mark.Same(head) {
			return errLevel
		}
		return nil
	})
	if errors.Is(err, errLevel) {
		return nil
	}
	return fmt.Errorf("wait for the follower: %w", err)
}

var errLevel = errors.New("level")

func (p *place) status(ctx context.Context) (api.Status, error) {
	return api.Call[api.Status](ctx, p.bus.Conn(), api.HolderSubject(benchDirectory, api.DirectoryStatus), api.Nothing{})
}

// drop is a round of the baseline: it makes the backlog first.
func (f *follower) drop(ctx context.Context) (float64, error) {
	status, err := f.east.status(ctx)
	if err != nil {
		return 0, err
	}
	before, err := f.east.bus.State(ctx, status.Stream)
	if err != nil {
		return 0, err
	}
	if err := f.fill(ctx); err != nil {
		return 0, err
	}
	after, err := f.east.bus.State(ctx, status.Stream)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = f.east.bus.ReadTo(ctx, status.Stream, before.Last+1, after.Last, func(bus.Message) error { return nil })
	return f.megabytes() / time.Since(start).Seconds(), err
}

// fill writes the backlog at the owner.
func (f *follower) fill(ctx context.Context) error {
	dev, err := f.east.open(ctx)
	if err != nil {
		return err
	}
	block := make([]byte, f.o.Block)
	slots := make(chan error, f.o.Depth)
	for range f.o.Depth {
		slots <- nil
	}
	for range f.writes() {
		if err := <-slots; err != nil {
			return err
		}
		dev.Write(ctx, block, rand.Uint64N(f.o.Size/uint64(f.o.Block))*uint64(f.o.Block), false, func(err error) { slots <- err })
	}
	for range f.o.Depth {
		if err := <-slots; err != nil {
			return err
		}
	}
	return dev.Close(ctx)
}

func (f *follower) writes() int        { return int(f.o.Size/2) / f.o.Block }
func (f *follower) megabytes() float64 { return float64(f.writes()*f.o.Block) / 1e6 }

// replay is a round of the product: it works off the backlog that the baseline left.
func (f *follower) replay(ctx context.Context) (float64, error) {
	start := time.Now()
	err := f.follow(ctx)
	return f.megabytes() / time.Since(start).Seconds(), err
}
