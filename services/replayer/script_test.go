package replayer

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// script is a directory's history as its owner would write it, together with the bytes
// that every image must hold.
type script struct {
	t          testing.TB
	at         *sitetest.Site
	rand       *rand.Rand
	history    string // whose life the directory is
	log        *bus.Log
	replica    *replica.Replica
	compaction *holder.Compaction
	images     []*scripted
	batch      *events.BatchBuilder
	tag        events.Tag
	end        events.Mark
	seq        uint64
	pending    []events.JournalMessage
	stored     []stored
	silence    func()                // ends the repetition of the last head
	admit      atomic.Pointer[error] // what followers are told
	admitOnce  atomic.Pointer[error] // what the next one is told instead; nil: nothing
	admitted   atomic.Int64          // how often that was asked for
	// disconnected is set when west's client was disconnected.
	disconnected atomic.Bool
}

// stored is a message of the journal.
type stored struct {
	subject string
	data    []byte
}

// forbid tells followers that they may not follow; nil that they may.
func (s *script) forbid(err error) { s.admit.Store(&err) }

// Admit implements [holder.Followers].
func (s *script) Admit(string, string) error {
	s.admitted.Add(1)
	if once := s.admitOnce.Swap(nil); once != nil {
		return *once
	}
	return *s.admit.Load()
}

// Disconnected implements [holder.Followers].
func (s *script) Disconnected(_ events.DirectoryID, client string) bool {
	return s.disconnected.Load() && client == "west.node"
}

// Register implements [holder.Followers].
func (s *script) Register(ctx context.Context, f events.PositionCommitted) error {
	s.disconnected.Store(false)
	f.Role, f.State, f.Registered = events.Slave, events.ClientConnected, true
	_, err := s.at.Bus.Publish(ctx, events.StreamPositions, &f)
	return err
}

// saved is a script at one moment.
type saved struct {
	images []scripted
	end    events.Mark
	stored []stored
}

// save remembers the script as it is.
func (s *script) save() saved {
	now := saved{end: s.end, stored: slices.Clone(s.stored)}
	for _, image := range s.images {
		now.images = append(now.images, scripted{image.id, image.name, slices.Clone(image.content), maps.Clone(image.versions)})
	}
	return now
}

// restore makes the journal what it was, as a power failure does, and claims another tag.
func (s *script) restore(was saved) {
	s.t.Helper()
	if err := s.at.Bus.RemoveLog(context.Background(), s.stream().Name); err != nil {
		s.t.Fatal(err)
	}
	log, err := s.at.Bus.OpenLog(context.Background(), s.stream())
	if err != nil {
		s.t.Fatal(err)
	}
	s.log, s.seq, s.pending, s.stored = log, 0, nil, was.stored
	for _, m := range was.stored {
		if s.seq, err = s.log.Append(context.Background(), m.subject, m.data, s.seq); err != nil {
			s.t.Fatal(err)
		}
	}
	s.images = nil
	for _, image := range was.images {
		s.images = append(s.images, &image)
	}
	s.end = was.end
	s.claim()
}

type scripted struct {
	id       events.ImageID
	name     string
	content  []byte
	versions map[uint64]events.Position
}

func newScript(t testing.TB, at *sitetest.Site) *script {
	s := &script{t: t, at: at, rand: seeded(), history: "h"}
	s.forbid(nil)
	s.begin()
	return s
}

func (s *script) stream() events.Stream {
	return events.Stream{
		Name:     events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, eastID),
		Subjects: []string{events.JournalSubject("east", eastID) + ".>"},
	}
}

func (s *script) begin() {
	s.t.Helper()
	var err error
	if s.log, err = s.at.Bus.OpenLog(context.Background(), s.stream()); err != nil {
		s.t.Fatal(err)
	}
	s.replica, err = replica.Create(vfs.OS(), s.t.TempDir()+"/east", replica.Identity{Directory: eastID, History: s.history})
	if err != nil {
		s.t.Fatal(err)
	}
	r := s.replica
	s.compaction = holder.NewCompaction(r, func() bool { return true })
	s.t.Cleanup(func() { _ = r.Close() })
	s.claim()
}

func (s *script) claim() {
	s.t.Helper()
	s.tag, _ = s.tag.Next(7)
	claim := events.TagClaimed{Tag: s.tag, Reason: events.TagOpened, Site: "east", Predecessor: s.end}
	msg, mark := claim.Encode(events.InstantOf(time.Now()))
	claim.Mark = mark
	s.append(&claim, msg, events.TagSubject("east", eastID))
}

