package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/nbdclient"
	"tidemark/internal/sitetest"
)

// fencedSite is a site whose journal service is a process of its own, so that the owner
// of a directory can be stopped while the log goes on.
func fencedSite(t *testing.T) (s *site, owner *process) {
	t.Helper()
	s = newSite(t, "east")
	log := s.serve("log", "--services", "replayer,policy,notifier", "--nats-listen", s.nats, "--nbd", "unix:"+s.socket+"-2", "--http", s.http)
	owner = s.serve("owner", "--services", "journal", "--nats-url", s.url(), "--nbd", "unix:"+s.socket, "--http", "")
	log.awaitReady(t)
	owner.awaitReady(t)
	s.process = owner
	return s, owner
}

// claimNextTag claims the tag after the last one of a journal, as another writer would
// that took the directory over, and returns the claim's sequence. What the stopped owner had
// sent may just be arriving: it is the owner's, and the claim is made behind it.
func claimNextTag(t *testing.T, s *site, stream string) (seq uint64) {
	t.Helper()
	js := s.jetStream()
	await(t, patience, "claim the next tag of "+stream, func() (err error) {
		seq, err = tryClaim(t, js, stream)
		return err
	})
	return seq
}

func tryClaim(t *testing.T, js jetstream.JetStream, stream string) (seq uint64, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	handle, err := js.Stream(ctx, stream) // which asks how far it reaches
	if err != nil {
		return 0, err
	}
	at := handle.CachedInfo().State.LastSeq
	last, err := handle.GetMsg(ctx, at)
	if err != nil {
		return 0, err
	}
	end, err := events.DecodeJournal(last.Data)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := end.Ends().Position.Tag().Next(4095)
	if err != nil {
		t.Fatal(err)
	}
	claim := events.TagClaimed{
		Tag: tag, Reason: events.TagForced, Site: "0123456789abcdef", Node: "stranger",
		Incarnation: "0123456789abcdef", Predecessor: end.Ends(),
	}
	msg, _ := claim.Encode(events.InstantOf(time.Now()))
	subject := last.Subject[:strings.LastIndexByte(last.Subject, '.')] + ".tag"
	ack, err := js.Publish(ctx, subject, msg, jetstream.WithExpectLastSequence(at))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// journalOf returns the name of a directory's stream.
func journalOf(s *site, dir string) string {
	s.t.Helper()
	return query[struct {
		Holder struct {
			Stream string `json:"stream"`
		} `json:"holder"`
	}](s, "dir", "info", dir).Holder.Stream
}

// TestPausedOwner stops the owner of a directory under writers, lets another writer
// claim the next tag, and lets the owner go on: the log refuses it, its clients are told
// and its sessions closed, and nothing of the old tag stands behind the claim; journal
// 32, 164, 165; design 3.5.
//
// By hand it was seen to fail when the writer appends without an expected last sequence
// (internal/bus/log.go).
func TestPausedOwner(t *testing.T) {
	t.Parallel()
	s, owner := fencedSite(t)
	s.createImage("vms/prod/a", "16MiB")
	stream := journalOf(s, "vms/prod")
	l := newLoad(t, 16<<20, "vms/prod/a")
	w := l.start(s)
	w.awaitWrites(200)
	owner.pause()
	acked := w.acked.Load()
	seq := claimNextTag(t, s, stream)
	owner.resume()
	awaitToldOff(t, w)
	// Answers that were on their way when it was stopped are fine, to the client and,
	// of writes that were logged by then, to the owner: two for each writer. New ones
	// are not.
	if more := w.acked.Load() - acked; more > 2*writersPerImage {
		t.Errorf("a fenced owner acknowledged %d writes", more)
	}
	nothingBehind(t, s, stream, seq)
	await(t, patience, "the directory says that it is fenced", func() error {
		r := s.run("dir", "info", "vms/prod", "-o", "json")
		m := s.run("mirror", "status", "vms/prod", "-o", "json")
		return unless(strings.Contains(r.stdout+m.stdout, "fenced"), "%s%s", r, m)
	})
}

// TestReplacedOwner stops the owner of a directory under writers. A process on a copy of its
// data folder, as a machine restored elsewhere would be, takes the directory over and is
// written to; then the old owner goes on. Its clients get errors for writes and flushes,
// nothing of it stands behind the new owner's tag, and no replica, here or at a site that
// follows, holds anything of it; journal 32, 164, 165.
func TestReplacedOwner(t *testing.T) {
	t.Parallel()
	east, owner := fencedSite(t)
	west := startSite(t, "west")
	peers(t, "vms", east, west)
	east.createImage("vms/prod/a", "16MiB")
	west.must("mirror", "add", "vms/prod")
	stream := journalOf(east, "vms/prod")
	l := newLoad(t, 16<<20, "vms/prod/a")
	w, idle := l.start(east), east.dial("vms/prod/a")
	w.awaitWrites(200)
	owner.pause()
	acked := w.acked.Load()

	successor := copyOf(t, east)
	east.serveAt(successor, "owner2", "--services", "journal", "--nats-url", east.url(), "--nbd", "unix:"+east.socket+"-3", "--http", "").awaitReady(t)
	old, socket := east.socket, east.socket+"-3"
	east.socket = socket
	second := l.start(east)
	claim := lastClaim(t, east, stream)
	second.awaitWrites(100)

	east.socket = old
	owner.resume()
	awaitToldOff(t, w)
	demandToldOff(t, idle)
	if more := w.acked.Load() - acked; more > 2*writersPerImage { // see TestPausedOwner
		t.Errorf("a fenced owner acknowledged %d writes", more)
	}
	second.awaitWrites(100)
	second.end()
	nothingOfTag(t, east, stream, claim)
	east.socket = socket
	l.demandComplete(east)
	awaitLevel(t, east, west, "vms/prod")
	l.demandComplete(west)
	sitetest.DemandOneHolder(t, east.jetStream().Conn())
}

// awaitToldOff waits until all writers of a fenced owner were told.
func awaitToldOff(t *testing.T, w *writing) {
	t.Helper()
	ended := make(chan struct{})
	go func() { w.working.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the fenced owner keeps its clients waiting")
	}
	if w.failure() == nil {
		t.Error("the clients of a fenced owner were not told")
	}
}

// demandToldOff demands that a session of a fenced owner is refused a write, and a flush.
func demandToldOff(t *testing.T, idle *nbdclient.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := idle.WriteAt(ctx, make([]byte, 4096), 0, false); err == nil {
		t.Error("a fenced owner took a write")
	}
	if err := idle.Flush(ctx); err == nil {
		t.Error("a fenced owner answered a flush")
	}
}

// copyOf copies the data folder of a site, whose owner is stopped, and returns the copy.
func copyOf(t *testing.T, s *site) string {
	t.Helper()
	to := filepath.Join(s.dir, "copy")
	for _, name := range []string{"node.id", "replicas"} {
		from := filepath.Join(s.data(), name)
		info, err := os.Stat(from)
		if err == nil && info.IsDir() {
			err = os.CopyFS(filepath.Join(to, name), os.DirFS(from))
		} else if err == nil {
			err = errors.Join(os.MkdirAll(to, 0o700), os.Link(from, filepath.Join(to, name)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// lastClaim returns the sequence of the last tag in a journal.
func lastClaim(t *testing.T, s *site, stream string) uint64 {
	t.Helper()
	last := uint64(0)
	for line := range strings.Lines(s.must("events", "--stream", stream)) {
		if m := decodeLine(t, line); m.Kind == "tag" {
			last = m.Sequence
		}
	}
	return last
}

// nothingOfTag fails the test if behind a claim stand entries of an earlier tag.
func nothingOfTag(t *testing.T, s *site, stream string, claim uint64) {
	t.Helper()
	batches := 0
	var tag any
	for line := range strings.Lines(s.must("events", "--stream", stream)) {
		m := decodeLine(t, line)
		switch {
		case m.Sequence == claim:
			tag = m.Event["tag"]
		case m.Sequence > claim && m.Kind == "batch":
			batches++
			if m.Event["tag"] != tag {
				t.Errorf("the old owner wrote behind the claim of tag %v: %.300s", tag, line)
			}
		}
	}
	if batches == 0 {
		t.Errorf("nothing stands behind the claim of tag %v", tag)
	}
}

// nothingBehind fails the test if a journal holds entries behind a claim.
func nothingBehind(t *testing.T, s *site, stream string, claim uint64) {
	t.Helper()
	for line := range strings.Lines(s.must("events", "--stream", stream)) {
		if m := decodeLine(t, line); m.Sequence > claim && m.Kind == "batch" {
			t.Errorf("the old owner wrote behind the claim: %.300s", line)
		}
	}
}
