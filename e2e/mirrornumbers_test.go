package e2e_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/nbdclient"
)

const (
	numbersImage = "vms/prod/disk"
	numbersDir   = "vms/prod"
	numbersBlock = 4096
)

// numbersPair is two sites, and a directory with one image that the second one follows.
func numbersPair(t *testing.T, size string) (east, west *site) {
	t.Helper()
	east, west = pair(t)
	east.createImage(numbersImage, size)
	west.must("mirror", "add", numbersDir)
	awaitLevel(t, east, west, numbersDir)
	return east, west
}

// fioWrites has fio write to the image, as fast as it can unless flags say otherwise.
func fioWrites(t *testing.T, s *site, flags string) fioJob {
	t.Helper()
	args := strings.Fields("--name=numbers --ioengine=nbd --norandommap --randrepeat=0 --output-format=json " + flags)
	return fioReport(t, runTool(t, t.TempDir(), "fio", append(args, "--uri="+s.uri(numbersImage))...))
}

// TestLagNumbers measures how long after its acknowledgement at the primary a write can be
// read at the follower, while fio writes 4 KiB at random at half of what it reached
// before. Each sample is one write of its own, looked for at the follower again and again.
// Runs as TestNumbers does:
//
//	TIDEMARK_NUMBERS=200 go test -run TestLagNumbers -timeout 1h -v ./e2e
func TestLagNumbers(t *testing.T) {
	samples := numbersRounds(t)
	need(t, "fio")
	east, west := numbersPair(t, "4GiB")
	const load = "--rw=randwrite --bs=4k --iodepth=32 --offset=1M --size=3G --time_based "
	most := fioWrites(t, east, load+"--runtime=5").Write.IOPS
	awaitLevel(t, east, west, numbersDir)
	var writing sync.WaitGroup
	var half fioJob
	writing.Go(func() {
		half = fioWrites(t, east, fmt.Sprintf("%s--runtime=20 --rate_iops=%d", load, int(most/2)))
	})
	source, copied := east.dial(numbersImage), west.dial(numbersImage)
	ended := make(chan struct{})
	go func() { writing.Wait(); close(ended) }()
	lags := lagsOf(t, source, copied, samples, ended)
	<-ended
	slices.Sort(lags)
	at := func(part float64) time.Duration {
		return lags[int(part*float64(len(lags)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%.0f writes/s at most, %.0f while %d samples were taken: lag median %s (wanted under 50ms), p99 %s (wanted under 250ms), max %s",
		most, half.Write.IOPS, len(lags), at(0.5), at(0.99), at(1))
}

// lagsOf takes samples until there are enough, or the load has ended.
func lagsOf(t *testing.T, source, copied *nbdclient.Conn, samples int, ended <-chan struct{}) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var lags []time.Duration
	mark, seen := make([]byte, numbersBlock), make([]byte, numbersBlock)
	for n := range samples {
		select {
		case <-ended:
			return lags
		case <-time.After(time.Duration(rand.IntN(100)) * time.Millisecond):
		}
		at := uint64(n%256) * numbersBlock
		copy(mark, fmt.Sprintf("sample %d", n))
		if err := source.WriteAt(ctx, mark, at, false); err != nil {
			t.Fatal(err)
		}
		written := time.Now()
		for {
			if err := copied.ReadAt(ctx, seen, at); err != nil {
				t.Fatal(err)
			}
			if slices.Equal(seen, mark) {
				break
			}
			<-time.After(time.Millisecond)
		}
		lags = append(lags, time.Since(written))
	}
	return lags
}

// TestFailOverNumbers measures how long a directory takes no writes while it is moved in
// order, and how long after a promotion by force is asked for, with the primary's site
// killed, the other one takes a write. Runs as TestNumbers does.
func TestFailOverNumbers(t *testing.T) {
	rounds := numbersRounds(t)
	var orderly, forced []float64
	for range rounds {
		east, west := numbersPair(t, "1GiB")
		writeBlocks(t, east)
		awaitLevel(t, east, west, numbersDir)
		began := time.Now()
		east.must("mirror", "demote", numbersDir)
		awaitWritable(t, west)
		orderly = append(orderly, time.Since(began).Seconds())
		awaitLevel(t, west, east, numbersDir)
		writeBlocks(t, west)
		west.kill()
		began = time.Now()
		east.must("mirror", "promote", "--force", numbersDir)
		awaitWritable(t, east)
		forced = append(forced, time.Since(began).Seconds())
		east.terminate()
	}
	t.Logf("demote to promoted and written: median %.0f ms, at most %.0f (wanted under 1000)", 1e3*middle(orderly), 1e3*slices.Max(orderly))
	t.Logf("promoted by force after a kill, and written: median %.0f ms, at most %.0f (wanted under 2000)", 1e3*middle(forced), 1e3*slices.Max(forced))
}

func writeBlocks(t *testing.T, s *site) {
	t.Helper()
	conn := s.dial(numbersImage)
	defer hangUp(conn)
	for at := range uint64(500) {
		if err := conn.WriteAt(t.Context(), make([]byte, numbersBlock), at*numbersBlock, false); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitWritable promotes a site if it is not, and returns when it has taken a write.
func awaitWritable(t *testing.T, s *site) {
	t.Helper()
	awaitEvery(t, fastPoll, patience, s.name+" takes a write", func() error {
		if r := s.run("mirror", "promote", numbersDir); r.code != 0 && r.code != 5 {
			t.Fatal(r)
		}
		conn, err := nbdclient.Dial(t.Context(), "unix", s.socket, numbersImage)
		if err != nil {
			return err
		}
		defer hangUp(conn)
		return conn.WriteAt(t.Context(), make([]byte, numbersBlock), 0, true)
	})
}

// TestResyncNumbers measures what of an image of 4 GiB travels after a split brain in which
// one percent of it was changed on the side that gives up, and how long that takes, and at
// which rate the image was copied first. Runs as TestNumbers does.
func TestResyncNumbers(t *testing.T) {
	numbersRounds(t)
	need(t, "fio")
	const size = 4 << 30
	f := newFleet(t, []string{"east", "west"}, everyPair(2))
	east, west := f.sites[0], f.sites[1]
	east.createImage(numbersImage, fmt.Sprint(size))
	fioWrites(t, east, "--rw=write --bs=1M --iodepth=16 --size=4G")
	began := time.Now()
	west.must("mirror", "add", numbersDir)
	awaitLevelWithin(t, east, west, 20*patience)
	took := time.Since(began)
	t.Logf("first sync of %d MB: %s, %.0f MB/s", size/1000000, took.Round(10*time.Millisecond), size/1e6/took.Seconds())
	f.around(1, (*link).sever)
	west.must("mirror", "promote", "--force", numbersDir)
	changed := fmt.Sprintf("--rw=randwrite --bs=64k --iodepth=16 --size=4G --io_size=%d", size/100)
	fioWrites(t, east, changed)
	fioWrites(t, west, "--rw=randwrite --bs=4k --iodepth=16 --size=4G --io_size=4M")
	east.must("mirror", "demote", numbersDir)
	f.around(1, (*link).heal)
	east.awaitState(numbersDir, "split_brain")
	before := f.wires[[2]int{0, 1}].carried.Load()
	began = time.Now()
	east.must("mirror", "resync", numbersDir)
	awaitLevelWithin(t, west, east, 20*patience)
	took = time.Since(began)
	moved := f.wires[[2]int{0, 1}].carried.Load() - before
	t.Logf("resync after 1%% of %d MB was changed at random in 64 KiB: %.1f MB travelled, %.2f %% of the image (wanted under 3 %%), in %s",
		size/1000000, float64(moved)/1e6, 100*float64(moved)/size, took.Round(10*time.Millisecond))
	if east.digest(numbersImage) != west.digest(numbersImage) {
		t.Error("the images differ after the resync")
	}
}

func awaitLevelWithin(t *testing.T, source, follower *site, limit time.Duration) {
	t.Helper()
	await(t, limit, follower.name+" is level with "+source.name, func() error {
		from, err := source.mirrorNow(numbersDir)
		if err != nil {
			return err
		}
		to, err := follower.mirrorNow(numbersDir)
		if err != nil {
			return err
		}
		return unless(to.State == "replaying" && from.Position == to.Position, "%s at %v, not %v: %s", to.State, to.Position, from.Position, to.Error)
	})
}

// TestStateNumbers measures how much a replica keeps besides the data: the size of its
// metadata for each GiB that was written, in order and at random. Runs as TestNumbers does.
func TestStateNumbers(t *testing.T) {
	numbersRounds(t)
	need(t, "fio")
	for _, c := range []struct{ name, flags string }{
		{"in order, 128 KiB", "--rw=write --bs=128k"},
		{"at random, 4 KiB", "--rw=randwrite --bs=4k"},
	} {
		east, west := numbersPair(t, "4GiB")
		fioWrites(t, east, c.flags+" --iodepth=32 --size=4G --io_size=1G")
		awaitLevelWithin(t, east, west, 20*patience)
		west.terminate() // with a checkpoint
		metadata := sizeOf(t, west.data(), func(name string) bool { return strings.HasSuffix(name, ".db") })
		t.Logf("1 GiB written %s: %.0f KiB of metadata at the replica", c.name, float64(metadata)/1024)
		east.terminate()
	}
}

// sizeOf adds up the files below a folder that are wanted.
func sizeOf(t *testing.T, dir string, wanted func(string) bool) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "replicas"), func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !wanted(name) {
			return err
		}
		info, err := os.Stat(name)
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
