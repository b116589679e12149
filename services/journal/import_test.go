package journal

import (
	"bytes"
	"slices"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/tail"
)

// exported makes of a log what an export of it holds, as the command line does: changes
// and the facts of operations that did not fail. Images go by the names that they have in
// names, snapshots by those in snapshots.
func exported(all []logEntry, names map[events.ImageID]string, snapshots map[events.SnapshotID]string) []api.ImportEntry {
	intents := map[events.Position]events.Event{}
	var out []api.ImportEntry
	for _, e := range all {
		fact := e.Event
		switch f := fact.(type) {
		case events.OperationStarted:
			intents[e.position] = f.Intent
			continue
		case events.OperationFinished:
			if fact = intents[f.Started]; fact == nil || f.Failure != "" {
				continue
			}
		case events.Flushed:
			continue
		}
		i := api.ImportEntry{Entry: events.EncodeEntry(events.Entry{Event: fact})}
		if image, _, _, ok := events.Range(fact); ok {
			i.Image = names[image]
		}
		switch f := fact.(type) {
		case events.SnapshotsCreated:
			for k, image := range f.Images {
				i.Images = append(i.Images, names[image])
				snapshots[f.First+events.SnapshotID(k)] = f.Name
			}
		case events.SnapshotProtected:
			i.Image, i.Snapshot = names[f.Image], snapshots[f.Snapshot]
		case events.ImageCloned:
			i.Image, i.Snapshot = names[f.Parent], snapshots[f.Snapshot]
		case events.ImageResized:
			i.Image = names[f.Image]
		case events.MetadataSet:
			i.Image = names[f.Image]
		}
		out = append(out, i)
	}
	return out
}

// journal 105, journal 193: a journal's entries since a snapshot, executed again after a rollback
// to it, make the image what it was; other writers wait meanwhile.
func TestImportMakesTheImageWhatItWas(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	create(t, d, "other", 8<<20)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	write(t, dev, pattern(1, 100_000), 0, false)
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("disk0", "start"))
	since := len(journalOf(t, at, d))

	write(t, dev, pattern(2, 700_000), 50_000, false)
	must[api.Nothing](t, at, d, api.ImageFill, api.ImageFillRequest{Image: "disk0", Offset: 5000, Length: 3000, Pattern: []byte("abc")})
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("", "middle"))
	must[api.Snapshot](t, at, d, api.SnapProtect, snapRequest("disk0", "middle"))
	must[api.Image](t, at, d, api.ImageClone, api.ImageCloneRequest{Image: "disk0", Snapshot: "middle", NewName: "clone"})
	was := read(t, dev, 300_000, 3)
	must[api.Nothing](t, at, d, api.ImageCompare, api.ImageCompareRequest{Image: "disk0", Offset: 300_000, Compare: was, Data: []byte("new")})
	must[api.Image](t, at, d, api.ImageResize, api.ImageResizeRequest{Image: "disk0", Size: 10 << 20})
	must[api.Nothing](t, at, d, api.MetadataSet, api.MetadataRequest{Image: "disk0", Key: "k", Value: "v"})
	wantNil(t, dev.Close(t.Context()))
	dev = open(t, s, "vms/prod/disk0")
	write(t, dev, pattern(3, 9000), 9<<20, false)
	want := read(t, dev, 0, 10<<20)
	wantNil(t, dev.Close(t.Context()))
	names := map[events.ImageID]string{1: "other", 2: "disk0"}
	entries := exported(journalOf(t, at, d)[since:], names, map[events.SnapshotID]string{})

	must[api.Image](t, at, d, api.ImageRemove, api.ImageRequest{Image: "clone"})
	must[api.Snapshot](t, at, d, api.SnapUnprotect, snapRequest("disk0", "middle"))
	must[api.Nothing](t, at, d, api.SnapRemove, snapRequest("", "middle"))
	must[api.Nothing](t, at, d, api.SnapRollback, snapRequest("disk0", "start"))
	var during State
	d.life.operations.allow = func(events.Event) error {
		during, _ = d.condition()
		return nil
	}
	reply := must[api.JournalImportReply](t, at, d, api.JournalImport, api.JournalImportRequest{Entries: entries})
	if during != Importing {
		t.Errorf("during the import the directory is %s", during)
	}
	if reply.Refused != nil || reply.Executed != uint64(len(entries)) || reply.Ignored != 0 {
		t.Fatalf("%+v of %d, %+v", reply, len(entries), reply.Refused)
	}
	check := func() {
		t.Helper()
		if got := read(t, open(t, s, "vms/prod/disk0"), 0, len(want)); !bytes.Equal(got, want) {
			t.Errorf("%d bytes differ", differing(got, want))
		}
		if got := infoOf(t, at, d, "clone"); got.Parent != "disk0@middle" {
			t.Errorf("%+v", got)
		}
	}
	check()
	if state, _ := d.condition(); state != Ready {
		t.Errorf("after the import the directory is %s", state)
	}
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	check()
}

