package journal

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/sitetest"
)

func start(t testing.TB, at *sitetest.Site) (*Service, func()) {
	t.Helper()
	s := New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 1 << 30})
	stop := sitetest.Run(t, s.Run)
	<-s.Ready()
	return s, stop
}

// owning starts the service at a site of its own, which owns vms/prod with one empty image,
// disk0, of a size in bytes.
func owning(t testing.TB, size uint64) (at *sitetest.Site, s *Service, d *directory, stop func()) {
	t.Helper()
	at = sitetest.Start(t, "east")
	s, stop = start(t, at)
	d = acquire(t, s)
	create(t, d, "disk0", size)
	return at, s, d, stop
}

func acquire(t testing.TB, s *Service) *directory {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	r := &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "1", Directory: "00112233aabbccdd", Role: events.Master, Epoch: 1},
		Pool:       "vms", Path: "/prod",
	}
	if _, err := s.Acquire(ctx, r); err != nil {
		t.Fatalf("acquire: %v", err)
	}
	return s.directories[r.Directory]
}

func create(t testing.TB, d *directory, name string, size uint64) {
	t.Helper()
	l, err := d.current()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.createImage(t.Context(), api.ImageCreateRequest{Image: name, Size: size}); err != nil {
		t.Fatalf("create image: %v", err)
	}
}

func open(t testing.TB, s *Service, name string) nbd.Device {
	t.Helper()
	dev, err := s.Exports().Open(t.Context(), name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	return dev
}

func write(t testing.TB, dev nbd.Device, p []byte, off uint64, fua bool) {
	t.Helper()
	done := make(chan error, 1)
	dev.Write(t.Context(), p, off, fua, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatalf("write at %d: %v", off, err)
	}
}

func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func read(t testing.TB, dev nbd.Device, off uint64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := dev.ReadAt(t.Context(), p, off); err != nil {
		t.Fatalf("read at %d: %v", off, err)
	}
	return p
}

func TestWriteIsReadBackAtOnceAndAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := sitetest.StartIn(t, "east", dir)
	s, stop := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 64<<20)
	dev := open(t, s, "vms/prod/disk0")
	small, large := pattern(1, 4096), pattern(2, 3<<20)
	write(t, dev, small, 12345, false)
	write(t, dev, large, 5<<20, true)
	if !bytes.Equal(read(t, dev, 12345, len(small)), small) {
		t.Fatal("an acknowledged write is not read back")
	}
	if !bytes.Equal(read(t, dev, 5<<20, len(large)), large) {
		t.Fatal("a large write is not read back")
	}
	if err := dev.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := d.life.claim.Load().Tag
	stop()

	s, _ = start(t, at)
	d = acquire(t, s)
	if d.life.claim.Load().Tag <= before {
		t.Fatalf("the tag after a restart is %d, not later than %d", d.life.claim.Load().Tag, before)
	}
	dev = open(t, s, "vms/prod/disk0")
	if !bytes.Equal(read(t, dev, 12345, len(small)), small) || !bytes.Equal(read(t, dev, 5<<20, len(large)), large) {
		t.Fatal("what was written is not there after a restart")
	}
}

// overtake has another writer claim the next tag behind a directory's back.
func overtake(t *testing.T, at *sitetest.Site, d *directory) {
	t.Helper()
	l := d.life
	tag, err := l.claim.Load().Tag.Next(at.Node.Site.Number)
	wantNil(t, err)
	claim := events.TagClaimed{Tag: tag, Reason: events.TagOpened, Site: at.Node.Site.UUID, Predecessor: l.tail.Marks().Logged}
	msg, _ := claim.Encode(1)
	_, err = l.log.Append(t.Context(), events.TagSubject("east", d.id), msg, l.tail.LastSequence())
	wantNil(t, err)
}

// journal 32: a writer that another has overtaken is fenced.
func TestOvertakenWriterIsFenced(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 1<<20)
	dev := open(t, s, "vms/prod/disk0")
	write(t, dev, pattern(1, 4096), 0, true)

	overtake(t, at, d)

	done := make(chan error, 1)
	dev.Write(t.Context(), pattern(2, 4096), 0, false, func(err error) { done <- err })
	if err := <-done; err == nil {
		t.Fatal("a write of a fenced owner was acknowledged")
	}
	<-dev.Ended()
	sitetest.Eventually(t, "the directory is fenced", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.state == Fenced
	})
	if _, err := s.Exports().Open(t.Context(), "vms/prod/disk0"); fault.CodeOf(err) != fault.NotReady {
		t.Fatalf("open at a fenced owner: %v", err)
	}
}

