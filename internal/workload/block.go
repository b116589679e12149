package workload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"
)

// BlockSize is the unit of every write, in bytes, unless the [Config] says otherwise.
const BlockSize = 4096

const (
	magic        = "TIDEWORK"
	noiseStart   = 40
	checksumSize = 8
)

// blockID is what a block says about itself.
type blockID struct {
	seed, image, block, write uint64
}

// fill writes the block into p, which is one block long.
func (id blockID) fill(p []byte) {
	copy(p, magic)
	binary.BigEndian.PutUint64(p[8:], id.seed)
	binary.BigEndian.PutUint64(p[16:], id.image)
	binary.BigEndian.PutUint64(p[24:], id.block)
	binary.BigEndian.PutUint64(p[32:], id.write)
	noise := rand.NewPCG(id.seed^id.write, id.image<<48^id.block)
	end := len(p) - checksumSize
	for i := noiseStart; i < end; i += 8 {
		binary.BigEndian.PutUint64(p[i:], noise.Uint64())
	}
	binary.BigEndian.PutUint64(p[end:], xxhash.Sum64(p[:end]))
}

// readBlock returns what a block says about itself, ok false for one that is all
// zeroes, and an error for anything that no write put there.
func readBlock(p []byte) (id blockID, ok bool, err error) {
	if bytes.Count(p, []byte{0}) == len(p) {
		return id, false, nil
	}
	if !bytes.HasPrefix(p, []byte(magic)) {
		return id, false, fmt.Errorf("bytes that nobody wrote: % x…", p[:16])
	}
	end := len(p) - checksumSize
	if xxhash.Sum64(p[:end]) != binary.BigEndian.Uint64(p[end:]) {
		return id, false, fmt.Errorf("a torn or damaged block (it begins as one of write %d)", binary.BigEndian.Uint64(p[32:]))
	}
	id = blockID{
		seed:  binary.BigEndian.Uint64(p[8:]),
		image: binary.BigEndian.Uint64(p[16:]),
		block: binary.BigEndian.Uint64(p[24:]),
		write: binary.BigEndian.Uint64(p[32:]),
	}
	return id, true, nil
}
