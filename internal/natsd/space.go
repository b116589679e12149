package natsd

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// ErrNoSpace is returned by [Server.Space].
var ErrNoSpace = errors.New("the disk of the journals is nearly full")

const (
	// A stream that meets a full disk stays frozen until the server is restarted, so
	// appending stops while this much is still free: a twentieth of the disk, but no
	// more than reserveBytesMax.
	reservePart     = 20
	reserveBytesMax = 1 << 30
	// spaceAge is how long one look at the disk is good for.
	spaceAge = 100 * time.Millisecond
)

// space watches the free space of the disk that holds the streams.
type space struct {
	dir string
	now func() time.Time
	// free returns the free and the total bytes of the disk that holds dir.
	free func(dir string) (free, total uint64, err error)

	mu     sync.Mutex
	looked time.Time
	result error
}

func newSpace(dir string) *space { return &space{dir: dir, now: time.Now, free: freeBytes} }

// Space returns [ErrNoSpace] while nothing more should be written to the streams.
func (s *Server) Space() error { return s.space.check() }

func (s *space) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.looked) < spaceAge {
		return s.result
	}
	s.looked = now
	free, total, err := s.free(s.dir)
	reserve := min(total/reservePart, reserveBytesMax)
	switch {
	case err != nil:
		s.result = fmt.Errorf("look at the disk of the journals: %w", err)
	case free < reserve:
		s.result = fmt.Errorf("%w: %d MiB are free, %d MiB are kept", ErrNoSpace, free>>20, reserve>>20)
	default:
		s.result = nil
	}
	return s.result
}

func freeBytes(dir string) (free, total uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), fs.Blocks * uint64(fs.Bsize), nil
}
