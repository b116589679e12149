package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"tidemark/internal/sitetest"
)

// TestOperationsFollow carries operations out at the primary, many of which are refused, while
// a replica follows that is killed now and then: every name, size, piece of metadata,
// clone, snapshot and content is the same there; journal 248, 261, 262, 270, 284, 293.
func TestOperationsFollow(t *testing.T) {
	t.Parallel()
	operations := 80
	if sitetest.RaceDetector { // each is a process, and each look at the sites is many
		operations = 32
	}
	east, west := pair(t)
	east.createImage(operationsDir+"/i0", strconv.Itoa(operationImage), "--object-size", "64KiB")
	west.must("mirror", "add", operationsDir)
	o := &operator{t: t, site: east, now: catalogueOf(east, operationsDir), count: map[string]int{}}
	for n := range operations {
		o.writeSomewhere()
		op := o.random()
		if o.perform(op, false) == 0 {
			o.now = op.effect(o.now)
		}
		if n%16 == 15 {
			west.kill()
			west.start()
		}
		if n%10 == 9 {
			o.now = catalogueOf(east, operationsDir)
			awaitLevel(t, east, west, operationsDir)
			if diff := o.now.difference(catalogueOf(west, operationsDir)); diff != "" {
				t.Fatalf("west differs after %s (-east +west): %s", op, diff)
			}
		}
	}
	t.Logf("operations by what they said: %v", o.count)
}

// TestSnapshotsAndFeaturesFollow renames a snapshot twenty times in a row, turns a feature
// on and off, and moves an image to another name and back, with the replica started again
// in between. A clone at the replica is refused; journal 247, 284, 293, 296.
func TestSnapshotsAndFeaturesFollow(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	const image = "vms/prod/a"
	east.createImage(image, "8MiB", "--object-size", "1MiB")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	l := newLoad(t, 8<<20, image)
	w := l.start(east)
	w.awaitWrites(50)
	w.end()
	east.must("snap", "create", image+"@s0")
	sum := east.digest(image + "@s0")
	same := func() {
		t.Helper()
		awaitLevel(t, east, west, "vms/prod")
		if diff := catalogueOf(east, "vms/prod").difference(catalogueOf(west, "vms/prod")); diff != "" {
			t.Fatalf("(-east +west): %s", diff)
		}
	}
	for n := range 20 {
		east.must("snap", "rename", fmt.Sprintf("%s@s%d", image, n), fmt.Sprintf("s%d", n+1))
		if rand.IntN(8) == 0 {
			west.kill()
			west.start()
		}
	}
	same()
	if west.digest(image+"@s20") != sum {
		t.Error("the snapshot differs at west after it was renamed twenty times")
	}
	west.refused(5, "not_primary", "snap", "protect", image+"@s20")
	east.must("snap", "protect", image+"@s20")
	east.must("clone", image+"@s20", "trial")
	same()
	west.refused(5, "not_primary", "clone", image+"@s20", "mine")
	east.must("image", "feature", "enable", image, "read-only")
	same()
	if at, from := features(west, image), features(east, image); at != from {
		t.Errorf("the image has %s at west, %s at east", at, from)
	}
	east.must("image", "feature", "disable", image, "read-only")
	east.must("image", "rename", image, "vms/prod/b")
	same()
	west.terminate()
	west.start()
	east.must("image", "rename", "vms/prod/b", image)
	same()
	l.demandComplete(west)
}

// features prints the features of an image.
func features(s *site, image string) string {
	s.t.Helper()
	return fmt.Sprint(query[struct {
		Features []string `json:"features"`
	}](s, "image", "info", image).Features)
}
