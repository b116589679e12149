package nbd

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf8"

	"tidemark/internal/fault"
	"tidemark/internal/nbd/wire"
)

// open returns the device of an export. The empty name stands for the only export
// there is. The device of the name that was opened last is kept.
func (h *handshake) open(ctx context.Context, name string) (Device, error) {
	if len(name) > wire.StringMax || !utf8.ValidString(name) {
		return nil, fault.New(fault.NotFound, "no export can have this name")
	}
	if name == "" {
		names, err := h.server.exports.List(ctx)
		if err != nil {
			return nil, err
		}
		if len(names) != 1 {
			return nil, fault.New(fault.NotFound, "there is no default export: name one of the %d", len(names))
		}
		name = names[0]
	}
	if h.dev != nil && h.devName == name {
		return h.dev, nil
	}
	dev, err := h.server.exports.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	h.keep(ctx, dev, name)
	return dev, nil
}

// keep makes dev the device that is kept and closes the one before.
func (h *handshake) keep(ctx context.Context, dev Device, name string) {
	if h.dev != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.server.limits.DrainTime)
		defer cancel()
		if err := h.dev.Close(ctx); err != nil {
			h.server.log.Warn("closing an export that was only asked about failed", keyExport, h.devName, keyError, err)
		}
	}
	h.dev, h.devName = dev, name
}

// enter hands the kept device over to transmission.
func (h *handshake) enter(name string) *agreed {
	g := &agreed{
		conn:       h.conn,
		dev:        h.dev,
		info:       h.described(h.dev),
		structured: h.structured,
		allocation: h.meta.allocation && h.meta.export == name,
	}
	h.dev = nil
	return g
}

// described returns a device's Info with defaults filled in and within what the
// protocol allows.
func (h *handshake) described(dev Device) Info {
	info := dev.Info()
	limit := uint32(h.server.limits.PayloadMax)
	info.BlockMin = cmp.Or(info.BlockMin, 1)
	if bits.OnesCount32(info.BlockMin) != 1 || info.BlockMin > 64<<10 {
		info.BlockMin = 1
	}
	if bits.OnesCount32(info.BlockPreferred) != 1 {
		info.BlockPreferred = 4096
	}
	info.BlockPreferred = min(max(info.BlockPreferred, info.BlockMin, 512), limit)
	info.BlockMax = max(min(cmp.Or(info.BlockMax, limit), limit), info.BlockPreferred)
	info.BlockMax -= info.BlockMax % info.BlockMin
	return info
}

// transmissionFlags says what an export can do. Multi-conn is true for a writable one
// too: what a flush promises holds for all sessions (see [Device]).
func (h *handshake) transmissionFlags(info Info) uint16 {
	flags := uint16(wire.FlagHasFlags | wire.FlagSendFlush | wire.FlagSendFUA | wire.FlagCanMultiConn | wire.FlagSendCache)
	if info.ReadOnly {
		flags |= wire.FlagReadOnly
	} else {
		flags |= wire.FlagSendTrim | wire.FlagSendWriteZeroes | wire.FlagSendFastZero
	}
	if h.structured {
		flags |= wire.FlagSendDF
	}
	return flags
}

// exportName is the old way into transmission. It cannot say no but by closing.
func (h *handshake) exportName(ctx context.Context, name string) (*agreed, error) {
	dev, err := h.open(ctx, name)
	if err != nil {
		return nil, err
	}
	info := h.described(dev)
	h.out = binary.BigEndian.AppendUint64(h.out, info.Size)
	h.out = binary.BigEndian.AppendUint16(h.out, h.transmissionFlags(info))
	if !h.noZeroes {
		h.out = append(h.out, make([]byte, wire.ExportPadding)...)
	}
	return h.enter(name), nil
}

// list answers LIST: one answer for each export.
func (h *handshake) list(ctx context.Context, data []byte) {
	if len(data) != 0 {
		h.refuse(wire.OptList, wire.RepErrInvalid, "LIST takes no data")
		return
	}
	names, err := h.server.exports.List(ctx)
	if err != nil {
		h.refuseFor(wire.OptList, err)
		return
	}
	for _, name := range names {
		if len(name) <= wire.StringMax {
			h.reply(wire.OptList, wire.RepServer, wire.AppendString(nil, name))
		}
	}
	h.ack(wire.OptList)
}

