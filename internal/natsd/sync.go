package natsd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
)

// Sync returns when every message that the stream acknowledged before the call
// survives power loss. It costs one fsync of the newest block file as a rule.
func (s *Server) Sync(ctx context.Context, stream string) error {
	if s.sync != SyncFiles {
		return ctx.Err()
	}
	return s.files.stream(stream).sync()
}

// Trimmed must be called after messages were purged from the head of a stream: the
// server may have rewritten the block that they ended in, without syncing it. Callers
// purge only what lies [TrimSlack] behind their own checkpoint, so that nothing in that
// block is needed to recover this site if the power fails in between.
func (s *Server) Trimmed(ctx context.Context, stream string) error {
	if s.sync != SyncFiles {
		return ctx.Err()
	}
	return s.files.stream(stream).syncOldest()
}

// TrimSlack is at least the size of one block file, in bytes.
const TrimSlack = 16 << 20

// streamFiles finds the block files of each stream.
type streamFiles struct {
	root     string
	promised string // folder of the notes; see [promises]
	// fsync syncs a file or folder by name; tests look on.
	fsync func(name string) error
	mu    sync.Mutex
	open  map[string]*blockFiles
}

func newStreamFiles(root, promised string) *streamFiles {
	return &streamFiles{root: root, promised: promised, fsync: syncFile, open: map[string]*blockFiles{}}
}

func (f *streamFiles) stream(name string) *blockFiles {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.open[name]
	if b == nil {
		b = &blockFiles{
			dir:       filepath.Join(f.root, name, "msgs"),
			fsync:     func(name string) error { return f.fsync(name) },
			rewritten: name == events.StreamPositions,
		}
		if events.IsJournalStream(name) {
			b.promises = promises{file: filepath.Join(f.promised, name), fsync: b.fsync}
		}
		if _, err := os.Stat(b.dir); err == nil { // only streams that exist take memory
			f.open[name] = b
		}
	}
	return b
}

// blockFiles are the files 1.blk, 2.blk, … of one stream. Messages are appended to the
// newest; an older one changes only when the head of the stream is trimmed.
type blockFiles struct {
	dir   string
	fsync func(name string) error
	// rewritten is set for a stream that keeps the last message of each subject: the
	// server drops messages from the middle of its blocks, so all of them may change. It
	// stays small.
	rewritten bool
	promises  promises // of a journal
	mu        sync.Mutex
	// newest is the block that the last sync ended with. All older ones are synced and
	// so are the names of all up to it. Zero: none yet.
	newest uint64
	// failed is the first error of a sync. It stays: what the kernel could not write it
	// may have dropped, and a second fsync would succeed without it. Only a restart,
	// which reads back what is on the disk, tells what is there.
	failed error
}

// sync makes what the stream has acknowledged survive power loss.
func (b *blockFiles) sync() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = b.syncNew()
	}
	return b.failed
}

func (b *blockFiles) syncNew() error {
	if b.newest == 0 || b.rewritten {
		return b.syncAll()
	}
	// The newest block is found before anything is synced: a block changes until the next
	// one exists, so one that was synced while it was the newest must be synced again.
	newest := b.newest
	for exists(b.path(newest + 1)) {
		newest++
	}
	for n := b.newest; n <= newest; n++ {
		err := b.fsync(b.path(n))
		if errors.Is(err, fs.ErrNotExist) { // trimmed away, or all blocks were replaced
			return b.syncAll()
		}
		if err != nil {
			return err
		}
	}
	if newest == b.newest {
		return nil
	}
	if err := b.fsync(b.dir); err != nil {
		return err
	}
	return b.reached(newest)
}

// reached notes the block that a sync ended with.
func (b *blockFiles) reached(newest uint64) error {
	if b.promises.file != "" {
		if err := b.promises.note(newest); err != nil {
			return fmt.Errorf("note block %d: %w", newest, err)
		}
	}
	b.newest = newest
	return nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// syncAll syncs every block, and the folders up to the stream's own name.
func (b *blockFiles) syncAll() error {
	blocks, err := b.list()
	if err != nil {
		return err
	}
	var newest uint64
	for _, n := range blocks {
		if err := b.fsync(b.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		newest = max(newest, n)
	}
	stream := filepath.Dir(b.dir)
	for _, meta := range []string{"meta.inf", "meta.sum"} {
		if err := b.fsync(filepath.Join(stream, meta)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{b.dir, stream, filepath.Dir(stream)} {
		if err := b.fsync(dir); err != nil {
			return err
		}
	}
	return b.reached(newest)
}

func (b *blockFiles) syncOldest() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocks, err := b.list()
	if err != nil || len(blocks) == 0 {
		return err
	}
	oldest := blocks[0]
	for _, n := range blocks {
		oldest = min(oldest, n)
	}
	if err := b.fsync(b.path(oldest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return b.fsync(b.dir)
}

func (b *blockFiles) path(n uint64) string {
	return filepath.Join(b.dir, strconv.FormatUint(n, 10)+".blk")
}

func (b *blockFiles) list() ([]uint64, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("list blocks of a stream: %w", err)
	}
	var blocks []uint64
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".blk"); ok {
			if n, err := strconv.ParseUint(name, 10, 64); err == nil {
				blocks = append(blocks, n)
			}
		}
	}
	return blocks, nil
}

// syncFile fsyncs a file or folder by name. A file that the server has open elsewhere
// shares its pages with this handle, so this flushes what the server wrote.
func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open to sync: %w", err)
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Base(name), err)
	}
	return nil
}

const (
	probeStream = "TIDEMARK_PROBE"
	probeTime   = 10 * time.Second
	// storeDepth is how far Config.Dir's parent lies above the streams.
	storeDepth = 4
)

// probe proves the contract of SyncFiles: an acknowledged message stands, byte for
// byte, in a block file where Sync looks for it.
func (s *Server) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	nc, err := nats.Connect("", s.InProcess())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: probeStream, Subjects: []string{"tidemark.probe"}, MaxMsgs: 1, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return fmt.Errorf("create probe stream: %w", err)
	}
	payload := make([]byte, 64)
	if _, err := rand.Read(payload); err != nil {
		return err
	}
	if _, err := js.Publish(ctx, "tidemark.probe", payload); err != nil {
		return fmt.Errorf("publish probe: %w", err)
	}
	if err := s.files.stream(probeStream).find(payload); err != nil {
		return err
	}
	if err := s.Sync(ctx, probeStream); err != nil {
		return err
	}
	// The names of the folders down to the streams are made once, by the first start.
	for dir, levels := s.files.root, 0; levels <= storeDepth; dir, levels = filepath.Dir(dir), levels+1 {
		if err := s.files.fsync(dir); err != nil {
			return err
		}
	}
	return nil
}

var errProbeNotFound = errors.New("an acknowledged message is in no block file")

func (b *blockFiles) find(payload []byte) error {
	blocks, err := b.list()
	if err != nil {
		return err
	}
	for _, n := range blocks {
		content, err := os.ReadFile(b.path(n))
		if err == nil && bytes.Contains(content, payload) {
			return nil
		}
	}
	return errProbeNotFound
}
