package replica

import (
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"tidemark/internal/vfs"
)

// damageName is the file in the folder of a replica that cannot be opened because its
// metadata are damaged: they do not tell any more which requests it has carried out.
const damageName = "damaged"

const damageNoteSize = 16

// NoteDamage returns up to which number resyncs had been asked for when a replica's metadata
// were first found damaged: those above were asked for because of that. If nobody has noted
// it yet, that is asked, which is noted durably. The note goes with the folder.
func NoteDamage(fsys vfs.FS, dir string, asked uint64) (seen uint64, err error) {
	seen, err = noteDamage(fsys, filepath.Join(dir, damageName), asked)
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return 0, fmt.Errorf("note that the metadata in %s are damaged: %w", dir, err)
	}
	return seen, nil
}

func noteDamage(fsys vfs.FS, name string, asked uint64) (seen uint64, err error) {
	file, err := fsys.Create(name)
	if err != nil {
		return 0, err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	b := make([]byte, damageNoteSize)
	if n, _ := file.ReadAt(b, 0); n == len(b) && binary.LittleEndian.Uint64(b[8:]) == xxhash.Sum64(b[:8]) {
		return binary.LittleEndian.Uint64(b), nil
	}
	binary.LittleEndian.PutUint64(b, asked)
	binary.LittleEndian.PutUint64(b[8:], xxhash.Sum64(b[:8]))
	if _, err := file.WriteAt(b, 0); err != nil {
		return 0, err
	}
	return asked, file.Sync()
}