// info answers INFO and GO. It returns what was agreed if it was a GO that succeeded.
func (h *handshake) info(ctx context.Context, opt wire.Option, data []byte) *agreed {
	r := optionReader{b: data}
	name := r.string()
	wanted := make(map[wire.InfoType]bool)
	n := int(r.uint16())
	if r.bad || len(r.b) != 2*n {
		h.refuse(opt, wire.RepErrInvalid, "the lengths in the option do not add up")
		return nil
	}
	for range n {
		wanted[wire.InfoType(r.uint16())] = true
	}
	dev, err := h.open(ctx, name)
	if err != nil {
		h.refuseFor(opt, err)
		return nil
	}
	info := h.described(dev)
	b := binary.BigEndian.AppendUint16(nil, uint16(wire.InfoExport))
	b = binary.BigEndian.AppendUint64(b, info.Size)
	h.reply(opt, wire.RepInfo, binary.BigEndian.AppendUint16(b, h.transmissionFlags(info)))
	if wanted[wire.InfoName] && len(info.Name) <= wire.StringMax {
		h.reply(opt, wire.RepInfo, append([]byte{0, byte(wire.InfoName)}, info.Name...))
	}
	if wanted[wire.InfoDescription] && info.Description != "" && len(info.Description) <= wire.StringMax {
		h.reply(opt, wire.RepInfo, append([]byte{0, byte(wire.InfoDescription)}, info.Description...))
	}
	if wanted[wire.InfoBlockSize] {
		b := binary.BigEndian.AppendUint16(nil, uint16(wire.InfoBlockSize))
		b = binary.BigEndian.AppendUint32(b, info.BlockMin)
		b = binary.BigEndian.AppendUint32(b, info.BlockPreferred)
		h.reply(opt, wire.RepInfo, binary.BigEndian.AppendUint32(b, info.BlockMax))
	}
	h.ack(opt)
	if opt == wire.OptInfo {
		return nil
	}
	return h.enter(name)
}

// allocationContext is the number that base:allocation has in a session.
const allocationContext = 1

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (h *handshake) metaContext(ctx context.Context, opt wire.Option, data []byte) {
	set := opt == wire.OptSetMetaContext
	if set { // whatever comes of it, the choice before is void
		h.meta = selection{}
		if !h.structured {
			h.refuse(opt, wire.RepErrInvalid, "structured replies must be agreed first")
			return
		}
	}
	name, chosen, err := parseQueries(data, !set)
	if err != nil {
		h.refuse(opt, wire.RepErrInvalid, err.Error())
		return
	}
	if _, err := h.open(ctx, name); err != nil {
		h.refuseFor(opt, err)
		return
	}
	if chosen {
		id := uint32(allocationContext)
		if !set {
			id = 0
		}
		h.reply(opt, wire.RepMetaContext, append(binary.BigEndian.AppendUint32(nil, id), wire.BaseAllocation...))
	}
	if set {
		h.meta = selection{export: name, allocation: chosen}
	}
	h.ack(opt)
}

// parseQueries reads the export's name and whether a query asks for base:allocation.
// When listing, "base:" stands for all of the namespace, and no query at all for
// everything. Namespaces that are not known here are passed over.
func parseQueries(data []byte, listing bool) (name string, chosen bool, err error) {
	r := optionReader{b: data}
	name = r.string()
	n := r.uint32()
	for range n {
		q := r.string()
		if r.bad {
			break
		}
		if !hasNamespace(q) {
			return "", false, errors.New("a query has no namespace")
		}
		chosen = chosen || q == wire.BaseAllocation || listing && q == "base:"
	}
	if r.bad || len(r.b) != 0 {
		return "", false, errors.New("the lengths in the option do not add up")
	}
	return name, chosen || listing && n == 0, nil
}

func hasNamespace(query string) bool {
	for i := range len(query) {
		if query[i] == ':' {
			return i > 0
		}
	}
	return false
}

// optionReader reads the fields of an option's data. After one that is not there, bad
// is set and everything reads as zero.
type optionReader struct {
	b   []byte
	bad bool
}

func (r *optionReader) take(n uint32) []byte {
	if r.bad || uint64(n) > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return make([]byte, min(n, 4)) // enough for any number
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *optionReader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *optionReader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *optionReader) string() string { return string(r.take(r.uint32())) }