// An import does not wait for the room that writers hold who wait for its end.
func TestImportGoesAheadOfWaitingWriters(t *testing.T) {
	t.Parallel()
	at, _, d, _ := owning(t, 8<<20)
	wantNil(t, d.life.tail.Room(t.Context(), tail.UnappliedBytesMax))
	reply := must[api.JournalImportReply](t, at, d, api.JournalImport, api.JournalImportRequest{Entries: []api.ImportEntry{
		importOf(api.ImportEntry{Image: "disk0"}, events.Written{Image: 1, Data: []byte("abc")}),
	}})
	if reply.Refused != nil || reply.Executed != 1 {
		t.Errorf("%+v", reply)
	}
}

func importOf(e api.ImportEntry, event events.Event) api.ImportEntry {
	e.Entry = events.EncodeEntry(events.Entry{Event: event})
	return e
}

// Events whose effect is there already are ignored where librbd's replay ignores them, and
// no others.
func TestImportIgnores(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, _ := start(t, at)
	d := acquire(t, s)
	prepare(t, s, at, d, pattern(1, 4096))
	on := api.ImportEntry{Image: "disk0"}
	snap := func(name string) api.ImportEntry { return api.ImportEntry{Image: "disk0", Snapshot: name} }
	for _, c := range []struct {
		name  string
		entry api.ImportEntry
		code  fault.Code // empty: ignored
	}{
		{"journal 150: snapshot create", importOf(api.ImportEntry{Images: []string{"disk0"}}, events.SnapshotsCreated{Name: "s1", First: 1, Images: []events.ImageID{9}}), ""},
		{"journal 151: snapshot remove", importOf(snap("none"), events.SnapshotRemoved{}), ""},
		{"journal 152: snapshot rename", importOf(snap("none"), events.SnapshotRenamed{Name: "s1"}), ""},
		{"journal 152: snapshot rename over another", importOf(snap("s1"), events.SnapshotRenamed{Name: "safe"}), ""},
		{"journal 153: snapshot protect", importOf(snap("safe"), events.SnapshotProtected{}), ""},
		{"journal 154: snapshot unprotect", importOf(snap("s1"), events.SnapshotUnprotected{}), ""},
		{"journal 156: rename", importOf(api.ImportEntry{Image: "none"}, events.ImageRenamed{From: "none", To: "disk0"}), ""},
		{"journal 157: flatten", importOf(on, events.ImageFlattened{}), ""},
		{"journal 158: metadata remove", importOf(on, events.MetadataRemoved{Key: "none"}), ""},
		{"journal 159: snapshot limit", importOf(on, events.SnapshotLimitChanged{Limit: 1}), ""},
		{"create", importOf(on, events.ImageCreated{Name: "disk0", Size: 8 << 20, ObjectSize: replica.ObjectSizeDefault}), ""},
		{"remove", importOf(api.ImportEntry{Image: "none"}, events.ImageRemoved{}), ""},
		{"journal 103: compare and write", importOf(on, events.CompareWritten{Compare: []byte("never there"), Data: []byte("new content")}), ""},
		{"write behind the end", importOf(on, events.Written{Offset: 8 << 20, Data: []byte{1}}), ""},

		{"journal 160: rollback", importOf(snap("none"), events.SnapshotRolledBack{}), fault.NotFound},
		{"journal 160: resize", importOf(on, events.ImageResized{Size: 0}), fault.Usage},
		{"journal 160: features", importOf(on, events.FeatureChanged{Feature: "none"}), fault.Usage},
		{"journal 160: metadata set", importOf(on, events.MetadataSet{}), fault.Usage},
		{"rename of nothing", importOf(api.ImportEntry{Image: "none"}, events.ImageRenamed{From: "none", To: "other"}), fault.NotFound},
		{"write to nothing", importOf(api.ImportEntry{Image: "none"}, events.Written{Data: []byte{1}}), fault.NotFound},
		{"journal 161, journal 166: a start by itself", importOf(on, events.OperationStarted{Intent: events.ImageRemoved{Image: 1}}), fault.Usage},
		{"journal 128: a finish by itself", importOf(on, events.OperationFinished{Started: 7}), fault.Usage},
		{"journal 149: garbage", api.ImportEntry{Image: "disk0", Entry: []byte("\xff\x00garbage")}, fault.Corrupt},
		{"an empty write", importOf(on, events.Written{}), fault.Corrupt},
		{"a range that wraps", importOf(on, events.Discarded{Offset: 5, Length: 1<<64 - 1}), fault.Corrupt},
		{"a pattern of nothing", importOf(on, events.PatternWritten{Length: 1 << 20}), fault.Corrupt},
		{"a comparison with less", importOf(on, events.CompareWritten{Compare: []byte("a"), Data: []byte("ab")}), fault.Corrupt},
		{"a name with a slash", importOf(on, events.ImageCreated{Name: "a/b", Size: 8 << 20, ObjectSize: replica.ObjectSizeDefault}), fault.Usage},
		{"snapshots of other images", importOf(api.ImportEntry{Images: []string{"disk0", "clone"}}, events.SnapshotsCreated{Name: "x", First: 1, Images: []events.ImageID{9}}), fault.Corrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(journalOf(t, at, d))
			reply := must[api.JournalImportReply](t, at, d, api.JournalImport, api.JournalImportRequest{Entries: []api.ImportEntry{c.entry}})
			code := fault.Code("")
			if reply.Refused != nil {
				code = reply.Refused.Code
			}
			if ignored := uint64(1); code != c.code || code == "" && reply.Ignored != ignored || reply.Executed != 0 {
				t.Errorf("%+v, %+v", reply, reply.Refused)
			}
			if n := len(journalOf(t, at, d)) - before; n != 0 {
				t.Errorf("it left %d entries", n)
			}
		})
	}
}

