package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/gate"
)

// pidBytesMax is more than a process id has.
const pidBytesMax = 64

// followedUsers keeps the users in the configuration of an outside NATS server up to date.
type followedUsers struct {
	site    string
	file    string
	pidFile string // empty: somebody else has the server read its configuration again
	known   bool   // the log was read: what is written includes the guests
	told    bool   // the server was told of what the file holds
	log     *slog.Logger
}

// run works until ctx ends.
func (u *followedUsers) run(ctx context.Context, c *cli, own []access.User) error {
	u.log = c.logger(slog.LevelInfo)
	credentials := bus.Config{Name: "tidemark access", URL: c.natsURL, Creds: c.creds, CA: c.natsCA, Log: u.log, Guest: true}
	b, err := connectPatiently(ctx, credentials, c.timeout)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := awaitStreams(ctx, b, u.log, events.StreamPools, events.StreamDirectories); err != nil || ctx.Err() != nil {
		return err
	}
	return gate.Keep(ctx, b, u, u.site, own, u.log)
}

// awaitStreams returns when the site has these streams, or ctx ends: its first process makes them.
func awaitStreams(ctx context.Context, b *bus.Bus, log *slog.Logger, streams ...string) error {
	for _, stream := range streams {
		for ctx.Err() == nil {
			_, err := b.State(ctx, stream)
			if err == nil {
				break
			}
			if !errors.Is(err, bus.ErrNotFound) && fault.CodeOf(err) != fault.Timeout {
				return err
			}
			log.Info("waiting for a process of the site", "stream", stream)
			_ = pause(ctx, time.Second) // the loop looks whether ctx has ended
		}
	}
	return nil
}

// SetUsers implements [gate.Server]. The first call is about the site's own users alone: until
// the log was read, whoever the file lets in stays.
func (u *followedUsers) SetUsers(users []access.User) error {
	if !u.known {
		u.known = true
		return nil
	}
	text := usersFile(u.site, users)
	have, err := os.ReadFile(u.file)
	if err == nil && string(have) == text && u.told {
		return nil
	}
	u.told = false
	if err := replaceFile(u.file, text); err != nil {
		return fmt.Errorf("write the users: %w", err)
	}
	if err := u.reload(); err != nil {
		return err
	}
	u.told = true
	return nil
}

// reload has the server read its configuration again. One that does not run reads it when it
// starts.
func (u *followedUsers) reload() error {
	if u.pidFile == "" {
		return nil
	}
	f, err := os.Open(u.pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		u.log.Warn("the NATS server does not run", "pid_file", u.pidFile)
		return nil
	} else if err != nil {
		return fmt.Errorf("find the NATS server: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := readLimited(f, pidBytesMax)
	if err != nil {
		return fmt.Errorf("find the NATS server: %w", err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || id <= 0 {
		return fault.New(fault.Usage, "--reload %s holds no process id", u.pidFile)
	}
	if err := syscall.Kill(id, syscall.SIGHUP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("have the NATS server read its users: %w", err)
	}
	return nil
}

// replaceFile gives a file new content, as a whole or not at all.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has the other name by then
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
