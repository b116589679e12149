package e2e_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tidemark/internal/nbd/wire"
	"tidemark/internal/nbdclient"
)

const (
	fullJournal = "96MiB"
	fullBound   = 75 * time.Second // for a request, which is never blocked for ever
)

// fillJournal writes until the server answers with an error, and returns the error. It
// fails the test if a write takes longer than the bound.
func fillJournal(t *testing.T, conn *nbdclient.Conn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	data := make([]byte, 1<<20)
	for n := range 512 {
		data[0] = byte(n)
		began := time.Now()
		err := conn.WriteAt(ctx, data, uint64(n%8)<<20, false)
		if took := time.Since(began); took > fullBound {
			t.Errorf("a write to a full journal took %s", took)
		}
		if err != nil {
			t.Logf("refused after %d MiB: %v", n, err)
			return err
		}
	}
	t.Fatal("512 MiB went into a journal of " + fullJournal)
	return nil
}

// fullPair returns two sites of which the follower is dead and the owner's journal full.
// The directory served reads while it was full, and says what is wrong.
func fullPair(t *testing.T) (east, west *site, reader *nbdclient.Conn) {
	t.Helper()
	east, west = pair(t, "--journal-max-bytes", fullJournal, "--journal-lag-bytes", "never")
	east.createImage("vms/prod/a", "8MiB")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	west.kill()
	writer := east.dial("vms/prod/a")
	reader = east.dial("vms/prod/a")
	refused := make(chan error, 1)
	go func() { refused <- fillJournal(t, writer) }()
	await(t, patience, "the status says that the journal is full", func() error {
		r := east.run("status")
		return unless(contains(r.stdout, "full"), "%s", r)
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := reader.ReadAt(ctx, make([]byte, 4096), 0); err != nil {
		t.Errorf("read while the journal is full: %v", err)
	}
	if err := <-refused; !errors.Is(err, wire.ENOSPC) {
		t.Errorf("a full journal is told as %v, want ENOSPC", err)
	}
	await(t, patience, "the image can be read after a write was refused", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn := east.dial("vms/prod/a")
		defer hangUp(conn)
		return conn.ReadAt(ctx, make([]byte, 4096), 0)
	})
	return east, west, reader
}

// fillToTheBrim goes on with small writes, so that there is no room for a tag either.
func fillToTheBrim(t *testing.T, s *site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	const tries, shortest = 50, time.Second
	for range tries {
		conn := s.dial("vms/prod/a")
		var began time.Time
		for n := 0; ; n++ {
			began = time.Now()
			err := conn.WriteAt(ctx, make([]byte, 512), uint64(n%8192)*512, false)
			if err == nil {
				continue
			}
			t.Logf("%d small writes, then after %s: %v", n, seconds(began), err)
			break
		}
		if time.Since(began) > shortest { // it waited for room in vain
			return
		}
	}
	t.Error("the journal does not get full")
}

// demandWritable waits until an image takes writes again.
func demandWritable(t *testing.T, s *site, image string) {
	t.Helper()
	await(t, patience, image+" takes writes", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), fullBound)
		defer cancel()
		conn, err := nbdclient.Dial(ctx, "unix", s.socket, image)
		if err != nil {
			return err
		}
		defer hangUp(conn)
		return conn.WriteAt(ctx, make([]byte, 4096), 0, true)
	})
}

// TestFullJournalFollowerReturns fills the journal of a directory whose follower is
// away: writers wait, then get ENOSPC; reads go on; the follower comes back, and all is
// as before; journal 307, rivals 8.
func TestFullJournalFollowerReturns(t *testing.T) {
	t.Parallel()
	east, west, reader := fullPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := reader.ReadAt(ctx, make([]byte, 4096), 0); err != nil {
		t.Errorf("a reader lost its session because a writer's request was refused: %v", err)
	}
	west.start()
	demandWritable(t, east, "vms/prod/a")
	awaitLevel(t, east, west, "vms/prod")
	sameContent(t, east, west, "vms/prod/a")
}

// TestBrimfulJournal fills a journal to the last byte: there is no room for the claim of
// another tag. A restart, and the return of the follower, must still mend it.
func TestBrimfulJournal(t *testing.T) {
	t.Parallel()
	east, west, _ := fullPair(t)
	fillToTheBrim(t, east)
	east.kill()
	east.start()
	west.start()
	demandWritable(t, east, "vms/prod/a")
	awaitLevel(t, east, west, "vms/prod")
	sameContent(t, east, west, "vms/prod/a")
}

