package nbd

import "context"

// Exports finds what an export name serves.
type Exports interface {
	// List returns the names, sorted. The names are what a client may know of: who
	// must not see an export does not find it here.
	List(ctx context.Context) ([]string, error)
	// Open returns a session's handle on an export. ctx bounds the call, not the
	// handle. Errors carry fault codes: not_found becomes ERR_UNKNOWN, a state that
	// passes ERR_SHUTDOWN, anything else ERR_POLICY.
	Open(ctx context.Context, name string) (Device, error)
}

// Device is one session's handle on an export.
//
// Write, Zero and Flush are called by one goroutine in the order of arrival. They
// return as soon as the request has its place in that order, and may block for
// back-pressure until ctx ends. done is called exactly once, from any goroutine,
// possibly before they return; it never blocks. Ranges lie within Info's size and are
// never empty, and a read-only device is sent no changes.
//
// Several sessions may be open on one export, and clients are told so: what Flush (or
// a forced write) of any of them promises holds for the acknowledged writes of all.
type Device interface {
	// Info describes the export as this session sees it, unchanged until Close.
	Info() Info
	// Write stores p at off; p is the caller's again when Write returns. With fua,
	// done means that it is on stable storage.
	Write(ctx context.Context, p []byte, off uint64, fua bool, done func(error))
	// Zero makes a range read as zeroes, without writing them: clients are promised
	// that it is quick however long the range is.
	Zero(ctx context.Context, z ZeroRequest, done func(error))
	// Flush is done when everything acknowledged before it, in any session of the
	// export, is on stable storage.
	Flush(ctx context.Context, done func(error))
	// ReadAt fills p from off; it blocks, and several goroutines call it.
	ReadAt(ctx context.Context, p []byte, off uint64) error
	// Extents describes the range from off: at least its first byte; it may stop early
	// and does not go beyond off+length. Several goroutines call it.
	Extents(ctx context.Context, off, length uint64) ([]Extent, error)
	// Ended is closed when the export ends (its role changed, it was removed): the
	// session answers what is in flight, refuses the rest with ESHUTDOWN and closes.
	Ended() <-chan struct{}
	// Close ends the session, after the last done. What was acknowledged is safe when
	// it returns nil. It is called once.
	Close(ctx context.Context) error
}

// Info describes an export.
type Info struct {
	Name        string // canonical name, at most 4096 bytes
	Description string // for a person, at most 4096 bytes; may be empty
	Size        uint64 // bytes
	ReadOnly    bool
	// BlockMin is the alignment that requests need, a power of two up to 64 KiB; the
	// server announces it and leaves the checking to the device. 0 means 1.
	BlockMin uint32
	// BlockPreferred is the size that works best, a power of two of at least 512.
	// 0 means 4096.
	BlockPreferred uint32
	// BlockMax is the largest READ and WRITE in bytes. 0 means the server's limit,
	// which also bounds it.
	BlockMax uint32
}

// ZeroRequest is a TRIM or a WRITE_ZEROES.
type ZeroRequest struct {
	Offset uint64 // bytes
	Length uint64 // bytes, at least 1
	Trim   bool   // a TRIM: deallocate; the range reads as zeroes afterwards
	NoHole bool   // keep the space allocated
	FUA    bool   // done only when on stable storage
}

// Extent is a run of bytes in one state.
type Extent struct {
	Length uint64 // bytes
	Hole   bool   // takes no space: a write there may fail for want of it
	Zero   bool   // reads as zeroes
}
