package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Crash is a filesystem that knows what a power cut would leave on the disk. It is
// for tests, and small files.
//
// Files are really there, so that code beside the seam can open them; of those opened
// through the seam it also keeps what is durable (content up to the last Sync, names
// up to the last SyncDir) and what came after. [Crash.Image] writes a folder that a
// power cut could have left.
type Crash struct {
	FS
	mu      sync.Mutex
	before  func(Op)            // guarded by mu
	count   map[OpKind]int      // guarded by mu
	live    map[string]*inode   // guarded by mu
	durable map[string]*inode   // guarded by mu
	names   map[string][]nameOp // by folder, since its last SyncDir; guarded by mu
}

// inode is a file apart from its names.
type inode struct {
	durable *content
	pending []change
}

// nameOp gives a name to an inode, or takes it away when the inode is nil. A rename
// is two that happen together.
type nameOp struct {
	names  []string
	inodes []*inode
}

// NewCrash wraps a filesystem whose names are those of the operating system. Before
// each write, punch, zeroing, truncation, sync and change of names, before is called
// if it is not nil; it may call [Crash.Image], and must not touch files otherwise.
func NewCrash(fsys FS, before func(Op)) *Crash {
	return &Crash{
		FS: fsys, before: before,
		count:   make(map[OpKind]int),
		live:    make(map[string]*inode),
		durable: make(map[string]*inode),
		names:   make(map[string][]nameOp),
	}
}

func (c *Crash) announce(kind OpKind, name string) {
	c.mu.Lock()
	c.count[kind]++
	op := Op{kind, name, c.count[kind]}
	c.mu.Unlock()
	if c.before != nil {
		c.before(op)
	}
}

// Open implements [FS].
func (c *Crash) Open(name string) (File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.live[name]
	if n == nil { // it was there before us: durable as it is
		if n, err = load(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		c.live[name], c.durable[name] = n, n
	}
	return &crashFile{f, c, n, name}, nil
}

func load(f File) (*inode, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); int64(n) != size {
		return nil, err
	}
	n := &inode{durable: newContent()}
	change{kind: OpWrite, length: size, data: data}.apply(n.durable, always)
	return n, nil
}

func always() bool { return true }

