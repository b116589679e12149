package e2e_test

import (
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/nbd/wire"
)

// fioArgs is a verified random load on an image.
func fioArgs(uri, size string, seconds string) []string {
	args := strings.Fields("--name=verify --ioengine=nbd --rw=randwrite --bsrange=512-64k --blockalign=512 --iodepth=16 " +
		"--verify=crc32c --verify_backlog=512 --verify_fatal=1 --fsync=64 --randrepeat=0")
	args = append(args, "--uri="+uri, "--size="+size)
	if seconds != "" {
		args = append(args, "--time_based", "--runtime="+seconds)
	}
	return args
}

// TestFio writes and verifies.
func TestFio(t *testing.T) {
	t.Parallel()
	need(t, "fio")
	s := startSite(t, "east")
	s.createImage("vms/disk", "32MiB")
	out := runTool(t, t.TempDir(), "fio", fioArgs(s.uri("vms/disk"), "32M", "")...)
	if !strings.Contains(out, "err= 0") {
		t.Errorf("fio: %s", out)
	}
}

// TestFioBesideBadClients lets clients send malformed bytes while another one runs fio
// with verification: nobody but they themselves notices.
func TestFioBesideBadClients(t *testing.T) {
	t.Parallel()
	need(t, "fio")
	s := startSite(t, "east")
	s.createImage("vms/disk", "32MiB")
	stop := make(chan struct{})
	var bad sync.WaitGroup
	var sessions [4]int
	for i := range sessions {
		bad.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for {
				select {
				case <-stop:
					return
				default:
				}
				misbehave(random, s.socket, "vms/disk")
				sessions[i]++
			}
		})
	}
	path, _ := toolPath("fio")
	fio := exec.Command(path, fioArgs(s.uri("vms/disk"), "32M", "6")...)
	fio.Dir = t.TempDir() // it leaves its state there
	out, err := fio.CombinedOutput()
	close(stop)
	bad.Wait()
	if err != nil || !strings.Contains(string(out), "err= 0") {
		t.Errorf("fio beside bad clients: %v\n%s", err, out)
	}
	t.Logf("%v bad sessions", sessions)
	if code, _ := get(t, "http://"+s.http+"/healthz"); code != 200 {
		t.Errorf("healthz after it: %d", code)
	}
	s.terminate()
}

// misbehave is one session of a client that is broken or hostile: noise instead of a
// greeting, options with lying lengths, requests with lying lengths, an end in the middle.
func misbehave(random *rand.Rand, socket, export string) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }() // rude on purpose
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	noise := make([]byte, random.IntN(4096))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	greeting := []byte{0, 0, 0, 3}
	var say []byte
	switch random.IntN(6) {
	case 0:
		say = noise
	case 1:
		say = append(greeting, noise...)
	case 2:
		say = append(greeting, wire.AppendOption(nil, wire.OptGo, noise)...)
	case 3:
		long := wire.AppendOption(nil, wire.OptGo, nil)
		copy(long[len(long)-4:], "\xff\xff\xff\xff")
		say = append(append(greeting, long...), noise...)
	case 4:
		say = append(enterExport(greeting, export), noise...)
	default: // a write that never comes to its end, and one that lies about its length
		say = enterExport(greeting, export)
		r := wire.Request{Command: wire.CmdWrite, Offset: random.Uint64(), Length: random.Uint32(), Cookie: 1}
		if random.IntN(2) == 0 {
			r.Offset, r.Length = 0, 1<<20
		}
		say = append(r.Append(say), noise[:min(len(noise), 1000)]...)
	}
	_, _ = conn.Write(say)
	_, _ = conn.Read(make([]byte, 64))
	if random.IntN(2) == 0 {
		_, _ = conn.Read(make([]byte, 4096))
	}
}

// enterExport appends what brings a session to its transmission phase.
func enterExport(b []byte, export string) []byte {
	data := append(wire.AppendString(nil, export), 0, 0)
	return append(b, wire.AppendOption(nil, wire.OptGo, data)...)
}
