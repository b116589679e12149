package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

const (
	operationsDir   = "vms/ops"
	operationCycles = 60
	operationTime   = 30 * time.Second
	operationsAlive = 4 // between two kills
	operationImage  = 192 << 10
	operationUnit   = 64 << 10
	operationImages = 4
	exitRefused     = 5 // the last of the exit codes that say that nothing was done
	exitUnanswered  = 6
)

// TestKillDuringOperations kills a site in the middle of operations on images, snapshots,
// clones and metadata, and starts it again: each is done or not, and done if it was answered.
// Every name, size, piece of metadata and the content of every image and snapshot is
// compared with what the operations make of each other; journal 126, 174-182, 184, 185.
//
// TIDEMARK_E2E_LONG=30m lets it run for so long.
func TestKillDuringOperations(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage(operationsDir+"/i0", strconv.Itoa(operationImage), "--object-size", "64KiB")
	o := &operator{t: t, site: s, now: catalogueOf(s, operationsDir), count: map[string]int{}}
	began, limit, cycles := time.Now(), operationTime, 0
	if long := longRun(t); long > 0 {
		limit = long
	}
	for ; time.Since(began) < limit && (cycles < sitetest.Rounds(operationCycles) || limit > operationTime); cycles++ {
		o.cycle()
	}
	t.Logf("%d kills in %s; operations by what they said: %v", cycles, seconds(began), o.count)
	s.terminate()
}

// operator carries operations out and knows what the directory must hold.
type operator struct {
	t     *testing.T
	site  *site
	now   catalogue
	next  int // serial of names
	count map[string]int
	took  time.Duration // by an operation as a rule
}

// cycle carries some operations out, kills the site under the last one, and compares.
func (o *operator) cycle() {
	o.t.Helper()
	for range rand.IntN(operationsAlive) {
		o.writeSomewhere()
		o.settle(o.random(), false)
	}
	o.settle(o.random(), true)
}

// settle carries one operation out, and takes what the site holds then for what it must
// hold from now on, if that may be.
func (o *operator) settle(op operation, kill bool) {
	o.t.Helper()
	said := o.perform(op, kill)
	var may []catalogue
	after := op.effect(o.now)
	switch {
	case said == 0 && after == nil:
		o.t.Fatalf("%s: it was done, and should have been refused", op)
	case said == 0:
		may = []catalogue{after}
	case !kill || said > 1 && said <= exitRefused:
		may = []catalogue{o.now}
	case after == nil:
		may = []catalogue{o.now}
	default:
		may = []catalogue{o.now, after}
	}
	got := catalogueOf(o.site, operationsDir)
	for _, m := range may {
		if m.difference(got) == "" {
			o.now = got
			return
		}
	}
	o.t.Fatalf("%s, which ended with exit code %d (killed: %v), left neither what was nor what it makes (-must +is): %s",
		op, said, kill, may[len(may)-1].difference(got))
}

// perform runs an operation's command, under which it may kill the site and start it again,
// and returns the exit code.
func (o *operator) perform(op operation, kill bool) int {
	o.t.Helper()
	args := append(slices.Clone(op.args), "--timeout", "20s")
	if !kill {
		began := time.Now()
		r := o.site.run(args...)
		o.took = (3*o.took + time.Since(began)) / 4
		// Somebody may seem to have the image open: a session that we just ended.
		for tries := 0; r.code == exitRefused && op.effect(o.now) != nil && tries < 100; tries++ {
			r = o.site.run(args...)
		}
		if r.code == 1 || r.code == exitUnanswered || (r.code == 0) != (op.effect(o.now) != nil) {
			o.t.Fatalf("the model says otherwise (it would be done: %v): %s", op.effect(o.now) != nil, r)
		}
		o.count[fmt.Sprintf("exit %d", r.code)]++
		return r.code
	}
	ended := make(chan int, 1)
	go func() {
		// A command that is not answered would wait for long: the site is started again.
		ended <- o.site.run(append(slices.Clone(op.args), "--timeout", "300ms")...).code
	}()
	moment := time.NewTimer(rand.N(2*o.took + time.Millisecond))
	defer moment.Stop()
	<-moment.C
	o.site.kill()
	said := <-ended
	o.site.start()
	o.count[fmt.Sprintf("killed, exit %d", said)]++
	return said
}

// writeSomewhere changes an image's content.
func (o *operator) writeSomewhere() {
	o.t.Helper()
	name, ok := o.image()
	id, _ := o.now.named(name)
	if size := len(o.now[id].Content); ok && size > 0 {
		ctx, cancel := context.WithTimeout(o.t.Context(), patience)
		defer cancel()
		at := rand.IntN(size)
		data := bytes.Repeat([]byte{byte(1 + rand.IntN(255))}, 1+rand.IntN(size-at))
		after, err := overwrite(ctx, o.site, operationsDir, o.now, name, at, data)
		if err != nil {
			o.t.Fatal(err)
		}
		o.now = after
	}
}

// image picks an image's name.
func (o *operator) image() (string, bool) {
	var names []string
	for _, image := range o.now {
		names = append(names, image.Names...)
	}
	if len(names) == 0 {
		return "i0", false
	}
	slices.Sort(names)
	return names[rand.IntN(len(names))], true
}

// snapshot picks an image and one of its snapshots, or a name that it has not.
func (o *operator) snapshot() (image, snap string) {
	image, _ = o.image()
	id, _ := o.now.named(image)
	var names []string
	for name := range o.now[id].Snaps {
		names = append(names, name)
	}
	if len(names) == 0 {
		return image, "missing"
	}
	slices.Sort(names)
	return image, names[rand.IntN(len(names))]
}

func (o *operator) fresh(prefix string) string {
	o.next++
	return fmt.Sprintf("%s%d", prefix, o.next)
}