func TestImageOperations(t *testing.T) {
	t.Parallel()
	_, s, d, _ := owning(t, 8<<20)
	l := d.life
	ctx := t.Context()
	dev := open(t, s, "vms/prod/disk0")
	write(t, dev, pattern(1, 8192), 6<<20, false)

	if err := l.createImage(ctx, api.ImageCreateRequest{Image: "disk0", Size: 1 << 20}); fault.CodeOf(err) != fault.Exists {
		t.Errorf("create twice: %v", err)
	}
	if err := l.resizeImage(ctx, api.ImageResizeRequest{Image: "disk0", Size: 5 << 20}); fault.CodeOf(err) != fault.Busy {
		t.Errorf("shrink unasked: %v", err)
	}
	if err := l.resizeImage(ctx, api.ImageResizeRequest{Image: "disk0", Size: 6<<20 + 4096, AllowShrink: true}); err != nil {
		t.Errorf("shrink: %v", err)
	}
	done := make(chan error, 1)
	dev.Write(ctx, pattern(1, 4096), 7<<20, false, func(err error) { done <- err })
	if err := <-done; fault.CodeOf(err) != fault.NoSpace {
		t.Errorf("write beyond the new end: %v", err)
	}
	if err := l.resizeImage(ctx, api.ImageResizeRequest{Image: "disk0", Size: 16 << 20}); err != nil {
		t.Errorf("grow: %v", err)
	}
	remove := api.ImageRequest{Image: "disk0"}
	if err := l.removeImage(ctx, remove); fault.CodeOf(err) != fault.Busy {
		t.Errorf("remove while open: %v", err)
	}
	if err := dev.Close(ctx); err != nil {
		t.Error(err)
	}
	dev = open(t, s, "vms/prod/disk0")
	want := append(pattern(1, 8192)[:4096], make([]byte, 4096)...)
	if got := read(t, dev, 6<<20, 8192); !bytes.Equal(got, want) {
		t.Error("after shrinking and growing the lost part does not read as zeroes")
	}
	_ = dev.Close(ctx)
	if err := l.removeImage(ctx, remove); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := l.removeImage(ctx, remove); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("remove twice: %v", err)
	}
}

// A full journal refuses writes and nothing else, and takes them again when there is
// room: what was refused has left no trace in positions or versions.
func TestFullJournalRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s := New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 64 << 20, Lag: LagLimits{Bytes: -1}})
	sitetest.Run(t, s.Run)
	<-s.Ready()
	d := acquire(t, s)
	create(t, d, "disk0", 64<<20)
	d.life.writer.fullTime = 0
	// A follower that is away holds everything.
	err := s.clients.Register(t.Context(), at.Bus, events.PositionCommitted{
		Directory: d.id, Client: "west.node", Site: at.Node.Site.UUID, Mark: d.life.claim.Load().Mark,
	})
	if err != nil {
		t.Fatal(err)
	}
	noted := lifeTurns(t, at)
	room := &roomWatch{life: d.life}
	told := func(what events.Lifecycle) {
		t.Helper()
		wantNil(t, room.look(t.Context()))
		sitetest.Eventually(t, string(what)+" is told", func() bool { return len(noted(what)) == 1 })
	}
	dev := open(t, s, "vms/prod/disk0")
	want := make([]byte, 64<<20)
	refused := 0
	result := make(chan error, 1)
	for i := 0; refused < 5; i++ {
		data, off := pattern(uint64(i), 200_000), uint64(i%200)*100_000
		dev.Write(t.Context(), data, off, false, func(err error) { result <- err })
		switch err := <-result; fault.CodeOf(err) {
		case "":
			copy(want[off:], data)
		case fault.NoSpace:
			refused++
		default:
			t.Fatalf("write %d: %v", i, err)
		}
	}
	if !bytes.Equal(read(t, dev, 0, len(want)), want) {
		t.Fatal("with a full journal the image does not hold exactly what was acknowledged")
	}
	if status, err := d.status(t.Context()); err != nil || status.State != "full" {
		t.Errorf("state %q, %v", status.State, err)
	}
	told(events.JournalFilling)
	told(events.JournalFull)
	// The follower is given up: the journal is trimmed and takes writes again.
	gone := events.PositionCommitted{Directory: d.id, Client: "west.node", State: events.ClientDisconnected}
	if _, err := at.Bus.Publish(t.Context(), events.StreamPositions, &gone); err != nil {
		t.Fatal(err)
	}
	data := pattern(9, 150_000)
	sitetest.Eventually(t, "the journal takes writes again", func() bool {
		dev.Write(t.Context(), data, 12345, true, func(err error) { result <- err })
		return <-result == nil
	})
	copy(want[12345:], data)
	told(events.JournalDrained)
	told(events.JournalRoom)
	if !bytes.Equal(read(t, dev, 0, len(want)), want) {
		t.Fatal("after recovery the image does not hold exactly what was acknowledged")
	}
	// Replay agrees: positions and versions have no gap.
	wantNil(t, s.stop(d))
	acquire(t, s)
	dev = open(t, s, "vms/prod/disk0")
	if !bytes.Equal(read(t, dev, 0, len(want)), want) {
		t.Fatal("after a restart the image does not hold exactly what was acknowledged")
	}
}
