// Package nbd is Tidemark's NBD server: fixed newstyle handshake, STARTTLS, simple and
// structured replies, base:allocation. It knows the protocol and nothing of images;
// what an export name serves comes from [Exports].
//
// # A connection
//
//	accept ─► handshake ─► session ─► Device.Close ─► close
//
//	            ┌── WRITE, TRIM, WRITE_ZEROES, FLUSH, in order of arrival ──┐
//	conn ─► reader ── READ, BLOCK_STATUS ─► readQueue (up to ReadsPerConn) ─┼─► outbox ─► writer ─► conn
//	            └── refusals, CACHE ────────────────────────────────────────┘
//
// The reader is the only goroutine that submits changes, so the order in which a
// client sent them is the order in which the device sees them; completions come back
// in any order. The writer sends all replies that are ready in one system call.
//
// # What a client can cost
//
// Everything that a client claims is checked before memory is taken for it, and data
// of a large WRITE gets memory as it arrives. Beyond a connection's limit of requests
// or bytes in flight the reader stops reading, so that TCP pushes back; so it does for
// a large request while the budget of all connections (BytesTotal) is used up. Where
// there are too many connections, the oldest that is before the end of its handshake
// makes room: accepting never waits. A request that was begun must go on arriving, and
// replies must go on being taken, or the connection is dropped (StallTime); an idle
// connection may stay for ever.
//
// # TLS
//
// With a certificate ([Config].TLS) a client gets nothing before STARTTLS, but on unix
// sockets, where it may ask for it. The handshake reads not one byte ahead, and forgets
// at STARTTLS what was agreed before: nothing said in the clear counts behind it.
//
// # The end of a session
//
// Whatever ends it (DISC, a vanished client, a violated protocol, the export's end,
// the server's), outstanding requests are waited for and answered where anybody
// listens, the device is closed, then the socket. When export or server end, new
// requests meanwhile get ESHUTDOWN. All waiting is bounded by [Limits].
package nbd
