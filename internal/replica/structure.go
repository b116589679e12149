package replica

import "fmt"

// blockEnd rounds bytes up to whole blocks.
func blockEnd(size uint64) uint64 { return (size + BlockSize - 1) / BlockSize * BlockSize }

func objectCount(size, objectSize uint64) uint64 { return (size + objectSize - 1) / objectSize }

// newLayer makes an empty layer with a file for an image. Its number is the next one.
func (r *Replica) newLayer(img *Image, size uint64, parent *layer) (*layer, error) {
	l := &layer{id: r.nextLayer, owner: img.id, objectSize: img.objectSize, size: size, parent: parent}
	if parent != nil {
		l.overlap = blockEnd(size)
	}
	if err := r.addLayer(l); err != nil {
		return nil, err
	}
	r.nextLayer++
	return l, nil
}

// addLayer gives a layer a file and a table, and makes it known.
func (r *Replica) addLayer(l *layer) error {
	l.number = r.nextFile
	path := layerPath(r.dir, l.number)
	file, err := r.fs.Create(path)
	if err != nil {
		return fmt.Errorf("create layer %s: %w", path, err)
	}
	l.file, l.unsynced, l.stale = file, true, true
	r.prepare(l)
	r.nextFile++
	r.altered, r.newNames = true, true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.layers[l.id] = l
	return nil
}

// prepare gives a layer an empty table.
func (r *Replica) prepare(l *layer) {
	l.zeroes = r.zeroes
	l.objects = newTable(objectCount(l.size, l.objectSize), l.objectSize/BlockSize)
}

// references counts what stands on each layer: other layers, images, snapshots.
func (r *Replica) references() map[*layer]int {
	refs := make(map[*layer]int, len(r.layers))
	for _, l := range r.layers {
		if l.parent != nil {
			refs[l.parent]++
		}
	}
	for _, img := range r.images {
		refs[img.active]++
	}
	for _, s := range r.snapshots {
		refs[s.layer]++
	}
	return refs
}

// sweep drops a layer that nothing refers to, and then those below it of which the same
// becomes true. Readers cannot come to any of them: chain is held.
func (r *Replica) sweep(l *layer) {
	refs := r.references()
	for l != nil && refs[l] == 0 {
		r.dropLayer(l)
		l = l.parent
		refs[l]--
	}
}

// dropLayer forgets a layer. Its file is removed after the checkpoint that forgets it.
func (r *Replica) dropLayer(l *layer) {
	r.lost -= l.drop(0)
	l.objects = l.objects.resized(0)
	if l.recorded {
		r.goneLayers = append(r.goneLayers, l.id)
	}
	r.doomed = append(r.doomed, l)
	r.altered = true
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.layers, l.id)
}
