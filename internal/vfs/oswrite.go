package vfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// vectorMax is the most pieces that the system takes in one write (IOV_MAX).
const vectorMax = 1024

// WriteVector implements [File].
func (f osFile) WriteVector(pieces [][]byte, off int64) error {
	for len(pieces) > 0 {
		some := pieces[:min(len(pieces), vectorMax)]
		n := 0
		err := control(f.File, func(fd int) (err error) {
			n, err = unix.Pwritev(fd, some, off)
			return err
		})
		if err != nil {
			return fmt.Errorf("write %d pieces at %d of %s: %w", len(some), off, f.Name(), err)
		}
		for _, p := range some { // one that was written in part says why
			if n < len(p) {
				if _, err := f.WriteAt(p[n:], off+int64(n)); err != nil {
					return err
				}
			}
			n = max(0, n-len(p))
			off += int64(len(p))
		}
		pieces = pieces[len(some):]
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
