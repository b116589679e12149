package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// cable is a link between two network namespaces, packet by packet: TCP meets loss, delay
// and silence as on a real one. (tc netem would do, but not every kernel has it.)
type cable struct {
	t      *testing.T
	spaces [2]string // network namespaces, of east and west
	ends   [2]*os.File
	passed sync.WaitGroup

	mu      sync.Mutex
	weather weather
}

// weather is what a cable does to packets, each way.
type weather struct {
	hole  bool    // nothing passes
	loss  float64 // the part of the packets that is lost
	delay time.Duration
	rate  int // bytes per second; zero: no bound
}

// queueTime is how much a cable with a rate holds before it drops: its far end's router.
const queueTime = 250 * time.Millisecond

// cabledPair starts two sites, each in a network namespace of its own, which reach each
// other over a cable alone.
func cabledPair(t *testing.T) (east, west *site, c *cable) {
	t.Helper()
	need(t, "ip", "ss")
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root makes network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	net := freeNetwork(t)
	c = &cable{t: t}
	sites := [2]*site{newSite(t, "east"), newSite(t, "west")}
	for i, s := range sites {
		c.addSpace(i, net)
		s.within = []string{"ip", "netns", "exec", c.spaces[i]}
		_, port, _ := strings.Cut(s.nats, ":")
		s.nats = fmt.Sprintf("10.77.%d.%d:%s", net, 4*i+2, port) // for this process
		s.flags = []string{"--insecure", "--nats-listen", "0.0.0.0:" + port, "--advertise", fmt.Sprintf("nats://10.78.%d.%d:%s", net, i+1, port)}
	}
	for i := range sites {
		c.passed.Go(func() { c.pass(c.ends[i], c.ends[1-i]) })
	}
	t.Cleanup(func() { // after the sites have ended, before their networks go
		for _, end := range c.ends {
			_ = end.Close()
		}
		c.passed.Wait()
	})
	east, west = sites[0], sites[1]
	east.launch()
	west.launch()
	east.awaitReady(t)
	west.awaitReady(t)
	peers(t, "vms", east, west)
	return east, west, c
}

// givenNetworks are the numbers that freeNetwork has given to tests of this process.
var givenNetworks sync.Map

// freeNetwork returns a number for the addresses and namespaces of a cable that no other has.
func freeNetwork(t *testing.T) int {
	t.Helper()
	const lowest, highest, tries = 16, 216, 100
	for range tries {
		net := lowest + rand.IntN(highest-lowest)
		if _, given := givenNetworks.LoadOrStore(net, true); given {
			continue
		}
		if _, err := os.Stat("/run/netns/" + spaceName(net, 0)); os.IsNotExist(err) {
			return net
		}
	}
	t.Fatal("no free network")
	return 0
}

// spaceName is the name of the network namespace of one end of a cable.
func spaceName(net, end int) string { return fmt.Sprintf("tm%d%c", net, 'e'+rune(18*end)) }

// addSpace makes a namespace with an end of the cable, and a way to it for this process.
func (c *cable) addSpace(i, net int) {
	c.t.Helper()
	space := spaceName(net, i)
	c.spaces[i] = space
	if out, err := exec.Command("ip", "netns", "add", space).CombinedOutput(); err != nil {
		c.t.Skipf("SKIPPED: no network namespace: %v: %s", err, out)
	}
	c.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", space).Run() }) // best effort
	c.ends[i] = c.openEnd(space + "t")
	c.ip("link", "set", space+"t", "netns", space)
	c.t.Cleanup(func() { _ = exec.Command("ip", "link", "del", space+"h").Run() }) // best effort
	c.ip("link", "add", space+"h", "type", "veth", "peer", "name", space+"v", "netns", space)
	c.ip("addr", "add", fmt.Sprintf("10.77.%d.%d/30", net, 4*i+1), "dev", space+"h")
	c.ip("link", "set", space+"h", "up")
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", fmt.Sprintf("10.77.%d.%d/30", net, 4*i+2), "dev", space + "v"},
		{"link", "set", space + "v", "up"},
		{"addr", "add", fmt.Sprintf("10.78.%d.%d", net, i+1), "peer", fmt.Sprintf("10.78.%d.%d", net, 2-i), "dev", space + "t"},
		{"link", "set", space + "t", "up"},
	} {
		c.ip(append([]string{"-n", space}, args...)...)
	}
}

func (c *cable) ip(args ...string) {
	c.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// openEnd makes a network device whose packets are read and written as a file.
func (c *cable) openEnd(name string) *os.File {
	c.t.Helper()
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		c.t.Skipf("SKIPPED: open /dev/net/tun: %v", err)
	}
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:15], name)
	request.flags = syscall.IFF_TUN | syscall.IFF_NO_PI
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		_ = syscall.Close(fd)
		c.t.Skipf("SKIPPED: make a network device: %v", errno)
	}
	return os.NewFile(uintptr(fd), name)
}

// become changes what the cable does.
func (c *cable) become(w weather) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weather = w
}

// reset ends the connections over the cable, so that both ends are told, and then no new one
// can be made until the returned function is called.
func (c *cable) reset() (heal func()) {
	for i, space := range c.spaces {
		cmd := exec.Command("ip", "netns", "exec", space, "ss", "-K", "dst", "10.78.0.0/16")
		if out, err := cmd.CombinedOutput(); err != nil {
			c.t.Logf("ss -K at %d: %v: %s", i, err, out)
		}
	}
	east := []string{"-n", c.spaces[1], "route", "add", "unreachable", "10.78.0.0/16", "metric", "1"}
	c.ip("-n", c.spaces[1], "link", "set", c.spaces[1]+"t", "down")
	c.ip(east...)
	return func() {
		east[3] = "del"
		c.ip(east...)
		c.ip("-n", c.spaces[1], "link", "set", c.spaces[1]+"t", "up")
	}
}

// pass carries packets one way until the end is closed.
func (c *cable) pass(from, to *os.File) {
	type packet struct {
		data []byte
		due  time.Time
	}
	under := make(chan packet, 4096)
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for p := range under {
			<-time.After(time.Until(p.due))
			_, _ = to.Write(p.data) // what cannot be written is lost
		}
	})
	defer carrying.Wait()
	defer close(under)
	free := time.Now() // when the cable has carried what it was given
	for {
		data := make([]byte, 2048)
		n, err := from.Read(data)
		if err != nil && !isDown(err) {
			return
		}
		c.mu.Lock()
		w := c.weather
		c.mu.Unlock()
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if err != nil || w.hole || rand.Float64() < w.loss || w.rate > 0 && free.Sub(now) > queueTime {
			if err != nil {
				<-time.After(pollTime)
			}
			continue
		}
		if w.rate > 0 {
			free = free.Add(time.Duration(n) * time.Second / time.Duration(w.rate))
		}
		under <- packet{data[:n], free.Add(w.delay)}
	}
}

// isDown reports whether a device cannot be read because it is down.
func isDown(err error) bool { return strings.Contains(err.Error(), syscall.EBADFD.Error()) }
