package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tidemark/internal/fault"
)

// locks keeps other processes from running the same parts on the same data folder.
// Processes that run different services may share one. The kernel drops the locks
// when the process dies, however it dies.
type locks struct{ files []*os.File }

// lockParts takes the lock of each part (a service, or "nats"): DIR/locks/PART.
func lockParts(data string, parts []string) (*locks, error) {
	dir := filepath.Join(data, "locks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare the data folder: %w", err)
	}
	l := &locks{}
	for _, part := range parts {
		f, err := lockFile(filepath.Join(dir, part))
		if err != nil {
			l.release()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fault.New(fault.Busy, "another process%s runs %s on %s: stop it, or use another --data", holderOf(filepath.Join(dir, part)), part, data)
			}
			return nil, fmt.Errorf("lock the data folder: %w", err)
		}
		l.files = append(l.files, f)
	}
	return l, nil
}

// lockFile locks a file and writes this process's id into it, for people.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid()) // the lock counts, not its content
	}
	return f, nil
}

// holderOf names the process that wrote its id into a lock, if it can be read.
func holderOf(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	id, _ := io.ReadAll(io.LimitReader(f, 20))
	if text := strings.TrimSpace(string(id)); text != "" {
		return " (" + text + ")"
	}
	return ""
}

func (l *locks) release() {
	if l == nil {
		return
	}
	for _, f := range l.files {
		_ = f.Close() // which unlocks it
	}
}
