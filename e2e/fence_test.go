package e2e_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"tidemark/events"
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
// that took the directory over, and returns the claim's sequence.
func claimNextTag(t *testing.T, s *site, stream string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	js := s.jetStream()
	handle, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := handle.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last, err := handle.GetMsg(ctx, info.State.LastSeq)
	if err != nil {
		t.Fatal(err)
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
	ack, err := js.Publish(ctx, subject, msg)
	if err != nil {
		t.Fatal(err)
	}
	if ack.Sequence != info.State.LastSeq+1 {
		t.Fatalf("the stopped owner wrote meanwhile: the claim is message %d, the last had been %d", ack.Sequence, info.State.LastSeq)
	}
	return ack.Sequence
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
	stream := query[struct {
		Holder struct {
			Stream string `json:"stream"`
		} `json:"holder"`
	}](s, "dir", "info", "vms/prod").Holder.Stream
	l := newLoad(t, 16<<20, "vms/prod/a")
	w := l.start(s)
	w.awaitWrites(200)
	owner.pause()
	acked := w.acked.Load()
	seq := claimNextTag(t, s, stream)
	owner.resume()
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

// nothingBehind fails the test if a journal holds entries behind a claim.
func nothingBehind(t *testing.T, s *site, stream string, claim uint64) {
	t.Helper()
	for line := range strings.Lines(s.must("events", "--stream", stream)) {
		if m := decodeLine(t, line); m.Sequence > claim && m.Kind == "batch" {
			t.Errorf("the old owner wrote behind the claim: %.300s", line)
		}
	}
}
