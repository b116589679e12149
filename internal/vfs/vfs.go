package vfs

import (
	"errors"
	"io"
)

// ErrLocked is returned by [FS.Lock] when somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")

// FS is a filesystem. Names are paths of the operating system. Errors about missing
// and existing files match [io/fs.ErrNotExist] and [io/fs.ErrExist].
type FS interface {
	// MkdirAll makes a folder and its missing parents.
	MkdirAll(dir string) error
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Create opens a file for reading and writing, making an empty one if there is
	// none. What an existing one holds is kept.
	Create(name string) (File, error)
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// RemoveAll removes a folder and everything in it; one that is absent is no error.
	RemoveAll(dir string) error
	// Rename gives a file another name, replacing what has it.
	Rename(from, to string) error
	// ReadDir returns the sorted names of what a folder holds.
	ReadDir(dir string) ([]string, error)
	// Exists reports whether there is something of that name.
	Exists(name string) (bool, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on a file, made if absent, without waiting:
	// [ErrLocked] when it is held, by this process or another. Closing what it returns
	// gives the lock up; so does the death of the process.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Its methods may be called concurrently. Offsets and lengths
// are bytes and never negative.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteVector writes pieces of data one behind the other from off on, by fewer calls
	// than there are pieces. After an error, as after one of WriteAt or a crash in the middle
	// of either, any of it may be there.
	WriteVector(pieces [][]byte, off int64) error
	// StartWriteback asks the system to begin writing a range to the disk, so that a
	// later Sync finds less to do. It promises nothing.
	StartWriteback(off, length int64)
	// AwaitWriteback waits until what is being written back of a range is done. That does
	// not make it durable, but an error is like one of Sync, which may not report it again.
	AwaitWriteback(off, length int64) error
	// Truncate sets the file's size.
	Truncate(size int64) error
	// PunchHole makes a range read as zeroes and gives its space back where the
	// filesystem can. The file's size stays; what lies beyond it is ignored.
	PunchHole(off, length int64) error
	// ZeroRange makes a range read as zeroes and keeps space reserved for it. The
	// file grows when the range ends beyond it.
	ZeroRange(off, length int64) error
	// Sync makes data and size durable. After an error nothing is known about what
	// is: the kernel may have dropped the very pages that it could not write.
	Sync() error
	// Size returns the file's size in bytes.
	Size() (int64, error)
}