// TestFullJournalFollowerRemoved does the same with a follower that is given up for good.
func TestFullJournalFollowerRemoved(t *testing.T) {
	t.Parallel()
	east, _, _ := fullPair(t)
	east.must("mirror", "peer", "remove", "vms", "west")
	demandWritable(t, east, "vms/prod/a")
}

// TestImageLargerThanItsJournal writes an image of three times the bound of its journal from
// end to end, with nobody who follows and with a follower that keeps up: the journal is
// trimmed meanwhile, and every byte is there.
func TestImageLargerThanItsJournal(t *testing.T) {
	t.Parallel()
	for name, followed := range map[string]bool{"alone": false, "followed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			east, west := pair(t, "--journal-max-bytes", fullJournal)
			east.createImage("vms/prod/a", fmt.Sprint(longMiB<<20))
			if followed {
				west.must("mirror", "add", "vms/prod")
				awaitLevel(t, east, west, "vms/prod")
			}
			want := writeLong(t, east, "vms/prod/a")
			if got := east.digest("vms/prod/a"); got != want {
				t.Error("the image does not hold what was written")
			}
			if !followed {
				return
			}
			awaitLevel(t, east, west, "vms/prod")
			if got := west.digest("vms/prod/a"); got != want {
				t.Error("the follower's image does not hold what was written")
			}
		})
	}
}

// longMiB is three times the bound of the journal.
const longMiB = 3 * 96

// writeLong writes an image of longMiB from end to end, flushes now and then, and returns
// the digest of what it wrote.
func writeLong(t *testing.T, s *site, image string) [sha256.Size]byte {
	t.Helper()
	conn := s.dial(image)
	defer hangUp(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	noise := rand.NewChaCha8([32]byte{1})
	digest, data := sha256.New(), make([]byte, 1<<20)
	for n := range uint64(longMiB) {
		_, _ = noise.Read(data) // never fails
		digest.Write(data)      // never fails
		if err := conn.WriteAt(ctx, data, n<<20, n%64 == 63); err != nil {
			t.Fatalf("after %d MiB: %v", n, err)
		}
	}
	return [sha256.Size]byte(digest.Sum(nil))
}

// TestLaggyFollower writes three times the bound of a journal whose follower is away, and
// may be left behind: it is disconnected, which is said, and the journal is trimmed without
// it. When it comes back it says why it does not follow, and serves what it has as what it
// is; journal 33, 64.
func TestLaggyFollower(t *testing.T) {
	t.Parallel()
	east, west := pair(t, "--journal-max-bytes", fullJournal)
	east.createImage("vms/prod/a", fmt.Sprint(longMiB<<20))
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	west.kill()
	writeLong(t, east, "vms/prod/a")
	await(t, patience, "listeners are told that the follower was disconnected", func() error {
		return unless(len(east.lifecycle("disconnected")) > 0, "they are not")
	})
	west.start()
	await(t, patience, "the follower says that it was disconnected", func() error {
		m, err := west.mirrorNow("vms/prod")
		if err != nil {
			return err
		}
		return unless(m.State != "replaying" && m.State != "syncing" && strings.Contains(m.Error, "disconnected"), "it is %s at %v: %s", m.State, m.Position, m.Error)
	})
}

// TestSmallJournal uses the smallest bounds that serve takes: they must work, or be
// refused.
func TestSmallJournal(t *testing.T) {
	t.Parallel()
	for _, bound := range []string{"1MiB", "8MiB", "32MiB"} {
		t.Run(bound, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "east", "--journal-max-bytes", bound)
			p := s.launch()
			select {
			case <-p.ended:
				if codeOf(t, p.err) != 2 {
					t.Errorf("a bound of %s: %v, want exit code 2\n%s", bound, p.err, p.lastWords())
				}
				return
			case line := <-p.out.found:
				p.out.found <- line
			}
			s.createImage("vms/a", "8MiB")
			conn := s.dial("vms/a")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for n := range 48 {
				if err := conn.WriteAt(ctx, make([]byte, 1<<20), uint64(n%8)<<20, false); err != nil {
					t.Fatalf("a journal of %s that nobody else needs is full after %d MiB: %v", bound, n, err)
				}
			}
		})
	}
}
