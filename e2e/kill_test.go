package e2e_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/sitetest"
	"tidemark/internal/workload"
)

const (
	killImageBytes = 8 << 20
	killCycles     = 80
	// killTime ends a run that is slower than it should be: the machine is busy.
	killTime = 30 * time.Second
)

// sectors makes writes of 512 bytes to 4 MiB (sixteen journal entries), discards and zeroes.
func sectors() workload.Config {
	const sector = 512
	return workload.Config{
		ImageBytes: killImageBytes, BlockBytes: sector, BlocksMax: 64 << 10 / sector,
		LargeMax: 4 << 20 / sector, Zeroes: true,
	}
}

// killer kills one site again and again, at moments of different kinds.
type killer struct {
	t     *testing.T
	site  *site
	load  *load
	exact *exact
	count map[string]int // kills by kind
}

// kill is one way to end the process; it leaves a process that is starting or serving.
type kill struct {
	name   string
	weight int
	do     func(*killer)
}

func kills() []kill {
	return []kill{
		{"under writes", 10, (*killer).underWrites},
		{"while it starts", 3, (*killer).whileItStarts},
		{"while it stops", 2, (*killer).whileItStops},
		{"stopped in order", 1, (*killer).inOrder},
		{"under a group snapshot", 3, (*killer).underSnapshot},
	}
}

// TestKill kills a site at random moments (under writes of every size and kind on many
// connections, while it starts and replays, while it stops and takes a checkpoint) and
// starts it again over the same data. Everything that was acknowledged must be there,
// of a write that was not answered all or nothing, at one position over all images of
// the directory, and what is there stays; journal 89, 97, 171-173.
//
// By hand it was seen to fail when a write is acknowledged as soon as it is queued instead
// of when it is logged (services/journal/writer.go), when a discard is acknowledged and
// not logged (services/journal/device.go), when a logged message is damaged, and when the
// parts of a large write are entries by themselves.
//
// It does not show what a power cut does: a killed process loses nothing that the kernel
// has; see powercut_test.go.
//
// TIDEMARK_E2E_LONG=30m lets it run for so long.
func TestKill(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	images := []string{"vms/kill/a", "vms/kill/b"}
	for _, image := range images {
		s.createImage(image, fmt.Sprint(killImageBytes), "--object-size", "1MiB")
	}
	const exactImage, exactBytes = "vms/kill/exact", 4 << 20
	s.createImage(exactImage, fmt.Sprint(exactBytes), "--object-size", "1MiB")
	k := &killer{
		t: t, site: s, load: newLoadOf(t, sectors(), images...), exact: newExact(t, exactImage, exactBytes),
		count: map[string]int{},
	}
	began, limit, cycles := time.Now(), killTime, 0
	if long := longRun(t); long > 0 {
		limit = long
	}
	for time.Since(began) < limit && (cycles < sitetest.Rounds(killCycles) || limit > killTime) {
		k.cycle()
		if cycles++; cycles%500 == 0 {
			k.report(cycles, time.Since(began))
		}
	}
	k.report(cycles, time.Since(began))
	s.terminate()
}

func (k *killer) report(cycles int, took time.Duration) {
	writes, bytes := k.load.work.Written()
	k.t.Logf("%d cycles in %s (%.1f a second): %v; %d writes, %d MiB acknowledged; no violation",
		cycles, took.Round(time.Second), float64(cycles)/took.Seconds(), k.count, writes, bytes>>20)
}

// cycle ends the process in one way, starts it again and judges what is there.
func (k *killer) cycle() {
	k.t.Helper()
	ways, total := kills(), 0
	for _, way := range ways {
		total += way.weight
	}
	at := rand.IntN(total)
	for _, way := range ways {
		if at -= way.weight; at < 0 {
			k.count[way.name]++
			way.do(k)
			break
		}
	}
	k.load.goOn(k.site)
	k.exact.check(k.site)
}

