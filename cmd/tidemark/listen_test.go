package main

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"tidemark/internal/fault"
)

func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "tm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	live, err := listen(t.Context(), unixPrefix+path)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != socketMode || info.Mode()&fs.ModeSocket == 0 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	if _, err := listen(t.Context(), unixPrefix+path); fault.CodeOf(err) != fault.Busy {
		t.Errorf("a live socket was taken over: %v", err)
	}
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket outlived its listener")
	}
}

func TestAddressInUse(t *testing.T) {
	l, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := listen(t.Context(), l.Addr().String()); fault.CodeOf(err) != fault.Busy {
		t.Errorf("listening twice: %v", err)
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "localhost": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "example.com": false, "localhost.evil.com": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("isLoopback(%q) = %v", host, !want)
		}
	}
}

func TestLocksKeepTheSamePartsApart(t *testing.T) {
	data := t.TempDir()
	first, err := lockParts(data, []string{"nats", "policy"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := lockParts(data, []string{"journal"})
	if err != nil {
		t.Fatalf("another service on the same data: %v", err)
	}
	defer other.release()
	if _, err := lockParts(data, []string{"replayer", "policy"}); fault.CodeOf(err) != fault.Busy {
		t.Errorf("the same service on the same data: %v", err)
	}
	// What a failed attempt had taken is free again.
	again, err := lockParts(data, []string{"replayer"})
	if err != nil {
		t.Fatalf("a failed attempt left its locks: %v", err)
	}
	again.release()
	first.release()
	if again, err = lockParts(data, []string{"policy"}); err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.release()
}