func (s *script) restartHistory() {
	s.t.Helper()
	if err := s.at.Bus.RemoveLog(context.Background(), s.stream().Name); err != nil {
		s.t.Fatal(err)
	}
	s.images, s.end, s.seq, s.pending, s.stored = nil, events.Mark{}, 0, nil, nil
	s.begin()
}

func (s *script) append(m events.JournalMessage, msg []byte, subject string) {
	s.t.Helper()
	seq, err := s.log.Append(context.Background(), subject, msg, s.seq)
	if err != nil {
		s.t.Fatal(err)
	}
	s.seq, s.end = seq, m.Ends()
	s.stored = append(s.stored, stored{subject, slices.Clone(msg)})
	s.pending = append(s.pending, m)
}

func (s *script) create(name string, size int) {
	s.t.Helper()
	image := &scripted{events.ImageID(len(s.images) + 1), name, make([]byte, size), map[uint64]events.Position{}}
	s.images = append(s.images, image)
	s.add(events.Entry{Before: []events.Position{0}, Event: events.ImageCreated{
		Image: image.id, Name: name, Size: uint64(size), ObjectSize: replica.ObjectSizeDefault,
	}})
	s.publish()
}

func (s *script) add(e events.Entry) {
	if s.batch == nil {
		s.batch = events.NewBatchBuilder(nil)
	}
	s.batch.Append(e)
	if s.batch.Size() > events.BatchBytesMax/4 {
		s.publish()
	}
}

// entry adds a change, and makes it in the expected bytes.
func (s *script) entry(image *scripted, e events.Event, offset uint64, data []byte) {
	s.changeOf(image, e, events.Part{}, offset, data)
}

func (s *script) changeOf(image *scripted, e events.Event, part events.Part, offset uint64, data []byte) {
	first, count := replica.Objects(offset, uint64(len(data)), replica.ObjectSizeDefault)
	next := s.end.Position + 1
	if s.batch != nil {
		next += events.Position(s.batch.Count())
	}
	var before []events.Position
	for index := first; index < first+count; index++ {
		before = append(before, image.versions[index])
		image.versions[index] = next
	}
	copy(image.content[offset:], data)
	s.add(events.Entry{Before: before, Part: part, Event: e})
}

func (s *script) publish() {
	s.t.Helper()
	if s.batch == nil {
		return
	}
	msg, _ := s.batch.Seal(s.tag, s.end, 0, events.InstantOf(time.Now()))
	s.batch = nil
	b, err := events.DecodeBatch(msg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.append(b, msg, events.EntriesSubject("east", eastID))
}

// apply applies everything at the origin.
func (s *script) apply() {
	s.t.Helper()
	for _, m := range s.pending {
		if err := s.replica.Apply(m, 0); err != nil {
			s.t.Fatal(err)
		}
	}
	s.pending = nil
}

// settle applies everything at the origin and reports it safe.
func (s *script) settle() {
	s.t.Helper()
	s.apply()
	if _, err := s.replica.Checkpoint(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	s.head()
}

// head says how far the journal is safe, and goes on saying so until the next head.
func (s *script) head() {
	head := events.HeadAdvanced{Directory: eastID, Logged: s.end, Safe: s.end}
	if s.silence != nil {
		s.silence()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.silence = cancel
	s.t.Cleanup(cancel)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			now := head
			if s.disconnected.Load() {
				now.Disconnected = []string{"south.node", "west.node"}
			}
			_ = s.at.Bus.Send(&now)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
}

func (s *script) mark() events.Mark { return s.end }

func (s *script) want(name string) []byte {
	for _, image := range s.images {
		if image.name == name {
			return image.content
		}
	}
	return nil
}

// handlers answer a first sync as an owner does.
func (s *script) handlers() []api.Handler {
	source := func() holder.SyncSource {
		return holder.SyncSource{
			Copy: holder.Copy{ID: eastID, Replica: s.replica}, Site: "east", Stream: s.stream().Name,
			Complete: func() bool { return true }, Followers: s,
			Compaction: s.compaction,
		}
	}
	status := api.On(api.HolderSubject(eastID, api.DirectoryStatus), func(context.Context, api.Nothing) (api.Status, error) {
		at := s.replica.Applied()
		return api.Status{Position: at, Applied: at}, nil
	})
	reports := holder.Reports{Bus: s.at.Bus, Site: s.at.Node.Site.UUID, Directory: eastID}
	return append(append(source().Handlers(), reports.Handlers()...), status)
}