// Create implements [FS].
func (c *Crash) Create(name string) (File, error) {
	c.announce(OpCreate, name)
	if there, err := c.Exists(name); err != nil || there {
		return c.Open(name)
	}
	f, err := c.FS.Create(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &inode{durable: newContent()}
	c.rename(nameOp{[]string{name}, []*inode{n}})
	return &crashFile{f, c, n, name}, nil
}

// rename applies a change of names to what is live and notes it. c.mu is held.
func (c *Crash) rename(op nameOp) {
	op.applyTo(c.live)
	dir := filepath.Dir(op.names[0])
	c.names[dir] = append(c.names[dir], op)
}

func (op nameOp) applyTo(names map[string]*inode) {
	for i, name := range op.names {
		if op.inodes[i] == nil {
			delete(names, name)
		} else {
			names[name] = op.inodes[i]
		}
	}
}

// Remove implements [FS].
func (c *Crash) Remove(name string) error {
	c.announce(OpRemove, name)
	if err := c.FS.Remove(name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live[name] != nil {
		c.rename(nameOp{[]string{name}, []*inode{nil}})
	}
	return nil
}

// Rename implements [FS]. Both names must lie in one folder.
func (c *Crash) Rename(from, to string) error {
	c.announce(OpRename, from)
	if err := c.FS.Rename(from, to); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.live[from]; n != nil {
		c.rename(nameOp{[]string{from, to}, []*inode{nil, n}})
	}
	return nil
}

// SyncDir implements [FS].
func (c *Crash) SyncDir(dir string) error {
	c.announce(OpSyncDir, dir)
	if err := c.FS.SyncDir(dir); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range c.names[dir] {
		op.applyTo(c.durable)
	}
	delete(c.names, dir)
	return nil
}

// Image writes into the folder dst what a power cut at this moment could have left of
// the folder root. Everything durable is there; of what is not, rng chooses what is
// kept, dropped or torn between sectors, and in which order it reached the disk.
// Files that were not opened through the seam are copied as they are.
func (c *Crash) Image(root, dst string, rng *rand.Rand) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make(map[string]*inode, len(c.durable))
	for name, n := range c.durable {
		names[name] = n
	}
	for _, dir := range sortedKeys(c.names) {
		for _, op := range c.names[dir] {
			if rng.IntN(2) == 0 {
				op.applyTo(names)
			}
		}
	}
	if err := c.copyOthers(root, dst); err != nil {
		return fmt.Errorf("copy untracked files: %w", err)
	}
	for _, name := range sortedKeys(names) {
		rel, err := filepath.Rel(root, name)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		if err := names[name].survivor(rng).writeTo(filepath.Join(dst, rel)); err != nil {
			return fmt.Errorf("write crash image of %s: %w", name, err)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// copyOthers makes the folders, and copies the files that are not tracked.
func (c *Crash) copyOthers(root, dst string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		if d.IsDir() {
			return os.MkdirAll(target, dirMode)
		}
		if c.live[name] != nil || c.durable[name] != nil {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, fileMode)
	})
}

// survivor returns what the disk holds of a file after the cut.
func (n *inode) survivor(rng *rand.Rand) *content {
	out := n.durable.clone()
	order := slices.Clone(n.pending)
	if rng.IntN(2) == 0 {
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	// How much survives differs from cut to cut: nearly all, nearly nothing, a mix.
	kept := rng.IntN(101)
	for _, g := range order {
		switch {
		case rng.IntN(4) == 0:
			g.apply(out, func() bool { return rng.IntN(2) == 0 })
		case rng.IntN(100) < kept:
			g.apply(out, always)
		}
	}
	return out
}

func (c *content) writeTo(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	err = f.Truncate(c.size)
	for i, page := range c.pages {
		if n := min(pageSize, c.size-i*pageSize); err == nil && n > 0 {
			_, err = f.WriteAt(page[:n], i*pageSize)
		}
	}
	return errors.Join(err, f.Close())
}

type crashFile struct {
	File
	fs   *Crash
	node *inode
	name string
}

// record notes a change that run makes to the file itself.
func (f *crashFile) record(g change, run func() error) error {
	f.fs.announce(g.kind, f.name)
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	g.data = slices.Clone(g.data)
	f.node.pending = append(f.node.pending, g)
	return run()
}

func (f *crashFile) WriteAt(p []byte, off int64) (n int, err error) {
	g := change{kind: OpWrite, off: off, length: int64(len(p)), data: p}
	err = f.record(g, func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

// WriteVector implements [File]: each piece reaches the disk by itself, or does not.
func (f *crashFile) WriteVector(pieces [][]byte, off int64) error {
	for _, p := range pieces {
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

// StartWriteback implements [File]: what is not synced may be on the disk anyway.
func (f *crashFile) StartWriteback(int64, int64) {}

// AwaitWriteback implements [File].
func (f *crashFile) AwaitWriteback(int64, int64) error { return nil }

func (f *crashFile) Truncate(size int64) error {
	return f.record(change{kind: OpTruncate, off: size}, func() error { return f.File.Truncate(size) })
}

func (f *crashFile) PunchHole(off, length int64) error {
	g := change{kind: OpPunchHole, off: off, length: length}
	return f.record(g, func() error { return f.File.PunchHole(off, length) })
}

func (f *crashFile) ZeroRange(off, length int64) error {
	g := change{kind: OpZeroRange, off: off, length: length}
	return f.record(g, func() error { return f.File.ZeroRange(off, length) })
}

func (f *crashFile) Sync() error {
	f.fs.announce(OpSync, f.name)
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	// The file itself is not synced: only [Crash.Image] cuts the power here.
	for _, g := range f.node.pending {
		g.apply(f.node.durable, always)
	}
	f.node.pending = nil
	return nil
}