// journal 106: the first event that cannot be executed ends the import; what is behind it
// is not executed, and the directory goes on.
func TestImportEndsAtARefusal(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	on := api.ImportEntry{Image: "disk0"}
	entries := []api.ImportEntry{
		importOf(on, events.Written{Data: []byte("first")}),
		importOf(on, events.Written{Offset: 8 << 20, Data: []byte("ignored")}),
		importOf(on, events.Written{Offset: 8<<20 - 3, Data: []byte("cut off")}),
		importOf(on, events.ImageResized{Size: 1}),
		importOf(on, events.Written{Data: []byte("never")}),
	}
	reply := must[api.JournalImportReply](t, at, d, api.JournalImport, api.JournalImportRequest{Entries: entries})
	if reply.Refused == nil || reply.Executed != 2 || reply.Ignored != 1 {
		t.Errorf("%+v, %+v", reply, reply.Refused)
	}
	dev := open(t, s, "vms/prod/disk0")
	if got := read(t, dev, 0, 5); string(got) != "first" {
		t.Errorf("%q", got)
	}
	if got := read(t, dev, 8<<20-3, 3); string(got) != "cut" {
		t.Errorf("%q", got)
	}
	write(t, dev, []byte("on"), 0, true)
}

// A log that becomes full during an import refuses it there, and what was executed before
// is what is in the log.
func TestImportIntoAFullLog(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	cut := &breakAt{refused: func() {}}
	guarded(t, at, cut.guard, nil)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	d.life.writer.fullTime = 0
	var entries []api.ImportEntry
	for i := range 20 {
		entries = append(entries, importOf(api.ImportEntry{Image: "disk0"}, events.Written{Offset: uint64(i) * 65536, Data: pattern(uint64(i), 20_000)}))
		if i%5 == 4 {
			entries = append(entries, importOf(api.ImportEntry{Images: []string{"disk0"}}, events.SnapshotsCreated{Name: string(rune('a' + i)), First: 1, Images: []events.ImageID{1}}))
		}
	}
	cut.arm(4)
	reply := must[api.JournalImportReply](t, at, d, api.JournalImport, api.JournalImportRequest{Entries: entries})
	if reply.Refused == nil || reply.Refused.Code != fault.NoSpace {
		t.Fatalf("%+v", reply)
	}
	cut.arm(0)
	written := uint64(0)
	for _, e := range journalOf(t, at, d) {
		switch e.Event.(type) {
		case events.Written, events.OperationFinished:
			written++
		}
	}
	if written != reply.Executed+1 { // the image's creation
		t.Errorf("%d executed, %d in the log", reply.Executed, written)
	}
}

