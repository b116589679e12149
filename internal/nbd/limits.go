package nbd

import (
	"cmp"
	"time"

	"tidemark/internal/nbd/wire"
)

// Limits bounds what clients can cost. A zero field stands for its default.
type Limits struct {
	// Connections is how many there may be at a time over all listeners. One more takes
	// the place of the oldest that is before the end of its handshake; if there is none,
	// it is closed at once. Default 256.
	Connections int
	// Handshakes is how many connections may be before the end of their handshake; for
	// one more, the oldest of them is closed. Default 32.
	Handshakes int
	// HandshakeTime is how long a handshake may take. Default 10 s.
	HandshakeTime time.Duration
	// OptionBytes is the most data that an option may carry. Default 64 KiB.
	OptionBytes int
	// RequestsPerConn is how many requests of a connection may be unanswered before
	// the server stops reading from it. Default 128.
	RequestsPerConn int
	// BytesPerConn is the same for the bytes that they write or ask for; it is at least
	// PayloadMax. Default 64 MiB.
	BytesPerConn int
	// BytesTotal is the same, in bytes of memory, over all connections: one that has no
	// part in it waits. The first 256 KiB of each connection do not count, so that small
	// requests go on whatever others do: the data in flight takes at most BytesTotal and
	// 256 KiB times Connections. It is at least twice BytesPerConn. Default 512 MiB.
	BytesTotal int
	// ReadsPerConn is how many READ and BLOCK_STATUS of a connection are at the device
	// at a time. Default 32.
	ReadsPerConn int
	// PayloadMax is the largest READ and WRITE, in bytes: 1 MiB to 1 GiB. Default 32 MiB.
	PayloadMax int
	// StallTime is how long the rest of a request that was begun, or the taking of
	// replies, may stand still: each MiB of data has this time anew. Default 60 s.
	StallTime time.Duration
	// DrainTime is how long the requests in flight may take when a session ends, and
	// again how long the device may take to close. Default 30 s.
	DrainTime time.Duration
}

const (
	payloadMin     = 1 << 20
	payloadCeiling = 1 << 30
)

// withDefaults returns l with defaults for zero fields and impossible values mended.
func (l Limits) withDefaults() Limits {
	l.Connections = cmp.Or(max(l.Connections, 0), 256)
	l.Handshakes = cmp.Or(max(l.Handshakes, 0), 32)
	l.HandshakeTime = cmp.Or(max(l.HandshakeTime, 0), 10*time.Second)
	l.OptionBytes = cmp.Or(max(l.OptionBytes, 0), 64<<10)
	l.RequestsPerConn = cmp.Or(max(l.RequestsPerConn, 0), 128)
	l.BytesPerConn = cmp.Or(max(l.BytesPerConn, 0), 64<<20)
	l.ReadsPerConn = cmp.Or(max(l.ReadsPerConn, 0), 32)
	l.PayloadMax = cmp.Or(max(l.PayloadMax, 0), wire.PayloadDefault)
	l.PayloadMax = min(max(l.PayloadMax, payloadMin), payloadCeiling)
	l.BytesPerConn = max(l.BytesPerConn, l.PayloadMax)
	l.BytesTotal = cmp.Or(max(l.BytesTotal, 0), 512<<20)
	l.BytesTotal = max(l.BytesTotal, 2*l.BytesPerConn)
	l.StallTime = cmp.Or(max(l.StallTime, 0), time.Minute)
	l.DrainTime = cmp.Or(max(l.DrainTime, 0), 30*time.Second)
	return l
}
