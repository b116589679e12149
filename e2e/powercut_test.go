package e2e_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const (
	cutCycles     = 60
	cutTime       = 30 * time.Second
	cutsPerSite   = 20 // the log grows, and is copied at each cut
	cutsPerLook   = 5  // at the follower
	cutImageBytes = "8388608"
)

// TestPowerCut cuts the power of a site under writes, again and again: of its log only
// what was synced is left for certain, and of what was not, any part, torn between
// sectors; of its copies what internal/vfs says. The site must start on what is left, hold
// everything that was flushed or written with FUA, and hold a prefix of what was written,
// at one position over all images; large writes are whole; snapshots are as they were. Its follower at the other site,
// which the cut does not touch, must come to hold the same; journal 89, 97, 115, 116, 123.
//
// The site runs in the test's process on disks that know what was synced
// (harness_disk_test.go). TIDEMARK_E2E_LONG=30m lets it run for so long.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("cuts: seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	began, limit := time.Now(), cutTime
	if long := longRun(t); long > 0 {
		limit = long
	}
	total := &cutReport{}
	for n := 0; total.cuts < cutCycles && time.Since(began) < limit || limit > cutTime && time.Since(began) < limit; n++ {
		// A test of its own gives the site's folders and memory back when it is over.
		if !t.Run(fmt.Sprintf("site %d", n), func(t *testing.T) { cutOneSite(t, n, random, total, began.Add(limit)) }) {
			return
		}
		t.Logf("%d cuts in %s (%.1f a second): %d of %d acknowledged writes were lost, none of them flushed",
			total.cuts, seconds(began), float64(total.cuts)/time.Since(began).Seconds(), total.lost, total.acknowledged)
	}
	if total.lost == 0 && total.cuts > cutsPerSite {
		t.Error("no cut lost anything: they were none")
	}
}

type cutReport struct{ cuts, acknowledged, lost int }

// cutOneSite founds a site, and cuts its power again and again.
func cutOneSite(t *testing.T, n int, random *rand.Rand, total *cutReport, deadline time.Time) {
	t.Helper()
	east, west := newInside(t, fmt.Sprintf("east%d", n)), newSite(t, fmt.Sprintf("west%d", n))
	east.start()
	west.start()
	peers(t, "vms", east.site, west)
	images := []string{"vms/cut/a", "vms/cut/b"}
	for _, image := range images {
		east.createImage(image, cutImageBytes, "--object-size", "1MiB")
	}
	west.must("mirror", "add", "vms/cut")
	l := newLoadOf(t, sectors(), images...)
	snaps := &keptSnapshots{site: east.site, dir: "vms/cut", images: images, digests: map[string][][sha256.Size]byte{}}
	for cut := range cutsPerSite {
		snaps.change(random)
		w := l.start(east.site)
		w.awaitWrites(random.Int64N(100))
		v := l.work.Verify()
		east.cutPower(random, func() { v = l.work.Verify() })
		w.abandon()
		east.start()
		l.show(east.site, v)
		verdict := v.Verdict()
		if err := verdict.Durable(); err != nil {
			t.Fatalf("after %d power cuts: %v", total.cuts+1, err)
		}
		l.work.Continue(v)
		if cut%2 == 1 {
			snaps.check(random)
		}
		total.cuts++
		total.lost += verdict.Missing
		total.acknowledged += verdict.Acknowledged
		if cut%cutsPerLook == 0 {
			awaitLevel(t, east.site, west, "vms/cut")
			sameContent(t, east.site, west, images...)
		}
		if time.Now().After(deadline) {
			break
		}
	}
	east.stop()
	west.kill()
}

// keptSnapshots are snapshots of a whole directory that were answered, so that no power cut
// may take or change them. Those that are removed give their layers to be merged.
type keptSnapshots struct {
	site    *site
	dir     string
	images  []string
	digests map[string][][sha256.Size]byte // by name: of each image
	next    int
}

const snapshotsKept = 3

// change makes a snapshot, or removes one.
func (k *keptSnapshots) change(random *rand.Rand) {
	k.site.t.Helper()
	if len(k.digests) < snapshotsKept {
		k.next++
		name := fmt.Sprintf("s%d", k.next)
		k.site.must("snap", "create", k.dir+"@"+name)
		k.digests[name] = k.digestsOf(name)
		return
	}
	name := k.pick(random)
	k.site.mustUnused("snap", "remove", k.dir+"@"+name)
	delete(k.digests, name)
}

// check compares one of the snapshots, and what there is of them.
func (k *keptSnapshots) check(random *rand.Rand) {
	k.site.t.Helper()
	name := k.pick(random)
	if got := k.digestsOf(name); !slices.Equal(got, k.digests[name]) {
		k.site.t.Fatalf("snapshot %s does not hold what it held before the power was cut", name)
	}
	list := query[[]struct {
		Snapshot string `json:"snapshot"`
	}](k.site, "snap", "list", k.images[0])
	if len(list) != len(k.digests) {
		k.site.t.Fatalf("there are snapshots %v, want %d", list, len(k.digests))
	}
}

func (k *keptSnapshots) pick(random *rand.Rand) string {
	names := slices.Sorted(maps.Keys(k.digests))
	return names[random.IntN(len(names))]
}

func (k *keptSnapshots) digestsOf(name string) [][sha256.Size]byte {
	k.site.t.Helper()
	var all [][sha256.Size]byte
	for _, image := range k.images {
		all = append(all, k.site.digest(image+"@"+name))
	}
	return all
}
