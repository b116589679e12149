package journal

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// A snapshot under load: no entry stands between its start and its finish, and it holds
// exactly what was acknowledged before it was asked for, and nothing that was sent after
// it was answered. A group snapshot is of one position for all images.
func TestSnapshotUnderLoad(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	const images, blocks = 2, 64
	var acknowledged [images]atomic.Uint64 // each image is filled with rising numbers, block by block
	var sent [images]atomic.Uint64
	var writers sync.WaitGroup
	ctx, halt := context.WithCancel(t.Context())
	for i := range images {
		create(t, d, fmt.Sprint("disk", i), 8<<20)
		dev := open(t, s, fmt.Sprint("vms/prod/disk", i))
		writers.Go(func() {
			done := make(chan error, 1)
			for n := uint64(1); ctx.Err() == nil; n++ {
				sent[i].Store(n)
				dev.Write(t.Context(), bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 2048), (n%blocks)*4096, false, func(err error) { done <- err })
				if err := <-done; err != nil {
					t.Errorf("write: %v", err)
					return
				}
				acknowledged[i].Store(n)
			}
		})
	}
	type bounds struct{ least, most [images]uint64 }
	taken := map[string]bounds{}
	for i := range 10 {
		name := fmt.Sprint("s", i)
		var b bounds
		for k := range images {
			b.least[k] = acknowledged[k].Load()
		}
		made := must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("", name))
		for k := range images {
			b.most[k] = sent[k].Load()
		}
		taken[name] = b
		if len(made) != images || made[0].Position != made[1].Position || !made[0].Group {
			t.Fatalf("%+v", made)
		}
	}
	halt()
	writers.Wait()
	var before logEntry
	for _, e := range journalOf(t, at, d) {
		start, isSnapshot := before.Event.(events.OperationStarted)
		if isSnapshot {
			_, isSnapshot = start.Intent.(events.SnapshotsCreated)
		}
		if f, ok := e.Event.(events.OperationFinished); isSnapshot && (!ok || f.Started != before.position) {
			t.Errorf("%T at %v follows the start of a snapshot at %v", e.Event, e.position, before.position)
		}
		before = e
	}
	check := func() {
		for name, b := range taken {
			for k := range images {
				dev := open(t, s, fmt.Sprintf("vms/prod/disk%d@%s", k, name))
				checkPrefix(t, read(t, dev, 0, blocks*4096), b.least[k], b.most[k])
				wantNil(t, dev.Close(t.Context()))
			}
		}
	}
	check()
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	check()
	if all := must[[]api.Snapshot](t, at, d, api.SnapList, api.ImageRequest{}); len(all) != 10*images {
		t.Errorf("%d snapshots", len(all))
	}
	must[api.Nothing](t, at, d, api.SnapRemove, snapRequest("", "s3"))
	if all := must[[]api.Snapshot](t, at, d, api.SnapList, api.ImageRequest{}); len(all) != 9*images {
		t.Errorf("%d snapshots after one was removed of all", len(all))
	}
}

// checkPrefix demands that an image holds the writes 1 to n, for an n within bounds.
func checkPrefix(t *testing.T, content []byte, least, most uint64) {
	t.Helper()
	newest := uint64(0)
	at := map[uint64]uint64{}
	for block := uint64(0); block*4096 < uint64(len(content)); block++ {
		p := content[block*4096:]
		n := uint64(p[0]) | uint64(p[1])<<8
		at[block] = n
		newest = max(newest, n)
	}
	if newest < least || newest > most {
		t.Errorf("the snapshot holds %d writes, not %d to %d", newest, least, most)
	}
	blocks := uint64(len(at))
	for block, n := range at {
		want := newest - (newest+blocks-block)%blocks
		if newest < blocks && block > newest {
			want = 0
		}
		if n != want {
			t.Errorf("block %d holds write %d, not %d of %d", block, n, want, newest)
		}
	}
}
