package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidemark/internal/fault"
)

const (
	unixPrefix = "unix:"
	// unixPathMax is what the kernel's socket addresses hold.
	unixPathMax = 107
	// socketMode lets only the owner of the process connect.
	socketMode = 0o600
	probeTime  = 2 * time.Second
)

// splitAddress returns the host of HOST:PORT.
func splitAddress(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("port %q: %w", port, err)
	}
	return host, nil
}

// isLoopback reports whether a host can only be reached from this one. A name other
// than localhost may mean anything tomorrow, and does not count.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// listen opens HOST:PORT or unix:PATH.
func listen(ctx context.Context, address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, unixPrefix)
	if !isUnix {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return nil, listenError(address, err)
		}
		return l, nil
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// The mode is given to the socket before it has a name, so that there is no moment
	// at which others could connect.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }); e != nil {
			return e
		}
		return err
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, listenError(address, err)
	}
	if err := os.Chmod(path, socketMode); err != nil { // where the kernel ignored the first
		_ = l.Close()
		return nil, listenError(address, err)
	}
	return l, nil
}

func listenError(address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fault.New(fault.Busy, "listen on %s: another process does so already", address)
	}
	return fmt.Errorf("listen on %s: %w", address, err)
}

// removeStale removes the socket of a process that is gone: nobody answers there.
// Anything else at that path is left alone.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen on %s%s: %w", unixPrefix, path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return fault.New(fault.Usage, "listen on %s%s: there is something else than a socket", unixPrefix, path)
	}
	conn, err := (&net.Dialer{Timeout: probeTime}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fault.New(fault.Busy, "listen on %s%s: another process does so already", unixPrefix, path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on %s%s: %w", unixPrefix, path, err)
	}
	return os.Remove(path)
}

// free returns an error if an address cannot be listened on now. The embedded NATS
// server would only say so after half a minute.
func free(ctx context.Context, address string) error {
	l, err := listen(ctx, address)
	if err != nil {
		return err
	}
	return l.Close()
}
