package main

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// notifySocket is the variable by which a service manager says where it listens.
const notifySocket = "NOTIFY_SOCKET"

// tellSupervisor says READY=1 to the service manager that started the process, if there is
// one that asked for it (systemd's Type=notify; the protocol is sd_notify's): one datagram
// to the socket that NOTIFY_SOCKET names. A name that begins with @ is an abstract one.
func tellSupervisor(ctx context.Context, socket string) error {
	if socket == "" {
		return nil
	}
	if name, abstract := strings.CutPrefix(socket, "@"); abstract {
		socket = "\x00" + name
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unixgram", socket)
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer func() { _ = conn.Close() }() // what was written to it was delivered
	if _, err := conn.Write([]byte("READY=1")); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
