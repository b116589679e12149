package e2e_test

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/nbdclient"
)

// position is TAG.ENTRY as JSON shows it.
type position struct {
	Tag   uint32 `json:"tag"`
	Entry uint32 `json:"entry"`
}

// before orders positions.
func (p position) before(q position) bool {
	return p.Tag < q.Tag || p.Tag == q.Tag && p.Entry < q.Entry
}

// mirrorState is what `mirror status` says of one directory.
type mirrorState struct {
	Directory string   `json:"directory"`
	Role      string   `json:"role"`
	Primary   string   `json:"primary"`
	State     string   `json:"state"`
	Error     string   `json:"error"`
	Tag       uint32   `json:"tag"`
	Position  position `json:"position"`
	Received  position `json:"received"`
	Entries   uint64   `json:"entries_behind"`
	Bytes     uint64   `json:"bytes_behind"`
	Seconds   float64  `json:"seconds_behind"`
	Progress  *struct {
		Objects uint64 `json:"objects"`
		Total   uint64 `json:"objects_total"`
		Bytes   uint64 `json:"bytes"`
	} `json:"progress"`
	Split *split `json:"split"`
	Nodes []struct {
		Node     string   `json:"node"`
		State    string   `json:"state"`
		Position position `json:"position"`
		Entries  uint64   `json:"entries_behind"`
	} `json:"nodes"`
}

// split is how the history of a site has parted from that of another one.
type split struct {
	Peer    string    `json:"peer"`
	Common  position  `json:"common"` // the last one that both have
	Ours    splitSide `json:"ours"`
	Theirs  splitSide `json:"theirs"`
	Resolve []string  `json:"resolve"` // command lines
}

// splitSide is one side's history behind the common position.
type splitSide struct {
	Site    string `json:"site"`
	Primary bool   `json:"primary"`
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	Objects uint64 `json:"objects_changed"`
}

// mirror returns the status of one directory.
func (s *site) mirror(dir string) mirrorState {
	s.t.Helper()
	all := query[[]mirrorState](s, "mirror", "status", dir)
	if len(all) != 1 {
		s.t.Fatalf("%d directories of name %s", len(all), dir)
	}
	return all[0]
}

func (s *site) mirrorNow(dir string) (mirrorState, error) {
	s.t.Helper()
	all, err := try[[]mirrorState](s, "mirror", "status", dir)
	if err == nil {
		err = unless(len(all) == 1, "%d directories of name %s", len(all), dir)
	}
	if err != nil {
		return mirrorState{}, err
	}
	return all[0], nil
}

// peers makes west follow a pool of east's, both ways.
func peers(t testing.TB, pool string, east, west *site) {
	t.Helper()
	for _, s := range []*site{east, west} {
		if r := s.run("pool", "create", pool); r.code != 0 && r.code != 4 {
			t.Fatal(r)
		}
		s.must("mirror", "enable", pool)
	}
	token := filepath.Join(west.dir, "token")
	if err := os.WriteFile(token, []byte(east.must("mirror", "peer", "create-token", pool)), 0o600); err != nil {
		t.Fatal(err)
	}
	west.must("mirror", "peer", "import-token", pool, "--token-file", token)
}

// pair starts two sites that are peers in pool vms.
func pair(t testing.TB, eastFlags ...string) (east, west *site) {
	t.Helper()
	east, west = newSite(t, "east", eastFlags...), newSite(t, "west")
	east.launch()
	west.launch()
	east.awaitReady(t)
	west.awaitReady(t)
	peers(t, "vms", east, west)
	return east, west
}

// linkedPair is pair with a link between the sites that can fail: west reaches east
// only over it.
func linkedPair(t testing.TB) (east, west *site, wire *link) {
	t.Helper()
	east, west = newSite(t, "east"), newSite(t, "west")
	wire = newLink(t, east.nats, 0)
	east.flags = []string{"--advertise", "nats://" + wire.address}
	east.launch()
	west.launch()
	east.awaitReady(t)
	west.awaitReady(t)
	peers(t, "vms", east, west)
	return east, west, wire
}

