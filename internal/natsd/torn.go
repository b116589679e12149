package natsd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
)

// A power cut may leave a hole between two blocks of a journal: the kernel writes files
// back in any order, so the end of an unsynced block can be missing while a later block is
// there. The server then goes on behind the hole, and nobody could read over it. So each
// Sync that reaches a new block first notes its number durably: nothing in a later block
// was ever promised to anybody. When a journal has a hole after a start, the blocks that
// nobody was promised are put aside, and the journal ends where the hole began. A hole
// among the others is damage, and stays for its readers to refuse. So is every hole of a
// journal without a note: nobody knows what was promised. Only [SyncFiles] keeps notes, so
// a start in another mode drops them: they would call unpromised what that mode syncs.
const (
	promisedFolder = "promised" // in Config.Dir: a file for each journal
	tornFolder     = "torn"     // in Config.Dir: blocks that were put aside
	promisedBytes  = 12
)

// promises notes the newest block of a journal that a Sync has reached.
type promises struct {
	file  string
	fsync func(name string) error
}

// read returns the noted block; [fs.ErrNotExist] if none is known.
func (p promises) read() (uint64, error) {
	b, err := os.ReadFile(p.file)
	if err != nil {
		return 0, err
	}
	if len(b) != promisedBytes || binary.BigEndian.Uint32(b[8:]) != crc32.ChecksumIEEE(b[:8]) {
		return 0, fmt.Errorf("%s is damaged", p.file)
	}
	return binary.BigEndian.Uint64(b), nil
}

// note makes a block's number durable. The note lies in one sector of the disk, so it is
// the old or the new one whenever the power fails.
func (p promises) note(block uint64) error {
	b := binary.BigEndian.AppendUint64(nil, block)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	_, err := os.Stat(p.file)
	isNew := errors.Is(err, fs.ErrNotExist)
	if isNew {
		if err := os.MkdirAll(filepath.Dir(p.file), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(p.file, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := p.fsync(p.file); err != nil || !isNew {
		return err
	}
	dir := filepath.Dir(p.file)
	return errors.Join(p.fsync(dir), p.fsync(filepath.Dir(dir)))
}

// dropPromises forgets the notes of all journals, durably.
func dropPromises(cfg Config) error {
	err := os.RemoveAll(filepath.Join(cfg.Dir, promisedFolder))
	if err == nil {
		err = cfg.fsync()(cfg.Dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop the notes of what was promised: %w", err)
	}
	return nil
}

// dropOrphans removes the notes of journals that are gone. One that a power cut brings back
// is removed by the next start.
func (f *streamFiles) dropOrphans() error {
	notes, err := os.ReadDir(f.promised)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, note := range notes {
		if _, gone := os.Stat(filepath.Join(f.root, note.Name())); errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, os.Remove(filepath.Join(f.promised, note.Name())))
		}
	}
	return err
}

// torn returns the journals that have a hole, and blocks that nobody was promised.
func (s *Server) torn(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	nc, err := nats.Connect("", s.InProcess())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	var names []string
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		if !events.IsJournalStream(info.Config.Name) || info.State.NumDeleted == 0 {
			continue
		}
		blocks, err := s.files.stream(info.Config.Name).unpromised()
		if err != nil {
			return nil, err
		}
		if len(blocks) > 0 {
			names = append(names, info.Config.Name)
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	return names, nil
}

// unpromised returns the blocks behind the one that was noted: none without a note.
func (b *blockFiles) unpromised() ([]uint64, error) {
	promised, err := b.promises.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	blocks, err := b.list()
	return slices.DeleteFunc(blocks, func(n uint64) bool { return n <= promised }), err
}

// putAside moves the blocks of a journal that nobody was promised into a folder. The
// server must not run.
func (b *blockFiles) putAside(folder string) error {
	blocks, err := b.unpromised()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, n := range blocks {
		if err := os.Rename(b.path(n), filepath.Join(folder, strconv.FormatUint(n, 10)+".blk")); err != nil {
			return err
		}
	}
	// The server's own summary speaks of the blocks that are gone.
	if err := os.Remove(filepath.Join(b.dir, "index.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return b.fsync(b.dir)
}

// mendTorn stops the server if some of its journals have a hole that a power cut made, and
// starts it again without what lies behind.
func mendTorn(ctx context.Context, s *Server, cfg Config) (*Server, error) {
	if err := s.files.dropOrphans(); err != nil {
		cfg.Log.Warn("notes of journals that are gone stay", "error", err)
	}
	names, err := s.torn(ctx)
	if err != nil { // a hole that is not mended is refused by whoever reads the journal
		cfg.Log.Warn("looking for torn journals", "error", err)
	}
	if len(names) == 0 {
		return s, nil
	}
	s.Stop()
	for _, name := range names {
		folder := filepath.Join(cfg.Dir, tornFolder, name+"-"+strconv.FormatInt(time.Now().UnixNano(), 10))
		cfg.Log.Warn("the end of a journal that was not synced has a hole; what lies behind it is put aside", "stream", name, "folder", folder)
		if err := s.files.stream(name).putAside(folder); err != nil {
			return nil, fmt.Errorf("put the torn end of %s aside: %w", name, err)
		}
	}
	return run(ctx, cfg)
}
