package vfs

import (
	"io"
	"sync"
)

// OpKind names an operation of a filesystem or file.
type OpKind string

// The operations.
const (
	OpMkdir     OpKind = "mkdir"
	OpOpen      OpKind = "open"
	OpCreate    OpKind = "create"
	OpRemove    OpKind = "remove"
	OpRename    OpKind = "rename"
	OpReadDir   OpKind = "readdir"
	OpSyncDir   OpKind = "syncdir"
	OpLock      OpKind = "lock"
	OpRead      OpKind = "read"
	OpWrite     OpKind = "write"
	OpTruncate  OpKind = "truncate"
	OpPunchHole OpKind = "punchhole"
	OpZeroRange OpKind = "zerorange"
	OpSync      OpKind = "sync"
	OpWriteback OpKind = "writeback"
)

// Op is one operation that is about to run.
type Op struct {
	Kind OpKind
	Name string // the file or folder
	Nth  int    // its number among the operations of its kind, from 1
}

// Faulty is a filesystem that fails on demand. It is for tests.
type Faulty struct {
	FS
	mu    sync.Mutex
	rule  func(Op) error // guarded by mu
	count map[OpKind]int // guarded by mu
}

// NewFaulty wraps a filesystem. Before each operation rule is asked, serially; an
// error that it returns is what the operation returns. A write that fails has written
// the first half of its data.
func NewFaulty(fsys FS, rule func(Op) error) *Faulty {
	return &Faulty{FS: fsys, rule: rule, count: make(map[OpKind]int)}
}

// FailNth is a rule that fails the n-th operation (from 1) of a kind, and it alone.
func FailNth(kind OpKind, n int, err error) func(Op) error {
	return func(op Op) error {
		if op.Kind == kind && op.Nth == n {
			return err
		}
		return nil
	}
}

// Count returns how many operations of a kind were asked for.
func (f *Faulty) Count(kind OpKind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[kind]
}

func (f *Faulty) check(kind OpKind, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[kind]++
	return f.rule(Op{kind, name, f.count[kind]})
}

// MkdirAll implements [FS].
func (f *Faulty) MkdirAll(dir string) error {
	if err := f.check(OpMkdir, dir); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir)
}

// Open implements [FS].
func (f *Faulty) Open(name string) (File, error) {
	if err := f.check(OpOpen, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.FS.Open(name))
}

// Create implements [FS].
func (f *Faulty) Create(name string) (File, error) {
	if err := f.check(OpCreate, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.FS.Create(name))
}

func (f *Faulty) wrap(name string) func(File, error) (File, error) {
	return func(file File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{file, f, name}, nil
	}
}

// Remove implements [FS].
func (f *Faulty) Remove(name string) error {
	if err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// Rename implements [FS].
func (f *Faulty) Rename(from, to string) error {
	if err := f.check(OpRename, from); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// ReadDir implements [FS].
func (f *Faulty) ReadDir(dir string) ([]string, error) {
	if err := f.check(OpReadDir, dir); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(dir)
}

// SyncDir implements [FS].
func (f *Faulty) SyncDir(dir string) error {
	if err := f.check(OpSyncDir, dir); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

// Lock implements [FS].
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if err := f.check(OpLock, name); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

type faultyFile struct {
	File
	fs   *Faulty
	name string
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(OpRead, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(OpWrite, f.name); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *faultyFile) WriteVector(pieces [][]byte, off int64) error {
	if err := f.fs.check(OpWrite, f.name); err != nil {
		_ = f.File.WriteVector(pieces[:len(pieces)/2], off)
		return err
	}
	return f.File.WriteVector(pieces, off)
}

func (f *faultyFile) AwaitWriteback(off, length int64) error {
	if err := f.fs.check(OpWriteback, f.name); err != nil {
		return err
	}
	return f.File.AwaitWriteback(off, length)
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.fs.check(OpTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) PunchHole(off, length int64) error {
	if err := f.fs.check(OpPunchHole, f.name); err != nil {
		return err
	}
	return f.File.PunchHole(off, length)
}

func (f *faultyFile) ZeroRange(off, length int64) error {
	if err := f.fs.check(OpZeroRange, f.name); err != nil {
		return err
	}
	return f.File.ZeroRange(off, length)
}

func (f *faultyFile) Sync() error {
	if err := f.fs.check(OpSync, f.name); err != nil {
		return err
	}
	return f.File.Sync()
}
