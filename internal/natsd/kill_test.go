package natsd

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// victimDir names the store in the environment of the child that is killed.
const victimDir = "TIDEMARK_NATSD_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		return
	}
	os.Exit(m.Run())
}

// victim publishes for ever and prints the number of each acknowledged message.
func victim(dir string) {
	ctx := context.Background()
	s, err := Start(ctx, config(dir))
	exitOn(err)
	nc, err := nats.Connect("", s.InProcess())
	exitOn(err)
	js, err := jetstream.New(nc)
	exitOn(err)
	stream, err := js.CreateOrUpdateStream(ctx, streamConfig())
	exitOn(err)
	for number := stream.CachedInfo().State.LastSeq + 1; ; number++ {
		_, err := js.Publish(ctx, testSubject, payload(number), jetstream.WithExpectLastSequence(number-1))
		exitOn(err)
		fmt.Println(number)
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestKilled kills a server in the middle of appending, again and again: nothing that
// was acknowledged is missing afterwards.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	acknowledged := uint64(0)
	for range 10 {
		acknowledged = max(acknowledged, killOne(t, dir))
	}
	c := connect(t, start(t, config(dir)))
	if got := c.last(); got < acknowledged {
		t.Fatalf("%d messages are left of %d acknowledged", got, acknowledged)
	}
	c.mustHold(1, acknowledged)
	t.Logf("%d messages were acknowledged", acknowledged)
}

// killOne runs a victim, kills it at a random moment, and returns the last number that
// it printed.
func killOne(t *testing.T, dir string) uint64 {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), victimDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	last, began := uint64(0), false
	for lines.Scan() {
		number, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			break // the line that the kill cut
		}
		last = number
		if !began {
			began = true
			time.AfterFunc(rand.N(100*time.Millisecond), func() { _ = child.Process.Kill() })
		}
	}
	if err := child.Wait(); err == nil || !began {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return last
}