// awaitLevel waits until a follower has applied all that its source has, which must not
// be written to meanwhile, and returns the position.
func awaitLevel(t testing.TB, source, follower *site, dir string) position {
	t.Helper()
	var at position
	await(t, patience, follower.name+" is level with "+source.name, func() error {
		from, err := source.mirrorNow(dir)
		if err != nil {
			return err
		}
		to, err := follower.mirrorNow(dir)
		if err != nil {
			return err
		}
		at = to.Position
		return unless(from.Role == "master" && to.State == "replaying" && to.Entries == 0 && from.Position == to.Position,
			"%s is %s at %v, %s is %s at %v, %d entries behind: %s",
			source.name, from.Role, from.Position, follower.name, to.State, to.Position, to.Entries, to.Error)
	})
	return at
}

// copyAnew drops a site's copy of a directory and has it made again.
func (s *site) copyAnew(dir string) {
	s.t.Helper()
	s.must("mirror", "remove", dir)
	s.addAgain(dir)
}

// addAgain has a site follow a directory whose copy there was just removed.
func (s *site) addAgain(dir string) {
	s.t.Helper()
	s.mustUnless("the former copy goes", "mirror", "add", dir)
}

// promote makes a follower primary, in order, as soon as it has the demotion of the former
// primary and that one can be asked.
func (s *site) promote(dir string) {
	s.t.Helper()
	s.mustUnless("the demotion is on its way", "mirror", "promote", dir)
}

// awaitState waits until a directory's mirror state is the one that is wanted.
func (s *site) awaitState(dir, state string) mirrorState {
	s.t.Helper()
	var m mirrorState
	await(s.t, patience, dir+" at "+s.name+" is "+state, func() (err error) {
		m, err = s.mirrorNow(dir)
		if err != nil {
			return err
		}
		return unless(m.State == state, "it is %s at %v: %s", m.State, m.Position, m.Error)
	})
	return m
}

const readBytes = 1 << 20

// contents reads a whole image and passes it on in pieces.
func (s *site) contents(image string, each func(offset uint64, p []byte)) {
	s.t.Helper()
	offset := uint64(0)
	await(s.t, 2*patience, "read "+image+" at "+s.name, func() error {
		conn := s.dial(image)
		defer hangUp(conn)
		return readFrom(conn, &offset, each)
	})
}

// readFrom reads an image to its end and moves offset along, so that a reader whose
// directory is being opened again goes on where it stood.
func readFrom(conn *nbdclient.Conn, offset *uint64, each func(offset uint64, p []byte)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	buffer := make([]byte, readBytes)
	for *offset < conn.Size() {
		part := buffer[:min(readBytes, conn.Size()-*offset)]
		if err := conn.ReadAt(ctx, part, *offset); err != nil {
			return err
		}
		each(*offset, part)
		*offset += uint64(len(part))
	}
	return nil
}

// digest returns the SHA-256 of an image's content.
func (s *site) digest(image string) [sha256.Size]byte {
	s.t.Helper()
	h := sha256.New()
	s.contents(image, func(_ uint64, p []byte) { h.Write(p) }) // a hash takes everything
	return [sha256.Size]byte(h.Sum(nil))
}

// sameContent fails the test unless images read the same at both sites.
func sameContent(t testing.TB, a, b *site, images ...string) {
	t.Helper()
	for _, image := range images {
		if a.digest(image) != b.digest(image) {
			t.Errorf("%s differs between %s and %s", image, a.name, b.name)
		}
	}
}

// allocated returns how many bytes of an image are no hole.
func (s *site) allocated(image string) uint64 {
	s.t.Helper()
	conn := s.dial(image)
	defer hangUp(conn)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	extents, err := conn.Extents(ctx, 0, conn.Size())
	if err != nil {
		s.t.Fatal(err)
	}
	var sum uint64
	for _, e := range extents {
		if !e.Hole {
			sum += e.Length
		}
	}
	return sum
}

// lifecycle returns the lifecycle events of one kind, oldest first.
func (s *site) lifecycle(what string) []string {
	s.t.Helper()
	var details []string
	for line := range strings.Lines(s.must("events", "--stream", "LIFECYCLE")) {
		if e := decodeLine(s.t, line); e.Event["what"] == what {
			detail, _ := e.Event["detail"].(string)
			details = append(details, detail)
		}
	}
	return details
}

// seconds is how long something took, for the log of a test.
func seconds(since time.Time) string { return time.Since(since).Round(10 * time.Millisecond).String() }
