package holder_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

const (
	id         = events.DirectoryID("0123456789abcdef")
	objectSize = 2 << 20
	objects    = 20_000 // more than a page of the list
)

// filled returns a copy with an image whose object 0 is full and whose every other
// object holds one byte.
func filled(t *testing.T) (holder.Copy, []byte) {
	t.Helper()
	name := events.DirectoryName{Pool: "vms", Path: "/prod"}
	r, err := replica.Create(vfs.OS(), t.TempDir(), replica.Identity{Directory: id, Name: name, History: "h"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	content := make([]byte, objectSize)
	for i := range content {
		content[i] = byte(i >> 9)
	}
	first := []events.Event{events.ImageCreated{Image: 1, Name: "disk", Size: objects * objectSize, ObjectSize: objectSize}}
	before := []events.Position{0}
	at := events.Mark{}
	msg, at := events.TagClaimed{Tag: 0x1001, Site: "s", Predecessor: at}.Encode(1)
	apply(t, r, msg)
	b := events.NewBatchBuilder(nil)
	for _, e := range first {
		b.Append(events.Entry{Before: before, Event: e})
	}
	last := events.Position(0)
	for off := 0; off < objectSize; off += events.PayloadMax {
		b.Append(events.Entry{Before: []events.Position{last}, Event: events.Written{Image: 1, Offset: uint64(off), Data: content[off : off+events.PayloadMax]}})
		last = events.At(0x1001, uint32(b.Count()))
	}
	for i := uint64(2); i < objects; i += 2 {
		b.Append(events.Entry{Before: before, Event: events.Written{Image: 1, Offset: i * objectSize, Data: []byte{1}}})
	}
	msg, _ = b.Seal(0x1001, at, 0, 2)
	apply(t, r, msg)
	return holder.Copy{ID: id, Name: name, Replica: r, ReadOnly: true}, content
}

func apply(t *testing.T, r *replica.Replica, msg []byte) {
	t.Helper()
	m, err := events.DecodeJournal(msg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(m, 1); err != nil {
		t.Fatal(err)
	}
}

func ask[Reply any](t *testing.T, site *sitetest.Site, request string, body any) (Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()
	return api.Call[Reply](ctx, site.Bus.Conn(), api.HolderSubject(id, request), body)
}

func serve(t *testing.T, site *sitetest.Site, handlers []api.Handler) {
	t.Helper()
	stop, err := api.Serve(t.Context(), site.Bus.Conn(), site.Log, handlers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
}

func TestImages(t *testing.T) {
	own, _ := filled(t)
	site := sitetest.Start(t, "east")
	serve(t, site, slices.Concat(own.Handlers(), own.Refusals()))
	images, err := ask[[]api.Image](t, site, api.ImageList, api.Nothing{})
	if err != nil || len(images) != 1 {
		t.Fatalf("%+v, %v", images, err)
	}
	got := images[0]
	if got.ID != 1 || got.Name != "vms/prod/disk" || got.Image != "disk" || got.Size != objects*objectSize || got.ObjectSize != objectSize ||
		got.Objects != objects/2 || !got.ReadOnly || got.Directory != id || got.UsedBytes < objectSize {
		t.Errorf("%+v", got)
	}
	if one, err := ask[api.Image](t, site, api.ImageInfo, api.ImageRequest{Image: "disk"}); err != nil || !cmp.Equal(one, got) {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := ask[api.Image](t, site, api.ImageInfo, api.ImageRequest{Image: "../disk"}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("no such image: %v", err)
	}
	for _, request := range []string{api.ImageCreate, api.ImageResize, api.ImageRemove} {
		if _, err := ask[api.Nothing](t, site, request, api.ImageRequest{Image: "x"}); fault.CodeOf(err) != fault.NotPrimary {
			t.Errorf("%s: %v", request, err)
		}
	}
}

func TestSyncSource(t *testing.T) {
	own, content := filled(t)
	site := sitetest.Start(t, "east")
	known := &followers{marks: map[string]events.Mark{}, gone: map[string]bool{}}
	serve(t, site, holder.SyncSource{
		Copy: own, Site: "uuid", Stream: "JOURNAL_x", Complete: func() bool { return true }, Followers: known,
		Compaction: holder.NewCompaction(own.Replica, func() bool { return true }),
	}.Handlers())

	mark := events.Mark{Position: events.At(0x1001, 3), Chain: 5}
	begin, err := ask[holder.SyncBeginReply](t, site, api.SyncBegin, api.SyncBeginRequest{Client: "west.n", Mark: mark})
	if err != nil || begin.Site != "uuid" || begin.Stream != "JOURNAL_x" || known.marks["west.n"] != mark ||
		begin.Hold != 0 {
		t.Errorf("begin: %+v, %v, registered %v", begin, err, known.marks)
	}
	if _, err := ask[holder.SyncBeginReply](t, site, api.SyncBegin, api.SyncBeginRequest{Client: "evil.n"}); fault.CodeOf(err) != fault.Denied {
		t.Errorf("refused client: %v", err)
	}
	for _, client := range []string{"", "a/b", "*", ".."} {
		if _, err := ask[holder.SyncBeginReply](t, site, api.SyncBegin, api.SyncBeginRequest{Client: client}); fault.CodeOf(err) != fault.Usage {
			t.Errorf("client %q: %v", client, err)
		}
	}
	checkDisconnected(t, site, known)
	begin, err = ask[holder.SyncBeginReply](t, site, api.SyncBegin, api.SyncBeginRequest{Client: "west.n", Copying: true})
	if err != nil || begin.Hold == 0 {
		t.Fatalf("begin to copy: %+v, %v", begin, err)
	}
	checkStart(t, site, begin.Hold, own.Replica)
	layer := uint32(own.Replica.Layers()[0].ID)
	checkPages(t, site, begin.Hold, layer)
	for _, index := range []uint64{0, 2, 1} {
		data := object(t, site, api.SyncObjectRequest{Hold: begin.Hold, Layer: layer, Index: index})
		switch {
		case index == 0 && !bytes.Equal(data, content):
			t.Errorf("object 0 differs: %d bytes", len(data))
		case index == 2 && (len(data) != replica.BlockSize || data[0] != 1):
			t.Errorf("object 2: %d bytes", len(data))
		case index == 1 && len(data) != 0:
			t.Errorf("an object that was never written: %d bytes", len(data))
		}
	}
}

// followers is who may follow.
type followers struct {
	marks map[string]events.Mark
	gone  map[string]bool
}

func (*followers) Admit(_, site string) error {
	if site == "stranger" {
		return fault.New(fault.Denied, "no peer")
	}
	return nil
}

func (f *followers) Disconnected(_ events.DirectoryID, client string) bool { return f.gone[client] }

func (f *followers) Register(_ context.Context, p events.PositionCommitted) error {
	if p.Client == "evil.n" {
		return fault.New(fault.Denied, "no")
	}
	f.marks[p.Client] = p.Mark
	return nil
}

// checkDisconnected has a client disconnected: it is told so when it asks, and is not let
// in before it is empty.
func checkDisconnected(t *testing.T, site *sitetest.Site, known *followers) {
	t.Helper()
	check := api.SyncCheckRequest{Client: "west.n"}
	if reply, err := ask[api.SyncCheckReply](t, site, api.SyncCheck, check); err != nil || reply.Disconnected {
		t.Errorf("connected: %+v, %v", reply, err)
	}
	known.gone["west.n"] = true
	delete(known.marks, "west.n")
	if reply, err := ask[api.SyncCheckReply](t, site, api.SyncCheck, check); err != nil || !reply.Disconnected {
		t.Errorf("disconnected: %+v, %v", reply, err)
	}
	request := api.SyncBeginRequest{Client: "west.n", Mark: events.Mark{Position: events.At(0x1001, 3), Chain: 5}}
	if begin, err := ask[holder.SyncBeginReply](t, site, api.SyncBegin, request); err != nil || !begin.Disconnected || len(known.marks) > 0 {
		t.Errorf("a disconnected client was let in: %+v, %v", begin, err)
	}
	request.Mark = events.Mark{}
	if begin, err := ask[holder.SyncBeginReply](t, site, api.SyncBegin, request); err != nil || begin.Disconnected || len(known.marks) != 1 {
		t.Errorf("an empty client was not let in: %+v, %v", begin, err)
	}
	request.Site, check.Site = "stranger", "stranger"
	if _, err := ask[holder.SyncBeginReply](t, site, api.SyncBegin, request); fault.CodeOf(err) != fault.Denied {
		t.Errorf("a stranger begins: %v", err)
	}
	if _, err := ask[api.SyncCheckReply](t, site, api.SyncCheck, check); fault.CodeOf(err) != fault.Denied {
		t.Errorf("a stranger checks: %v", err)
	}
}

// checkPages lists all objects, page by page.
func checkPages(t *testing.T, site *sitetest.Site, hold uint64, layer uint32) {
	t.Helper()
	var all []uint64
	for from, pages := uint64(0), 0; ; pages++ {
		page, err := ask[api.SyncObjectsReply](t, site, api.SyncObjects, api.SyncObjectsRequest{Hold: hold, Layer: layer, From: from})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Objects...)
		if from = page.Next; from == 0 {
			if pages == 0 {
				t.Error("all in one page")
			}
			break
		}
	}
	if len(all) != objects/2 || !slices.IsSorted(all) || all[0] != 0 || all[len(all)-1] != objects-2 {
		t.Errorf("%d objects", len(all))
	}
	if page, err := ask[api.SyncObjectsReply](t, site, api.SyncObjects, api.SyncObjectsRequest{Hold: hold, Layer: layer, From: 1 << 60}); err != nil || len(page.Objects) != 0 || page.Next != 0 {
		t.Errorf("behind the end: %+v, %v", page, err)
	}
	if _, err := ask[api.SyncObjectsReply](t, site, api.SyncObjects, api.SyncObjectsRequest{Hold: hold, Layer: 9}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("no layer: %v", err)
	}
	for _, other := range []uint64{0, hold + 2} {
		if _, err := ask[api.SyncObjectsReply](t, site, api.SyncObjects, api.SyncObjectsRequest{Hold: other, Layer: layer}); fault.CodeOf(err) != fault.NotReady {
			t.Errorf("a hold that has ended: %v", err)
		}
		for kind, request := range map[string]any{api.SyncStart: api.SyncStartRequest{Hold: other}, api.SyncObject: api.SyncObjectRequest{Hold: other, Layer: layer}} {
			if _, err := series(t, site, kind, request); fault.CodeOf(err) != fault.NotReady {
				t.Errorf("%s of a hold that has ended: %v", kind, err)
			}
		}
	}
	if _, err := series(t, site, api.SyncObject, api.SyncObjectRequest{Hold: hold, Layer: 9}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("an object of no layer: %v", err)
	}
}

// checkStart asks for where the source stands.
func checkStart(t *testing.T, site *sitetest.Site, hold uint64, r *replica.Replica) {
	t.Helper()
	parts, err := series(t, site, api.SyncStart, api.SyncStartRequest{Hold: hold})
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, p := range parts {
		data = append(data, p.Data...)
	}
	var start replica.SyncStart
	if err := json.Unmarshal(data, &start); err != nil {
		t.Fatal(err)
	}
	if start.Mark != r.Applied() || len(start.Images) != 1 || len(start.Tags) != 1 {
		t.Errorf("start: %+v", start)
	}
}

// object fetches an object's data.
func object(t *testing.T, site *sitetest.Site, r api.SyncObjectRequest) []byte {
	t.Helper()
	parts, err := series(t, site, api.SyncObject, r)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for i, p := range parts {
		if p.Layer != r.Layer || p.Index != r.Index || len(p.Data) > events.ObjectPartBytesMax || (i > 0) && len(p.Blocks)+len(p.Hidden) > 0 {
			t.Fatalf("part %d: %+v", i, p)
		}
		data = append(data, p.Data...)
	}
	return data
}

// series asks for something that comes in parts.
func series(t *testing.T, site *sitetest.Site, kind string, request any) ([]*events.ObjectPart, error) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	nc := site.Bus.Conn()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(api.HolderSubject(id, kind), inbox, body); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()
	var parts []*events.ObjectPart
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := api.AnsweredError(m.Data); err != nil {
			return parts, err
		}
		p, err := events.DecodeObjectPart(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if int(p.Part) != len(parts) {
			t.Fatalf("part %d comes after %d others", p.Part, len(parts))
		}
		if parts = append(parts, p); p.Part+1 == p.Parts {
			return parts, nil
		}
	}
}
