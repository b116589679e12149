package main

import (
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/access"
)

// TestFollowedUsers: the file holds who is let in once the log was read, and the server is told
// of each change, once; what it could not be told is told again.
func TestFollowedUsers(t *testing.T) {
	told := make(chan os.Signal, 16)
	signal.Notify(told, syscall.SIGHUP)
	defer signal.Stop(told)
	dir := t.TempDir()
	u := &followedUsers{site: "east", file: filepath.Join(dir, "users.conf"), pidFile: filepath.Join(dir, "pid"), log: slog.New(slog.DiscardHandler)}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own, guest := access.User{Grant: access.Gate("east"), Key: "UOWN"}, access.User{Grant: access.Joining("east", "vms"), Key: "UGUEST"}
	write(u.file, "what was there")
	set := func(fails bool, users ...access.User) {
		t.Helper()
		if err := u.SetUsers(users); err != nil != fails {
			t.Fatal(err)
		}
	}
	heard := func(want bool) {
		t.Helper()
		limit := 5 * time.Second
		if !want {
			limit = 20 * time.Millisecond // to ourselves it is sent at once
		}
		select {
		case <-told:
			if !want {
				t.Error("the server is told without need")
			}
		case <-time.After(limit):
			if want {
				t.Error("the server is not told")
			}
		}
	}
	holds := func(want bool, text string) {
		t.Helper()
		if have, err := os.ReadFile(u.file); err != nil || strings.Contains(string(have), text) != want {
			t.Errorf("the file holds %q: not %v (%v)", text, want, err)
		}
	}

	set(false, own) // the log was not read
	holds(true, "what was there")
	write(u.pidFile, "nobody")
	set(true, own, guest)
	holds(true, "UGUEST")
	write(u.pidFile, strconv.Itoa(os.Getpid())+"\n")
	heard(false)
	set(false, own, guest)
	heard(true)
	set(false, own, guest)
	heard(false)
	set(false, own)
	heard(true)
	holds(false, "UGUEST")
	if err := os.Remove(u.pidFile); err != nil {
		t.Fatal(err)
	}
	set(false, own, guest) // who does not run reads it when it starts
	holds(true, "UGUEST")
}
