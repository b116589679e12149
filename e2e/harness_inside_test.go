package e2e_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
	"tidemark/internal/nbd"
	siteid "tidemark/internal/site"
	"tidemark/internal/vfs"
	"tidemark/services/journal"
	"tidemark/services/notifier"
	"tidemark/services/policy"
	"tidemark/services/replayer"
)

// inside is a site that runs in the test's own process, put together as `tidemark serve`
// does it, on disks whose power can be cut.
type inside struct {
	*site
	log    *os.File
	nats   *natsd.Server
	disk   *logDisk
	crash  *vfs.Crash
	folder string // the present data folder
	stop   func()
}

// newInside makes a site that has not been started.
func newInside(t testing.TB, name string) *inside {
	s := newSite(t, name)
	log := filepath.Join(s.dir, "inside.log")
	s.logs = append(s.logs, log)
	in := &inside{site: s, folder: s.data()}
	var err error
	if in.log, err = os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if in.stop != nil {
			in.stop()
		}
		_ = in.log.Close() // only a log
	})
	return in
}

// run starts the site on its present folder.
func (in *inside) start() {
	in.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewJSONHandler(in.log, nil))
	node := in.open(ctx, log)
	b, err := bus.Connect(bus.Config{Name: in.name, Syncer: in.nats, Log: log, Dial: in.nats.Dial, Options: []nats.Option{in.nats.InProcess()}})
	in.must(err)
	in.must(b.EnsureStreams(ctx, events.SiteStreams()))
	node.Site, err = siteid.Identify(ctx, b, in.name)
	in.must(err)

	owner := journal.New(journal.Deps{Bus: b, Node: node, Log: log, JournalBytesMax: 1 << 30, FS: in.crash})
	follower := replayer.New(replayer.Deps{Bus: b, Node: node, Log: log, JournalBytesMax: 1 << 30})
	directories := policy.New(policy.Deps{Bus: b, Node: node, Log: log})
	roster := notifier.New(notifier.Deps{Bus: b, Node: node, Log: log})
	server := nbd.New(nbd.Config{Exports: owner.Exports(), Log: log})
	_ = os.Remove(in.socket) // of the last start
	listener, err := net.Listen("unix", in.socket)
	in.must(err)
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{
		owner.Run, follower.Run, directories.Run, roster.Run,
		func(ctx context.Context) error { return server.Serve(ctx, listener) },
	} {
		running.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				log.Error("a part of the site ended", "error", err)
			}
		})
	}
	for _, ready := range []<-chan struct{}{owner.Ready(), follower.Ready(), directories.Ready(), roster.Ready()} {
		<-ready
	}
	in.stop = func() {
		cancel()
		running.Wait()
		b.Close()
		in.nats.Stop()
		in.stop, in.nats, in.disk, in.crash = nil, nil, nil, nil // they hold copies of all files
	}
}

// open lays the disks under the folder, and starts NATS on it.
func (in *inside) open(ctx context.Context, log *slog.Logger) siteid.Node {
	in.t.Helper()
	in.must(os.MkdirAll(in.folder, 0o700))
	store := filepath.Join(in.folder, "nats")
	in.must(os.MkdirAll(store, 0o700))
	in.disk, in.crash = newLogDisk(store), vfs.NewCrash(vfs.OS(), nil)
	in.must(in.disk.adopt())
	var err error
	in.nats, err = natsd.Start(ctx, natsd.Config{
		Name: in.name + "-1", Dir: store, Listen: in.site.nats, Sync: natsd.SyncFiles, Log: log, Fsync: in.disk.fsync,
	})
	in.must(err)
	incarnation, err := siteid.NewID()
	in.must(err)
	data, err := siteid.DataID(in.folder)
	in.must(err)
	return siteid.Node{Name: in.name + "-1", Incarnation: incarnation, Data: in.folder, DataID: data, URL: in.url()}
}

func (in *inside) must(err error) {
	in.t.Helper()
	if err != nil {
		in.t.Fatal(err)
	}
}

// cutPower makes a folder of what the disks hold at this moment, calls then, and makes
// the folder the site's own. Nothing becomes durable from then on, so that the site, which
// goes on until it is stopped, tells nobody of anything that is not there.
func (in *inside) cutPower(random *rand.Rand, then func()) {
	in.t.Helper()
	next, err := os.MkdirTemp(in.dir, "data")
	in.must(err)
	in.disk.gate.Lock()
	// First the copies, then the log: nobody hears of a sync meanwhile, so the copies
	// hold only what the log held before.
	err = in.crash.Image(filepath.Join(in.folder, "replicas"), filepath.Join(next, "replicas"), random)
	if err == nil {
		err = os.Link(filepath.Join(in.folder, "node.id"), filepath.Join(next, "node.id"))
	}
	if err == nil {
		in.disk.survivors(in.t, filepath.Join(next, "nats"), random)
		then()
	}
	in.disk.gone = true
	in.disk.gate.Unlock()
	in.must(err)
	in.stop()
	in.must(os.RemoveAll(in.folder))
	in.folder = next
}