// A reset drops history and clients, keeps the content, and may be said
// again.
func TestReset(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	prepare(t, s, at, d, pattern(1, 100_000))
	follower := events.PositionCommitted{Directory: d.id, Client: "east.other", Site: at.Node.Site.UUID, Mark: d.life.claim.Load().Mark}
	wantNil(t, s.clients.Register(t.Context(), at.Bus, follower))
	must[api.Nothing](t, at, d, api.JournalReset, api.Nothing{})
	if left := journalOf(t, at, d); len(left) != 0 {
		t.Errorf("%d entries are left", len(left))
	}
	state := must[api.JournalState](t, at, d, api.JournalStatus, api.Nothing{})
	tags := must[[]api.Tag](t, at, d, api.JournalTags, api.Nothing{})
	last := tags[len(tags)-1]
	i := slices.IndexFunc(state.Clients, func(c api.JournalClient) bool { return c.ID == "east.other" })
	if state.Minimum != events.At(last.Tag, 0) || last.Reason != events.TagReset || i < 0 || state.Clients[i].State != events.ClientDisconnected {
		t.Errorf("%+v, %+v", state, last)
	}
	must[api.Nothing](t, at, d, api.JournalReset, api.Nothing{})
	if again := must[[]api.Tag](t, at, d, api.JournalTags, api.Nothing{}); len(again) != len(tags) {
		t.Errorf("a reset of a reset journal claimed a tag")
	}
	dev := open(t, s, "vms/prod/disk0")
	write(t, dev, []byte("behind"), 0, true)
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	want := append([]byte("behind"), pattern(77, 100_000)[6:]...)
	if got := read(t, open(t, s, "vms/prod/disk0"), 0, len(want)); !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ", differing(got, want))
	}
	told := notes(t, at)
	if !slices.ContainsFunc(told, func(n events.LifecycleNoted) bool { return n.What == events.JournalReset }) {
		t.Error("nobody was told")
	}
}

// journal 104, journal 187, journal 191: each write is one entry, and status shows where the journal and its
// clients stand.
func TestJournalStatus(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	before := must[api.JournalState](t, at, d, api.JournalStatus, api.Nothing{})
	for i := range 10 {
		write(t, dev, pattern(1, 4096), uint64(i)*4096, true)
	}
	after := must[api.JournalState](t, at, d, api.JournalStatus, api.Nothing{})
	if after.Entry != before.Entry+10 || after.Entries != before.Entries+10 || after.Tag != before.Tag || after.State != string(Ready) {
		t.Errorf("%+v after %+v", after, before)
	}
	if _, err := d.life.tail.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "the own copy stands at the last write", func() bool {
		for _, c := range must[api.JournalState](t, at, d, api.JournalStatus, api.Nothing{}).Clients {
			if c.ID == s.clients.Self() {
				return c.Commit == api.TagEntry{Tag: after.Tag, Entry: after.Entry} && c.Entries == 0
			}
		}
		return false
	})
	info := must[api.Journal](t, at, d, api.JournalInfo, api.Nothing{})
	if info.Directory != d.id || info.FlushBytes != events.BatchBytesMax || info.InFlight != 1 || info.PayloadBytes != events.PayloadMax ||
		info.BytesLimit != 1<<30 || info.Stream == "" || info.Subject == "" {
		t.Errorf("%+v", info)
	}
}
