package wire

import "encoding/binary"

// Magic numbers.
const (
	MagicInit       = 0x4e42444d41474943 // "NBDMAGIC", first bytes of a server
	MagicOption     = 0x49484156454f5054 // "IHAVEOPT", second word of the server, first of an option
	MagicOptReply   = 0x0003e889045565a9
	MagicRequest    = 0x25609513
	MagicSimple     = 0x67446698
	MagicStructured = 0x668e33ef
)

// Handshake flags, of the server and (with the same bits) of the client.
const (
	HandshakeFixedNewstyle = 1 << 0
	HandshakeNoZeroes      = 1 << 1
)

// Transmission flags: what an export can do.
const (
	FlagHasFlags        = 1 << 0 // always set
	FlagReadOnly        = 1 << 1
	FlagSendFlush       = 1 << 2
	FlagSendFUA         = 1 << 3
	FlagRotational      = 1 << 4
	FlagSendTrim        = 1 << 5
	FlagSendWriteZeroes = 1 << 6
	FlagSendDF          = 1 << 7 // only with structured replies
	FlagCanMultiConn    = 1 << 8
	FlagSendResize      = 1 << 9
	FlagSendCache       = 1 << 10
	FlagSendFastZero    = 1 << 11 // only with FlagSendWriteZeroes
)

// Option is a question of the handshake.
type Option uint32

// The options.
const (
	OptExportName      Option = 1
	OptAbort           Option = 2
	OptList            Option = 3
	OptStartTLS        Option = 5
	OptInfo            Option = 6
	OptGo              Option = 7
	OptStructuredReply Option = 8
	OptListMetaContext Option = 9
	OptSetMetaContext  Option = 10
)

// OptReply is the kind of an answer to an option. Those with [OptReplyError] set are
// refusals, whose data is a text for a person.
type OptReply uint32

// OptReplyError is the bit that every refusal has.
const OptReplyError OptReply = 1 << 31

// The answers.
const (
	RepAck              OptReply = 1
	RepServer           OptReply = 2
	RepInfo             OptReply = 3
	RepMetaContext      OptReply = 4
	RepErrUnsup                  = OptReplyError | 1
	RepErrPolicy                 = OptReplyError | 2
	RepErrInvalid                = OptReplyError | 3
	RepErrPlatform               = OptReplyError | 4
	RepErrTLSRequired            = OptReplyError | 5
	RepErrUnknown                = OptReplyError | 6
	RepErrShutdown               = OptReplyError | 7
	RepErrBlockSizeReqd          = OptReplyError | 8
	RepErrTooBig                 = OptReplyError | 9
)

// InfoType is a fact about an export that INFO and GO ask for.
type InfoType uint16

// The facts.
const (
	InfoExport      InfoType = 0 // size and transmission flags; always sent
	InfoName        InfoType = 1
	InfoDescription InfoType = 2
	InfoBlockSize   InfoType = 3
)

// Command is what a request wants.
type Command uint16

// The commands.
const (
	CmdRead        Command = 0
	CmdWrite       Command = 1
	CmdDisconnect  Command = 2
	CmdFlush       Command = 3
	CmdTrim        Command = 4
	CmdCache       Command = 5
	CmdWriteZeroes Command = 6
	CmdBlockStatus Command = 7
)

// Command flags.
const (
	CmdFlagFUA      = 1 << 0 // reply only when the change is on stable storage
	CmdFlagNoHole   = 1 << 1 // WRITE_ZEROES: keep the space allocated
	CmdFlagDF       = 1 << 2 // READ: at most one content chunk
	CmdFlagReqOne   = 1 << 3 // BLOCK_STATUS: one extent, no longer than asked for
	CmdFlagFastZero = 1 << 4 // WRITE_ZEROES: refuse if slower than a WRITE
)

// ChunkDone marks the last chunk of a structured reply.
const ChunkDone = 1 << 0

// ChunkType is the kind of a chunk of a structured reply. Those with the top bit set
// are errors.
type ChunkType uint16

// The chunks.
const (
	ChunkNone        ChunkType = 0
	ChunkOffsetData  ChunkType = 1 // u64 offset, data
	ChunkOffsetHole  ChunkType = 2 // u64 offset, u32 length
	ChunkBlockStatus ChunkType = 5 // u32 context, then u32 length and u32 status each
	ChunkError       ChunkType = 1<<15 | 1
	ChunkErrorOffset ChunkType = 1<<15 | 2
)

// BaseAllocation is the metadata context of which ranges are stored.
const BaseAllocation = "base:allocation"

// Status bits of base:allocation.
const (
	StateHole = 1 << 0 // a write there may fail for want of space
	StateZero = 1 << 1 // reads as zeroes
)

// Bounds that the protocol names.
const (
	StringMax      = 4096     // bytes of a name or a text
	PayloadDefault = 32 << 20 // bytes of data that any client may assume a server takes
)

// Sizes of fixed headers, in bytes.
const (
	RequestSize    = 28
	SimpleSize     = 16
	StructuredSize = 20
	OptionSize     = 16
	OptReplySize   = 20
	ExportPadding  = 124 // zeroes after EXPORT_NAME's answer, unless both sides do without
)

// Request is the header of one request.
type Request struct {
	Flags   uint16
	Command Command
	Cookie  uint64
	Offset  uint64 // bytes
	Length  uint32 // bytes
}

// ParseRequest reads a header of [RequestSize] bytes; it reports whether the magic fits.
func ParseRequest(b []byte) (Request, bool) {
	_ = b[RequestSize-1]
	return Request{
		Flags:   binary.BigEndian.Uint16(b[4:]),
		Command: Command(binary.BigEndian.Uint16(b[6:])),
		Cookie:  binary.BigEndian.Uint64(b[8:]),
		Offset:  binary.BigEndian.Uint64(b[16:]),
		Length:  binary.BigEndian.Uint32(b[24:]),
	}, binary.BigEndian.Uint32(b) == MagicRequest
}

// Append adds the header's wire form to b.
func (r Request) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, MagicRequest)
	b = binary.BigEndian.AppendUint16(b, r.Flags)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Command))
	b = binary.BigEndian.AppendUint64(b, r.Cookie)
	b = binary.BigEndian.AppendUint64(b, r.Offset)
	return binary.BigEndian.AppendUint32(b, r.Length)
}

// AppendSimple adds the header of a simple reply to b.
func AppendSimple(b []byte, errno Errno, cookie uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, MagicSimple)
	b = binary.BigEndian.AppendUint32(b, uint32(errno))
	return binary.BigEndian.AppendUint64(b, cookie)
}

// AppendChunk adds the header of a chunk with length bytes of payload to b.
func AppendChunk(b []byte, flags uint16, kind ChunkType, cookie uint64, length uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, MagicStructured)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	b = binary.BigEndian.AppendUint64(b, cookie)
	return binary.BigEndian.AppendUint32(b, length)
}

// AppendOption adds an option with its data to b.
func AppendOption(b []byte, opt Option, data []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, MagicOption)
	b = binary.BigEndian.AppendUint32(b, uint32(opt))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// AppendOptReply adds the header of an answer with length bytes of data to b.
func AppendOptReply(b []byte, opt Option, kind OptReply, length int) []byte {
	b = binary.BigEndian.AppendUint64(b, MagicOptReply)
	b = binary.BigEndian.AppendUint32(b, uint32(opt))
	b = binary.BigEndian.AppendUint32(b, uint32(kind))
	return binary.BigEndian.AppendUint32(b, uint32(length))
}

// AppendString adds a string with its length before it to b.
func AppendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
