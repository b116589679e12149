package holder_test

import (
	"slices"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/holder"
	"tidemark/internal/sitetest"
)

// A trim that comes between looking at the log and reading its first message is no reason
// to refuse to say how the journal is.
func TestJournalStatusDuringATrim(t *testing.T) {
	own, _ := filled(t)
	site := sitetest.Start(t, "east")
	name := events.JournalStream(own.Name, id)
	subject := events.JournalSubject(site.Node.Site.Name, id)
	log, err := site.Bus.OpenLog(t.Context(), events.Stream{Name: name, Subjects: []string{subject + ".>"}, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	at := events.Mark{}
	for n := range uint64(3) {
		message, next := events.TagClaimed{Tag: events.Tag(0x1001 + n*0x10), Site: "s", Predecessor: at}.Encode(events.Instant(n + 1))
		if _, err := log.Append(t.Context(), subject+".x", message, n); err != nil {
			t.Fatal(err)
		}
		at = next
	}
	trimmed := uint64(1)
	own.Journal = &holder.Journal{Log: log, Condition: func() holder.Condition {
		trimmed++
		if err := log.Trim(t.Context(), trimmed); err != nil {
			t.Error(err)
		}
		return holder.Condition{State: "ready", Head: at}
	}}
	serve(t, site, slices.Concat(own.Handlers(), own.Refusals()))
	for n := uint64(1); n < 3; n++ {
		status, err := ask[api.JournalState](t, site, api.JournalStatus, api.Nothing{})
		if want := events.At(events.Tag(0x1001+n*0x10), 0); err != nil || status.Minimum != want {
			t.Errorf("after %d trims the journal begins at %v, want %v: %v", n, status.Minimum, want, err)
		}
	}
}
