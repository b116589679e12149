package replayer

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// conflicts returns the conflict images that a site lists, by name.
func (p *party) conflicts() (names []string) {
	p.t.Helper()
	for _, image := range must[[]api.Image](p, api.ImageList, api.Nothing{}) {
		if image.ConflictOf != "" {
			names = append(names, image.Image)
		}
	}
	return names
}

// rivals 9: with --keep-refused what is given up stays readable, of the images that were
// changed; through restarts, promotions and demotions, until it is removed.
func TestResyncKeepsWhatIsRefused(t *testing.T) {
	t.Parallel()
	east, west, rng := splitBrain(t, 3, 1<<20)
	east.scribble(rng, "disk0", 1<<20, 10)
	west.scribble(rng, "disk0", 1<<20, 10)
	west.write("disk1", []byte("only at west"), 4000)
	must[[]api.Snapshot](west, api.SnapCreate, api.SnapRequest{Image: "disk1", Snapshot: "noon"})
	west.write("disk1", []byte("later"), 4000)
	disks := map[string][]byte{"disk0": west.read("vms/prod/disk0"), "disk1": west.read("vms/prod/disk1")}
	snapshot := west.read("vms/prod/disk1@noon")
	west.release()
	west.acquire(1, true)
	sitetest.Eventually(t, "west follows again", func() bool { return west.shows(Replaying, "")() && len(west.conflicts()) > 0 })
	_, ended, _ := strings.Cut(west.conflicts()[0], ".conflict-")
	if !regexp.MustCompile(`^\d+\.\d+$`).MatchString(ended) {
		t.Fatalf("%q is no position", ended)
	}
	kept := map[string][]byte{}
	for image, data := range disks {
		kept[image+".conflict-"+ended] = data
	}

	check := func(when string) {
		t.Helper()
		names := west.conflicts()
		if len(names) != len(kept) {
			t.Fatalf("%s: %v are listed, want %d", when, names, len(kept))
		}
		listed, err := west.exports().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range kept {
			info := must[api.Image](west, api.ImageInfo, api.ImageRequest{Image: name})
			if !info.ReadOnly || info.ConflictOf != name[:5] || info.Size != 1<<20 || info.Name != "vms/prod/"+name {
				t.Errorf("%s: %+v", when, info)
			}
			if !bytes.Equal(west.read("vms/prod/"+name), data) {
				t.Errorf("%s: %s differs", when, name)
			}
			if !slices.Contains(listed, "vms/prod/"+name) {
				t.Errorf("%s: %s is no export", when, name)
			}
		}
	}
	check("at a replica")
	disk1 := "disk1.conflict-" + ended
	if !bytes.Equal(west.read("vms/prod/"+disk1+"@noon"), snapshot) {
		t.Error("a snapshot of what is kept differs")
	}
	west.letGo()
	west.restartFollower()
	west.acquire(1, true)
	check("after a restart")
	if got := west.notes(events.ResyncStarted); len(got) != 1 {
		t.Errorf("%d resyncs", len(got))
	}
	west.sameImages(east)
	east.release()
	east.follow() // its journal holds the demotion
	sitetest.Eventually(t, "west has the demotion", func() bool {
		tag := west.follower.followers[westID].copy().replica.Tag()
		return tag != nil && tag.Reason == events.TagDemoted
	})
	west.release()
	west.own(events.TagPromoted)
	check("at a primary")
	dev := west.open("vms/prod/" + disk1)
	refused := make(chan error, 1)
	dev.Write(t.Context(), make([]byte, 512), 0, false, func(err error) { refused <- err })
	if err := <-refused; fault.CodeOf(err) != fault.ReadOnly {
		t.Errorf("a write: %v", err)
	}
	must[api.Nothing](west, api.ImageRemove, api.ImageRequest{Image: disk1})
	<-dev.Ended()
	delete(kept, disk1)
	check("after one was removed")
	west.release()
	west.acquire(1, true)
	check("at a replica again")
	must[api.Nothing](west, api.ImageRemove, api.ImageRequest{Image: "disk0.conflict-" + ended})
	if _, err := ask[api.Nothing](west, api.ImageRemove, api.ImageRequest{Image: "disk0"}); fault.CodeOf(err) != fault.NotPrimary {
		t.Errorf("an image of the directory at a replica: %v", err)
	}
	clear(kept)
	check("after the last was removed")
	if folders, err := replica.RefusedFolders(vfs.OS(), west.at.Node.ReplicaDir(west.id)); err != nil || len(folders) > 0 {
		t.Errorf("left behind: %v, %v", folders, err)
	}
}

// sameImages waits until a follower that shows conflict images is level with an owner.
func (p *party) sameImages(owner *party) {
	p.t.Helper()
	sitetest.Eventually(p.t, p.at.Node.Site.Name+" is level", func() bool {
		at := must[api.Status](owner, api.DirectoryStatus, api.Nothing{})
		here, err := ask[api.Status](p, api.DirectoryStatus, api.Nothing{})
		return err == nil && here.Applied.Same(at.Position) && here.State == string(Replaying)
	})
	for _, image := range must[[]api.Image](owner, api.ImageList, api.Nothing{}) {
		if !bytes.Equal(owner.read(image.Name), p.read(image.Name)) {
			p.t.Errorf("%s differs", image.Name)
		}
	}
}