// writing sets all clients to work until a few writes were acknowledged. end waits for
// them when their server is gone.
func (k *killer) writing(most int64) (end func()) {
	k.t.Helper()
	w := k.load.start(k.site)
	changing := k.exact.start(k.site)
	w.awaitWrites(rand.Int64N(most))
	return func() {
		w.abandon()
		changing.Wait()
	}
}

// underWrites kills the process while clients write.
func (k *killer) underWrites() {
	end := k.writing(150)
	k.site.kill()
	end()
	k.site.start()
}

// whileItStarts kills the process under writes, and then before it is ready, a few times.
func (k *killer) whileItStarts() {
	const longestStart = 300 * time.Millisecond
	end := k.writing(20)
	k.site.kill()
	end()
	for range 1 + rand.IntN(3) {
		p := k.site.launch()
		k.killWithin(p, longestStart)
	}
	k.site.start()
}

// whileItStops asks the process to end under writes, which lets it take a checkpoint, and
// kills it before it has.
func (k *killer) whileItStops() {
	const longestStop = 60 * time.Millisecond
	end := k.writing(50)
	k.site.signal(k.t, syscall.SIGTERM)
	k.killWithin(k.site.process, longestStop)
	end()
	k.site.start()
}

// inOrder stops the process under writes.
func (k *killer) inOrder() {
	end := k.writing(50)
	k.site.terminate()
	end()
	k.site.start()
}

// killWithin kills a process at a random moment, unless it has ended by then.
func (k *killer) killWithin(p *process, longest time.Duration) {
	moment := time.NewTimer(rand.N(longest))
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-p.ended:
	}
	p.kill()
}

// underSnapshot makes a snapshot of all images of the directory while clients write, and
// kills the process in the middle of it, or after it. If it was answered it is there; if it
// is there, it holds everything that was acknowledged before it was asked for, at one
// position over all images, and nothing that was submitted after it was answered.
func (k *killer) underSnapshot() {
	k.t.Helper()
	const name, longest = "vms/kill@now", 40 * time.Millisecond
	end := k.writing(100)
	begun := k.load.work.Tick()
	type outcome struct {
		code int
		at   uint64
	}
	result, answered := make(chan outcome, 1), make(chan struct{})
	go func() {
		defer close(answered)
		r := k.site.run("snap", "create", name, "--timeout", "2s")
		result <- outcome{r.code, k.load.work.Tick()}
	}()
	if rand.IntN(2) == 0 {
		<-answered
	}
	moment := time.NewTimer(rand.N(longest))
	defer moment.Stop()
	<-moment.C
	k.site.kill()
	end()
	said := <-result
	k.site.start()
	if !k.hasSnapshot("vms/kill/a@now") {
		if said.code == 0 {
			k.t.Fatalf("the snapshot %s was made, and is not there", name)
		}
		return
	}
	if said.code != 0 {
		said.at = math.MaxUint64
	}
	k.demandSnapshot(begun, said.at)
	k.site.mustUnused("snap", "remove", name)
}

func (k *killer) hasSnapshot(name string) bool {
	k.t.Helper()
	image, snap, _ := strings.Cut(name, "@")
	for _, s := range query[[]struct {
		Snapshot string `json:"snapshot"`
	}](k.site, "snap", "list", image) {
		if s.Snapshot == snap {
			return true
		}
	}
	return false
}

// demandSnapshot judges the content of the snapshot of all images.
func (k *killer) demandSnapshot(begun, ended uint64) {
	k.t.Helper()
	v := k.load.work.Verify()
	for i, image := range k.load.images {
		k.site.contents(image+"@now", func(offset uint64, p []byte) { v.Observe(i, offset, p) })
	}
	if err := v.Between(begun, ended).Prefix(); err != nil {
		k.t.Fatalf("the snapshot: %v", err)
	}
	k.count["snapshots judged"]++
}
