package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"tidemark/internal/nbd/wire"
)

// errAborted says that the client ended the handshake properly.
var errAborted = errors.New("the client ended the handshake")

// handshake is the option phase of a connection. It reads exactly the bytes of one
// option at a time: what follows belongs to the next phase, which may be TLS.
type handshake struct {
	server    *Server
	conn      net.Conn
	greeted   func() bool // called before the last answer; false: the connection is to end
	noZeroes  bool
	secure    bool   // STARTTLS was agreed
	securing  bool   // TLS begins behind the answer under way
	out       []byte // answers to the option under way
	discarded uint64 // bytes of oversized options

	structured bool
	meta       selection

	// dev is the device that was last asked about, kept for a GO that follows: both
	// must say the same.
	dev     Device
	devName string
}

// selection is what SET_META_CONTEXT chose. It counts only for the export it names.
type selection struct {
	export     string
	allocation bool
}

// agreed is the outcome of a handshake. Whoever has it closes the device.
type agreed struct {
	conn       net.Conn // where transmission takes place: not the accepted one after TLS
	dev        Device
	info       Info
	structured bool
	allocation bool
}

// run negotiates until the client enters transmission. Any error means that the
// connection is to be closed; no device is open then.
func (h *handshake) run(ctx context.Context) (_ *agreed, err error) {
	defer func() {
		if err != nil {
			h.keep(ctx, nil, "")
		}
	}()
	if err := h.greet(); err != nil {
		return nil, err
	}
	for {
		opt, data, ok, err := h.option()
		if err != nil {
			return nil, err
		}
		h.out = h.out[:0]
		var g *agreed
		if !ok {
			h.refuse(opt, wire.RepErrTooBig, "the option is too long")
		} else if g, err = h.answer(ctx, opt, data); err != nil && !errors.Is(err, errAborted) {
			return nil, err
		}
		if g != nil && !h.greeted() {
			h.dev = g.dev // to be closed like any other
			return nil, errEvicted
		}
		if _, werr := h.conn.Write(h.out); werr != nil {
			if g != nil {
				h.dev = g.dev // to be closed like any other
			}
			return nil, errors.Join(err, werr)
		}
		if g != nil || err != nil {
			return g, err
		}
		if h.securing {
			if err := h.upgrade(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// greet exchanges the first words. A client that sets flags which were not offered, or
// lacks fixed newstyle, cannot be talked to.
func (h *handshake) greet() error {
	const offered = wire.HandshakeFixedNewstyle | wire.HandshakeNoZeroes
	b := binary.BigEndian.AppendUint64(nil, wire.MagicInit)
	b = binary.BigEndian.AppendUint64(b, wire.MagicOption)
	b = binary.BigEndian.AppendUint16(b, offered)
	if _, err := h.conn.Write(b); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(h.conn, flags[:]); err != nil {
		return fmt.Errorf("read the client's flags: %w", err)
	}
	f := binary.BigEndian.Uint32(flags[:])
	if f&^offered != 0 || f&wire.HandshakeFixedNewstyle == 0 {
		return fmt.Errorf("client flags %#x", f)
	}
	h.noZeroes = f&wire.HandshakeNoZeroes != 0
	return nil
}

// discardOptions times OptionBytes is what a client may waste on oversized options.
const discardOptions = 16

// option reads one option. ok is false when its data was too long and was skipped.
func (h *handshake) option() (opt wire.Option, data []byte, ok bool, err error) {
	var header [wire.OptionSize]byte
	if _, err := io.ReadFull(h.conn, header[:]); err != nil {
		return 0, nil, false, fmt.Errorf("read an option: %w", err)
	}
	if binary.BigEndian.Uint64(header[:]) != wire.MagicOption {
		return 0, nil, false, errors.New("an option has the wrong magic")
	}
	opt = wire.Option(binary.BigEndian.Uint32(header[8:]))
	length := uint64(binary.BigEndian.Uint32(header[12:]))
	limit := uint64(h.server.limits.OptionBytes)
	if length > limit {
		if h.discarded += length; h.discarded > discardOptions*limit || opt == wire.OptExportName {
			return 0, nil, false, fmt.Errorf("an option of %d bytes", length)
		}
		_, err := io.CopyN(io.Discard, h.conn, int64(length))
		return opt, nil, false, err
	}
	data = make([]byte, length)
	if _, err := io.ReadFull(h.conn, data); err != nil {
		return 0, nil, false, fmt.Errorf("read option %d: %w", opt, err)
	}
	return opt, data, true, nil
}

// answer carries out one option; its answers are left in h.out. It returns what was
// agreed when the client enters transmission.
func (h *handshake) answer(ctx context.Context, opt wire.Option, data []byte) (*agreed, error) {
	if h.mustSecure() && opt != wire.OptStartTLS && opt != wire.OptAbort {
		if opt == wire.OptExportName {
			return nil, errPlain
		}
		h.refuse(opt, wire.RepErrTLSRequired, "this server speaks only TLS here: begin with STARTTLS")
		return nil, nil
	}
	switch opt {
	case wire.OptExportName:
		return h.exportName(ctx, string(data))
	case wire.OptAbort: // its data, if any, means nothing
		h.ack(opt)
		return nil, errAborted
	case wire.OptStartTLS:
		h.startTLS(data)
	case wire.OptList:
		h.list(ctx, data)
	case wire.OptInfo, wire.OptGo:
		return h.info(ctx, opt, data), nil
	case wire.OptStructuredReply:
		if len(data) != 0 || h.structured {
			h.refuse(opt, wire.RepErrInvalid, "structured replies take no data and are agreed once")
			break
		}
		h.structured = true
		h.ack(opt)
	case wire.OptListMetaContext, wire.OptSetMetaContext:
		h.metaContext(ctx, opt, data)
	default:
		h.refuse(opt, wire.RepErrUnsup, "the option is not supported")
	}
	return nil, nil
}

// reply adds an answer to what is sent for the option.
func (h *handshake) reply(opt wire.Option, kind wire.OptReply, data []byte) {
	h.out = wire.AppendOptReply(h.out, opt, kind, len(data))
	h.out = append(h.out, data...)
}

func (h *handshake) ack(opt wire.Option) { h.reply(opt, wire.RepAck, nil) }

func (h *handshake) refuse(opt wire.Option, kind wire.OptReply, text string) {
	h.reply(opt, kind, []byte(text))
}

// refuseFor refuses for an error of [Exports].
func (h *handshake) refuseFor(opt wire.Option, err error) {
	kind := refusal(err)
	text := "the export cannot be served"
	if kind == wire.RepErrUnknown {
		text = "there is no such export"
	}
	h.refuse(opt, kind, explain(err, text))
}
