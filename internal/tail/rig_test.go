package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

const (
	testSubject = "test.journal"
	objectSize  = 4 << 20
	imageSize   = 1 << 30
)

// syncer stands between a log and its server: it can be held, and it can fail. It
// knows how far the log is safe.
type syncer struct {
	server *natsd.Server
	log    *bus.Log
	gate   sync.RWMutex // held for writing: Sync waits
	err    atomic.Pointer[error]
	calls  atomic.Int64
	safe   atomic.Uint64 // sequence
	// trimmed is what Trimmed returns instead of doing anything.
	trimmed atomic.Pointer[error]
}

func (s *syncer) Sync(ctx context.Context, stream string) error {
	if s.log == nil {
		return s.server.Sync(ctx, stream)
	}
	state, err := s.log.State(ctx)
	if err != nil {
		return err
	}
	s.calls.Add(1)
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err := s.err.Load(); err != nil {
		return *err
	}
	s.safe.Store(max(s.safe.Load(), state.Last))
	return s.server.Sync(ctx, stream)
}

func (s *syncer) Trimmed(ctx context.Context, stream string) error {
	if err := s.trimmed.Load(); err != nil {
		return *err
	}
	return s.server.Trimmed(ctx, stream)
}

func (s *syncer) fail(err error) { s.err.Store(&err) }

// rig is a directory with its log, replica and tail, and a writer of its history.
type rig struct {
	t       *testing.T
	site    *sitetest.Site
	syncer  *syncer
	log     *bus.Log
	dir     string
	fs      vfs.FS
	replica *replica.Replica
	tail    *Tail
	cfg     Config
	// noteSafe is Config.NoteSafe.
	noteSafe bool
	// age is how long ago messages were written.
	age time.Duration

	mark     events.Mark
	last     []byte // the message of the last batch
	versions map[uint64]events.Position
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOn(t, sitetest.Start(t, "east"), "JOURNAL_tail")
}

func newRigOn(t *testing.T, site *sitetest.Site, stream string) *rig {
	t.Helper()
	r := &rig{t: t, site: site, syncer: &syncer{server: site.Server}, fs: vfs.OS(), dir: t.TempDir(), versions: map[uint64]events.Position{}}
	b, err := bus.Connect(bus.Config{Name: "tail", Syncer: r.syncer, Log: site.Log, Dial: site.Server.Dial, Options: []nats.Option{site.Server.InProcess()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	r.log, err = b.OpenLog(t.Context(), events.Stream{Name: stream, Subjects: []string{testSubject + "." + stream}, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	r.syncer.log = r.log
	return r
}

// open opens the replica, which is made the first time, and a tail on it.
func (r *rig) open(edit func(*Config)) {
	r.t.Helper()
	var err error
	r.replica, err = replica.Open(r.fs, r.dir)
	if errors.Is(err, replica.ErrNotFound) {
		r.replica, err = replica.Create(r.fs, r.dir, replica.Identity{Directory: "d", Name: events.DirectoryName{Pool: "p", Path: "/"}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	own := r.replica
	r.t.Cleanup(func() { _ = own.Close() })
	r.cfg = Config{Replica: r.replica, Log: r.log, Logger: r.site.Log, NoteSafe: r.noteSafe}
	edit(&r.cfg)
	r.tail = New(r.cfg)
}

func owner(*Config) {}

// run runs the tail; stop ends it and returns its error.
func (r *rig) run() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	tail := r.tail
	go func() { ended <- tail.Run(ctx) }()
	once := sync.OnceValue(func() error { cancel(); return <-ended })
	r.t.Cleanup(func() { _ = once() })
	return once
}

func (r *rig) ctx() context.Context {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), sitetest.Patience)
	r.t.Cleanup(cancel)
	return ctx
}

// claim returns the next tag's message.
func (r *rig) claim(site uint16) []byte {
	r.t.Helper()
	tag, err := r.mark.Position.Tag().Next(site)
	if err != nil {
		r.t.Fatal(err)
	}
	var msg []byte
	msg, r.mark = events.TagClaimed{Tag: tag, Reason: events.TagOpened, Site: "s", Predecessor: r.mark}.Encode(events.InstantOf(time.Now().Add(-r.age)))
	return msg
}

// batch returns a message with these events, each of one object at most.
func (r *rig) batch(safe events.Position, evs ...events.Event) []byte {
	b := events.NewBatchBuilder(nil)
	position := r.mark.Position
	for _, e := range evs {
		position++
		before := []events.Position{0}
		if _, offset, _, ok := events.Range(e); ok {
			before[0] = r.versions[offset/objectSize]
			r.versions[offset/objectSize] = position
		}
		b.Append(events.Entry{Before: before, Event: e})
	}
	var msg []byte
	msg, r.mark = b.Seal(r.mark.Position.Tag(), r.mark, safe, events.InstantOf(time.Now().Add(-r.age)))
	r.last = msg
	return msg
}

func created() events.Event {
	return events.ImageCreated{Image: 1, Name: "disk", Size: imageSize, ObjectSize: objectSize}
}

// written is a write of n bytes that goes to object i.
func written(i uint64, n int) events.Event {
	data := make([]byte, n)
	for k := range data {
		data[k] = byte(i) + byte(k)
	}
	return events.Written{Image: 1, Offset: i % (imageSize / objectSize) * objectSize, Data: data}
}

// put appends a message to the log and hands it to the tail, as an owner does.
func (r *rig) put(msg []byte) {
	r.t.Helper()
	if err := r.tail.Room(r.ctx(), len(msg)); err != nil {
		r.t.Fatal(err)
	}
	seq := r.append(msg, r.tail.LastSequence())
	m, err := events.DecodeJournal(msg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.tail.Logged(m, seq, len(msg))
	r.tail.Return(len(msg))
}

// append stores a message in the log only.
func (r *rig) append(msg []byte, last uint64) uint64 {
	r.t.Helper()
	seq, err := r.log.Append(r.ctx(), testSubject+"."+r.log.Name(), msg, last)
	if err != nil {
		r.t.Fatal(err)
	}
	return seq
}

// begin puts a tag and an image.
func (r *rig) begin() {
	r.t.Helper()
	r.put(r.claim(1))
	r.put(r.batch(0, created()))
}

// level waits until a station stands at the writer's mark.
func (r *rig) level(what string, station func(Marks) events.Mark) {
	r.t.Helper()
	sitetest.Eventually(r.t, fmt.Sprintf("%s at %v", what, r.mark.Position), func() bool {
		return station(r.tail.Marks()).Position == r.mark.Position
	})
}

func safe(m Marks) events.Mark      { return m.Safe }
func applied(m Marks) events.Mark   { return m.Applied }
func committed(m Marks) events.Mark { return m.Committed }

// copyTree copies the files of a folder.
func copyTree(t *testing.T, dst, src string) {
	t.Helper()
	err := filepath.WalkDir(src, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(src, name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dst, rel)), 0o755); err != nil {
			return err
		}
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(dst, rel))
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = io.Copy(out, in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
