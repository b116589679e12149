package vfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// writeBytes is how much one system call writes, in bytes; calls meet at its multiples. A page
// of the page cache is as large as the call that made it, up to megabytes, and until it is
// dropped each later write into it, however short, goes through a list of all its blocks: 4 KiB
// take 2 us where they were written 4 KiB at a time, 3 us after 32 KiB, 7 us after 128 KiB and
// 70 us after 4 MiB. Long writes gain nothing by longer calls.
const writeBytes = 32 << 10

// WriteAt implements [File].
func (f osFile) WriteAt(p []byte, off int64) (n int, err error) {
	for err == nil && n < len(p) {
		var some int
		end := min(len(p), n+callBytes(off+int64(n)))
		some, err = f.File.WriteAt(p[n:end], off+int64(n))
		n += some
	}
	return n, err
}

// callBytes returns how much may be written at an offset by one call.
func callBytes(off int64) int { return writeBytes - int(off%writeBytes) }

// WriteVector implements [File].
func (f osFile) WriteVector(pieces [][]byte, off int64) error {
	var call [][]byte // what one call writes
	var length int
	for _, p := range pieces {
		for len(p) > 0 {
			n := min(len(p), callBytes(off+int64(length)))
			call, length, p = append(call, p[:n]), length+n, p[n:]
			if len(call) < vectorMax && callBytes(off+int64(length)) < writeBytes {
				continue
			}
			if err := f.writeCall(call, off); err != nil {
				return err
			}
			call, length, off = call[:0], 0, off+int64(length)
		}
	}
	return f.writeCall(call, off)
}

// vectorMax is the most pieces that the system takes in one write (IOV_MAX).
const vectorMax = 1024

// writeCall writes at most vectorMax pieces by one call, and what that leaves by itself.
func (f osFile) writeCall(pieces [][]byte, off int64) error {
	if len(pieces) == 0 {
		return nil
	}
	n := 0
	err := control(f.File, func(fd int) (err error) {
		n, err = unix.Pwritev(fd, pieces, off)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %d pieces at %d of %s: %w", len(pieces), off, f.Name(), err)
	}
	for _, p := range pieces { // one that was written in part says why
		if n < len(p) {
			if _, err := f.WriteAt(p[n:], off+int64(n)); err != nil {
				return err
			}
		}
		n = max(0, n-len(p))
		off += int64(len(p))
	}
	return nil
}

// StartWriteback implements [File]. The system does not report errors to it, but to who
// waits.
func (f osFile) StartWriteback(off, length int64) {
	_ = f.syncRange(off, length, unix.SYNC_FILE_RANGE_WRITE)
}

// AwaitWriteback implements [File]. Where the system does not know it, Sync does it all.
func (f osFile) AwaitWriteback(off, length int64) error {
	err := f.syncRange(off, length, unix.SYNC_FILE_RANGE_WAIT_BEFORE)
	if err == nil || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ESPIPE) {
		return nil
	}
	return fmt.Errorf("write back %d bytes at %d of %s: %w", length, off, f.Name(), err)
}

func (f osFile) syncRange(off, length int64, flags int) error {
	return control(f.File, func(fd int) error { return unix.SyncFileRange(fd, off, length, flags) })
}
