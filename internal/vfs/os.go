package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o750
	fileMode = 0o640
)

// OS returns the filesystem of the operating system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) MkdirAll(dir string) error    { return os.MkdirAll(dir, dirMode) }
func (osFS) Remove(name string) error     { return os.Remove(name) }
func (osFS) RemoveAll(dir string) error   { return os.RemoveAll(dir) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Open(name string) (File, error) {
	return openFile(name, os.O_RDWR)
}

func (osFS) Create(name string) (File, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE)
}

func openFile(name string, flags int) (File, error) {
	f, err := os.OpenFile(name, flags, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Exists(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	err = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		return osLock{f}, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
}

// osLock is a lock that is held. It is given up by name, not by closing the file alone: a
// process that is just being started has the file open too, and would hold the lock until
// it has closed that.
type osLock struct{ *os.File }

func (l osLock) Close() error {
	err := control(l.File, func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) })
	return errors.Join(err, l.File.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) PunchHole(off, length int64) error {
	err := f.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	return writeZeroes(f, off, min(length, size-off))
}

func (f osFile) ZeroRange(off, length int64) error {
	err := f.fallocate(unix.FALLOC_FL_ZERO_RANGE, off, length)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	// tmpfs knows no ZERO_RANGE, but punching and plain allocation, which together
	// are the same.
	if err := f.PunchHole(off, length); err != nil {
		return err
	}
	err = f.fallocate(0, off, length)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return writeZeroes(f, off, length)
}

func (f osFile) fallocate(mode uint32, off, length int64) error {
	if length <= 0 {
		return nil
	}
	err := control(f.File, func(fd int) error { return unix.Fallocate(fd, mode, off, length) })
	if err != nil {
		return fmt.Errorf("fallocate %d bytes at %d of %s: %w", length, off, f.Name(), err)
	}
	return nil
}

// control runs a system call on a file's descriptor, again when a signal cut it short.
func control(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); !errors.Is(callErr, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, callErr)
}

// zeroChunk is how much one write of zeroes carries, in bytes.
const zeroChunk = 256 << 10

func writeZeroes(f io.WriterAt, off, length int64) error {
	if length <= 0 {
		return nil
	}
	zeroes := make([]byte, min(length, zeroChunk))
	for length > 0 {
		n, err := f.WriteAt(zeroes[:min(length, zeroChunk)], off)
		if err != nil {
			return err
		}
		off += int64(n)
		length -= int64(n)
	}
	return nil
}
