package nbdclient

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"tidemark/internal/nbd/wire"
)

// RefusedError is the server's refusal of an option of the handshake.
type RefusedError struct {
	Option wire.Option
	Reply  wire.OptReply
	Text   string // the server's words, may be empty
}

// Error names the refusal and the server's words.
func (e *RefusedError) Error() string {
	what := map[wire.OptReply]string{
		wire.RepErrUnsup:       "not supported",
		wire.RepErrPolicy:      "not allowed",
		wire.RepErrInvalid:     "invalid",
		wire.RepErrTLSRequired: "TLS is required",
		wire.RepErrUnknown:     "no such export",
		wire.RepErrShutdown:    "not available now",
		wire.RepErrTooBig:      "too big",
	}[e.Reply]
	if what == "" {
		what = fmt.Sprintf("refused with %#x", uint32(e.Reply))
	}
	if e.Text == "" {
		return "the NBD server says: " + what
	}
	return "the NBD server says: " + what + ": " + e.Text
}

// replyMax bounds the data of one answer of the handshake, in bytes.
const replyMax = 64 << 10

// haggler is the client's side of a handshake.
type haggler struct {
	conn net.Conn
	r    *bufio.Reader
}

// dial connects and exchanges greetings; ctx bounds both. The returned function ends
// ctx's hold on the connection, and must be called once.
func dial(ctx context.Context, network, address string) (*haggler, func() error, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the NBD server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	h := &haggler{conn: conn, r: bufio.NewReaderSize(conn, 256<<10)}
	if err := h.greet(); err != nil {
		stop()
		return nil, nil, errors.Join(err, conn.Close())
	}
	letGo := func() error {
		if !stop() {
			return context.Cause(ctx)
		}
		return nil
	}
	return h, letGo, nil
}

func (h *haggler) greet() error {
	var b [18]byte
	if _, err := io.ReadFull(h.r, b[:]); err != nil {
		return fmt.Errorf("read the NBD greeting: %w", err)
	}
	if binary.BigEndian.Uint64(b[:]) != wire.MagicInit || binary.BigEndian.Uint64(b[8:]) != wire.MagicOption {
		return errors.New("this is not an NBD server of the newstyle")
	}
	const needed = wire.HandshakeFixedNewstyle | wire.HandshakeNoZeroes
	if binary.BigEndian.Uint16(b[16:])&needed != needed {
		return errors.New("the NBD server is too old")
	}
	_, err := h.conn.Write(binary.BigEndian.AppendUint32(nil, needed))
	return err
}

// ask sends an option and passes its answers to each, until the final one. It returns
// a [*RefusedError] if that is a refusal.
func (h *haggler) ask(opt wire.Option, data []byte, each func(wire.OptReply, []byte) error) error {
	if _, err := h.conn.Write(wire.AppendOption(nil, opt, data)); err != nil {
		return fmt.Errorf("send an NBD option: %w", err)
	}
	for {
		var b [wire.OptReplySize]byte
		if _, err := io.ReadFull(h.r, b[:]); err != nil {
			return fmt.Errorf("read the answer to an NBD option: %w", err)
		}
		kind := wire.OptReply(binary.BigEndian.Uint32(b[12:]))
		length := binary.BigEndian.Uint32(b[16:])
		if binary.BigEndian.Uint64(b[:]) != wire.MagicOptReply || wire.Option(binary.BigEndian.Uint32(b[8:])) != opt || length > replyMax {
			return fmt.Errorf("the answer to NBD option %d is malformed", opt)
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(h.r, payload); err != nil {
			return fmt.Errorf("read the answer to an NBD option: %w", err)
		}
		switch {
		case kind == wire.RepAck:
			return nil
		case kind&wire.OptReplyError != 0:
			return &RefusedError{Option: opt, Reply: kind, Text: string(payload)}
		case each == nil:
			return fmt.Errorf("NBD option %d was answered with %d", opt, kind)
		}
		if err := each(kind, payload); err != nil {
			return err
		}
	}
}

// try is ask for what can be done without: a refusal is no error. It reports whether
// the server agreed.
func (h *haggler) try(opt wire.Option, data []byte, each func(wire.OptReply, []byte) error) (bool, error) {
	err := h.ask(opt, data, each)
	var refused *RefusedError
	if errors.As(err, &refused) {
		return false, nil
	}
	return err == nil, err
}

// List returns the names of a server's exports. ctx bounds the call.
func List(ctx context.Context, network, address string) ([]string, error) {
	h, letGo, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.conn.Close() }()
	defer func() { _ = letGo() }()
	var names []string
	err = h.ask(wire.OptList, nil, func(kind wire.OptReply, b []byte) error {
		if kind != wire.RepServer || len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
			return errors.New("the NBD server's list is malformed")
		}
		names = append(names, string(b[4:4+binary.BigEndian.Uint32(b)]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return names, h.ask(wire.OptAbort, nil, nil)
}

// terms are what the handshake came to.
type terms struct {
	size       uint64
	flags      uint16
	payloadMax uint32
	structured bool
	allocation bool
	context    uint32 // the number of base:allocation
}

// enter negotiates for an export and goes into transmission.
func (h *haggler) enter(export string) (terms, error) {
	t := terms{payloadMax: wire.PayloadDefault}
	var err error
	if t.structured, err = h.try(wire.OptStructuredReply, nil, nil); err != nil {
		return t, err
	}
	if t.structured {
		query := wire.AppendString(nil, export)
		query = binary.BigEndian.AppendUint32(query, 1)
		query = wire.AppendString(query, wire.BaseAllocation)
		_, err = h.try(wire.OptSetMetaContext, query, func(kind wire.OptReply, b []byte) error {
			if kind != wire.RepMetaContext || len(b) < 4 || string(b[4:]) != wire.BaseAllocation {
				return errors.New("the NBD server selected a context that nobody asked for")
			}
			t.allocation, t.context = true, binary.BigEndian.Uint32(b)
			return nil
		})
		if err != nil {
			return t, err
		}
	}
	req := wire.AppendString(nil, export)
	req = binary.BigEndian.AppendUint16(req, 1)
	req = binary.BigEndian.AppendUint16(req, uint16(wire.InfoBlockSize))
	described := false
	err = h.ask(wire.OptGo, req, func(kind wire.OptReply, b []byte) error {
		if kind != wire.RepInfo || len(b) < 2 {
			return errors.New("the NBD server's description of the export is malformed")
		}
		switch info := wire.InfoType(binary.BigEndian.Uint16(b)); {
		case info == wire.InfoExport && len(b) == 12:
			t.size, t.flags, described = binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint16(b[10:]), true
		case info == wire.InfoBlockSize && len(b) == 14:
			t.payloadMax = min(max(binary.BigEndian.Uint32(b[10:]), 512), wire.PayloadDefault)
		}
		return nil
	})
	if err == nil && !described {
		err = errors.New("the NBD server did not say how large the export is")
	}
	return t, err
}
