package e2e_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"tidemark/internal/nbdclient"
)

// exact is a load of writes, discards and zeroes that knows what every region of an
// image must read as: each region has one writer, with one request at a time.
type exact struct {
	t       testing.TB
	image   string
	regions []region
}

// region is what one writer knows of its part of the image.
type region struct {
	offset uint64
	length int
	now    []byte // what was acknowledged, or seen
	next   []byte // what a request under way would make of it; nil for none
	serial uint64
}

const exactWriters = 4

// newExact makes the load for an image that is empty.
func newExact(t testing.TB, image string, size int) *exact {
	e := &exact{t: t, image: image}
	for i := range exactWriters {
		length := size / exactWriters
		e.regions = append(e.regions, region{offset: uint64(i * length), length: length, now: make([]byte, length)})
	}
	return e
}

// start sets the writers to work until their connections break.
func (e *exact) start(s *site) *sync.WaitGroup {
	e.t.Helper()
	var working sync.WaitGroup
	for i := range e.regions {
		conn := s.dial(e.image)
		working.Go(func() {
			defer hangUp(conn)
			for e.regions[i].change(conn) == nil {
			}
		})
	}
	return &working
}

// change makes one random change. It begins and ends anywhere, on no block's boundary.
func (r *region) change(conn *nbdclient.Conn) error {
	const largestWrite, largestZero = 96 << 10, 3 << 20
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.next = bytes.Clone(r.now)
	at := rand.IntN(r.length)
	fua := rand.IntN(8) == 0
	r.serial++
	var err error
	switch rand.IntN(4) {
	case 0:
		part := r.next[at:min(r.length, at+1+rand.IntN(largestZero))]
		clear(part)
		err = conn.Trim(ctx, r.offset+uint64(at), uint64(len(part)), fua)
	case 1:
		part := r.next[at:min(r.length, at+1+rand.IntN(largestZero))]
		clear(part)
		err = conn.Zero(ctx, r.offset+uint64(at), uint64(len(part)), fua)
	default:
		part := r.next[at:min(r.length, at+1+rand.IntN(largestWrite))]
		r.fill(part, at)
		err = conn.WriteAt(ctx, part, r.offset+uint64(at), fua)
	}
	if err == nil {
		r.now, r.next = r.next, nil
	}
	return err
}

// fill writes a pattern that no other change has at that place.
func (r *region) fill(part []byte, at int) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], r.serial)
	binary.LittleEndian.PutUint64(seed[8:], r.offset+uint64(at))
	noise := rand.NewChaCha8(seed)
	_, _ = noise.Read(part) // never fails
}

// check fails the test unless every region reads as what was acknowledged, or as what
// the request under way would have made of it. What it reads is what holds from now on.
func (e *exact) check(s *site) {
	e.t.Helper()
	content := make([]byte, 0, exactWriters*e.regions[0].length)
	s.contents(e.image, func(_ uint64, p []byte) { content = append(content, p...) })
	for i := range e.regions {
		r := &e.regions[i]
		got := content[r.offset : r.offset+uint64(r.length)]
		if !bytes.Equal(got, r.now) && (r.next == nil || !bytes.Equal(got, r.next)) {
			at := 0
			for at < r.length-1 && got[at] == r.now[at] {
				at++
			}
			e.t.Fatalf("%s: from byte %d on it is neither what change %d left nor what the one under way makes", e.image, r.offset+uint64(at), r.serial-1)
		}
		r.now, r.next = bytes.Clone(got), nil
	}
}
