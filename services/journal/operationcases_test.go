package journal

import (
	"bytes"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// operationCase is one kind of operation.
type operationCase struct {
	name    string
	request string
	body    any
	check   func(t *testing.T, s *Service, at *sitetest.Site, d *directory)
	live    string // the request that undoes or repeats it after a restart
	again   any
}

func infoOf(t *testing.T, at *sitetest.Site, d *directory, image string) api.Image {
	t.Helper()
	return must[api.Image](t, at, d, api.ImageInfo, api.ImageRequest{Image: image})
}

func snapshotsOf(t *testing.T, at *sitetest.Site, d *directory, image string) map[string]api.Snapshot {
	t.Helper()
	all := map[string]api.Snapshot{}
	for _, s := range must[[]api.Snapshot](t, at, d, api.SnapList, api.ImageRequest{Image: image}) {
		all[s.Snapshot] = s
	}
	return all
}

func operationCases(was []byte) []operationCase {
	type env struct {
		t  *testing.T
		s  *Service
		at *sitetest.Site
		d  *directory
	}
	check := func(what string, ok func(env) bool) func(*testing.T, *Service, *sitetest.Site, *directory) {
		return func(t *testing.T, s *Service, at *sitetest.Site, d *directory) {
			t.Helper()
			if !ok(env{t, s, at, d}) {
				t.Errorf("not so: %s", what)
			}
		}
	}
	return []operationCase{
		{
			"journal 130, journal 174: snapshot create", api.SnapCreate, snapRequest("disk0", "s2"),
			check("s2 is there", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["s2"].Position != 0 }),
			api.SnapCreate, snapRequest("disk0", "s3"),
		}, {
			"journal 133, journal 175: snapshot protect", api.SnapProtect, snapRequest("disk0", "s1"),
			check("s1 is protected", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["s1"].Protected }),
			api.SnapUnprotect, snapRequest("disk0", "s1"),
		}, {
			"journal 134, journal 176: snapshot unprotect", api.SnapUnprotect, snapRequest("disk0", "loose"),
			check("loose is not protected", func(e env) bool { return !snapshotsOf(e.t, e.at, e.d, "disk0")["loose"].Protected }),
			api.SnapProtect, snapRequest("disk0", "loose"),
		}, {
			"journal 132, journal 177: snapshot rename", api.SnapRename,
			api.SnapRenameRequest{Image: "disk0", Snapshot: "s1", NewName: "old"},
			check("s1 is old", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["old"].ID == 1 }),
			api.SnapRename,
			api.SnapRenameRequest{Image: "disk0", Snapshot: "old", NewName: "s1"},
		}, {
			"journal 135, journal 178: snapshot rollback", api.SnapRollback, snapRequest("disk0", "s1"),
			check("the content is that of s1", func(e env) bool {
				return bytes.Equal(read(e.t, open(e.t, e.s, "vms/prod/disk0"), 0, len(was)), was)
			}),
			api.SnapCreate, snapRequest("disk0", "s2"),
		}, {
			"journal 131, journal 179: snapshot remove", api.SnapRemove, snapRequest("disk0", "s1"),
			check("s1 is gone", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["s1"].ID == 0 }),
			api.SnapCreate, snapRequest("disk0", "s1"),
		}, {
			"journal 136, journal 180: rename", api.ImageRename,
			api.ImageNameRequest{Image: "disk0", NewName: "disk9"},
			check("disk9 is there", func(e env) bool { return infoOf(e.t, e.at, e.d, "disk9").ID == 1 }),
			api.ImageRename,
			api.ImageNameRequest{Image: "disk9", NewName: "disk0"},
		}, {
			"journal 137, journal 181: resize", api.ImageResize,
			api.ImageResizeRequest{Image: "disk0", Size: 5 << 20, AllowShrink: true},
			check("the size is 5 MiB", func(e env) bool { return infoOf(e.t, e.at, e.d, "disk0").Size == 5<<20 }),
			api.ImageResize,
			api.ImageResizeRequest{Image: "disk0", Size: 9 << 20},
		}, {
			"journal 138, journal 182: flatten", api.ImageFlatten,
			api.ImageRequest{Image: "clone"},
			check("the clone has no parent", func(e env) bool { return infoOf(e.t, e.at, e.d, "clone").Parent == "" }),
			api.SnapUnprotect, snapRequest("disk0", "safe"),
		}, {
			"journal 107, journal 139, journal 183: features", api.ImageFeature,
			api.ImageFeatureRequest{Image: "disk0", Feature: events.FeatureReadOnly, Enabled: true},
			check("disk0 is read-only", func(e env) bool {
				return infoOf(e.t, e.at, e.d, "disk0").ReadOnly && open(e.t, e.s, "vms/prod/disk0").Info().ReadOnly
			}),
			api.ImageFeature,
			api.ImageFeatureRequest{Image: "disk0", Feature: events.FeatureReadOnly},
		}, {
			"journal 140, journal 184: metadata set", api.MetadataSet,
			api.MetadataRequest{Image: "disk0", Key: "k", Value: "v"},
			check("k is v", func(e env) bool {
				return must[map[string]string](e.t, e.at, e.d, api.MetadataList, api.ImageRequest{Image: "disk0"})["k"] == "v"
			}),
			api.MetadataSet,
			api.MetadataRequest{Image: "disk0", Key: "k", Value: "w"},
		}, {
			"journal 141, journal 185: metadata remove", api.MetadataUnset,
			api.MetadataRequest{Image: "disk0", Key: "old"},
			check("old is gone", func(e env) bool {
				return len(must[map[string]string](e.t, e.at, e.d, api.MetadataList, api.ImageRequest{Image: "disk0"})) == 0
			}),
			api.MetadataSet,
			api.MetadataRequest{Image: "disk0", Key: "old", Value: "w"},
		}, {
			"journal 142: snapshot limit", api.SnapLimit,
			api.SnapLimitRequest{Image: "disk0", Limit: 3},
			check("the limit is 3", func(e env) bool {
				_, err := call[[]api.Snapshot](e.t, e.at, e.d, api.SnapCreate, snapRequest("disk0", "s9"))
				return infoOf(e.t, e.at, e.d, "disk0").SnapshotLimit == 3 && err != nil
			}),
			api.SnapLimit,
			api.SnapLimitRequest{Image: "disk0"},
		}, {
			"link", api.ImageLink,
			api.ImageNameRequest{Image: "disk0", NewName: "also"},
			check("also is disk0", func(e env) bool { return infoOf(e.t, e.at, e.d, "also").ID == 1 }),
			api.ImageRemove,
			api.ImageRequest{Image: "disk0"},
		}, {
			"clone", api.ImageClone,
			api.ImageCloneRequest{Image: "disk0", Snapshot: "safe", NewName: "clone2"},
			check("clone2 stands on disk0@safe", func(e env) bool { return infoOf(e.t, e.at, e.d, "clone2").Parent == "disk0@safe" }),
			api.ImageRemove,
			api.ImageRequest{Image: "clone2"},
		},
	}
}
