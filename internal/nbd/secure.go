package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"tidemark/internal/nbd/wire"
)

// errPlain ends a connection whose client wants an export without TLS, in the one way
// that cannot be refused otherwise.
var errPlain = errors.New("the client did not ask for TLS first")

// farewellTime bounds how long the end of a TLS session may take to be said.
const farewellTime = time.Second

// secured is a connection after STARTTLS. Close never waits for the client, as that of a
// plain connection does not.
type secured struct{ *tls.Conn }

func (c secured) Close() error { return c.NetConn().Close() }

// bid tells the client that nothing more comes, so that it can tell the end of a session
// from a link that was cut.
func bid(conn net.Conn) {
	c, ok := conn.(secured)
	if !ok {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(farewellTime))
	_ = c.CloseWrite() // whoever is gone already does not hear it
}

// underneath returns the connection that the system knows.
func underneath(conn net.Conn) net.Conn {
	if c, ok := conn.(secured); ok {
		return c.NetConn()
	}
	return conn
}

// mustSecure reports whether a client gets nothing before STARTTLS. Whoever reaches a
// unix socket is on this machine, and let in by its permissions.
func (h *handshake) mustSecure() bool {
	return h.server.tls != nil && !h.secure && h.conn.LocalAddr().Network() != "unix"
}

// startTLS answers STARTTLS.
func (h *handshake) startTLS(data []byte) {
	switch {
	case h.server.tls == nil:
		h.refuse(wire.OptStartTLS, wire.RepErrUnsup, "the server has no certificate")
	case len(data) != 0 || h.secure:
		h.refuse(wire.OptStartTLS, wire.RepErrInvalid, "STARTTLS takes no data and is agreed once")
	default:
		h.secure, h.securing = true, true
		h.ack(wire.OptStartTLS)
	}
}

// upgrade goes on over TLS. What was agreed before, when anybody could have put words
// into the client's mouth, is void.
func (h *handshake) upgrade(ctx context.Context) error {
	h.securing = false
	h.structured, h.meta = false, selection{}
	h.keep(ctx, nil, "")
	conn := tls.Server(h.conn, h.server.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	h.conn = secured{conn}
	return nil
}
