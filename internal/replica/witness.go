package replica

import (
	"slices"
	"sync"
	"sync/atomic"

	"tidemark/events"
)

// witnesses are those who wait for a moment of the replay: that in which an object has
// exactly a version, or the replica exactly a position. Apply calls them at that moment,
// before the next change. While there are none it looks at one number.
type witnesses struct {
	waiting atomic.Int64

	// mu protects what follows. It is taken last.
	mu       sync.Mutex
	objects  map[witnessed][]*Witness
	outlines []*OutlineWitness
}

type witnessed struct {
	image events.ImageID
	index uint64
}

// Witness waits for an object of an image to have exactly a version.
type Witness struct {
	replica *Replica
	of      witnessed
	version events.Position
	act     func(l *layer) error // called once; the object's stripe is held for writing

	// Since is a position at or behind which the object had not changed since the witness
	// was asked: it misses no version that the object gets later.
	Since events.Position

	done chan struct{} // closed after act
	err  error         // of act
}

// Done is closed when the moment has come and what was wanted of it is there.
func (w *Witness) Done() <-chan struct{} { return w.done }

// Err returns what went wrong at the moment. It is called once Done is closed.
func (w *Witness) Err() error { return w.err }

// Stop ends the waiting.
func (w *Witness) Stop() {
	ws := &w.replica.witnesses
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.drop(w)
}

// drop takes a witness away. mu is held.
func (ws *witnesses) drop(w *Witness) {
	left := slices.DeleteFunc(ws.objects[w.of], func(o *Witness) bool { return o == w })
	ws.waiting.Add(int64(len(left) - len(ws.objects[w.of])))
	if len(left) == 0 {
		delete(ws.objects, w.of)
		return
	}
	ws.objects[w.of] = left
}

// witness has act called at the moment when an object has a version: at once if it has it
// now. An image that is not there is [ErrNotFound].
func (r *Replica) witness(image events.ImageID, index uint64, version events.Position, act func(l *layer) error) (*Witness, error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return nil, err
	}
	img, _, err := r.view(View{Image: image})
	if err != nil {
		return nil, err
	}
	w := &Witness{replica: r, of: witnessed{image, index}, version: version, act: act, done: make(chan struct{}), Since: r.Applied().Position}
	s := img.stripe(index)
	s.mu.Lock()
	defer s.mu.Unlock()
	if img.versionOf(index) == version {
		w.testify(img)
		return w, nil
	}
	ws := &r.witnesses
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.objects == nil {
		ws.objects = make(map[witnessed][]*Witness)
	}
	ws.objects[w.of] = append(ws.objects[w.of], w)
	ws.waiting.Add(1)
	return w, nil
}

// testify calls what is to be done at the moment, which is now. The stripe is held.
func (w *Witness) testify(img *Image) {
	w.err = w.act(img.active)
	close(w.done)
}

// changed tells the witnesses that an object has changed. Its stripe is held for writing.
func (ws *witnesses) changed(img *Image, index uint64) {
	if ws.waiting.Load() == 0 {
		return
	}
	ws.mu.Lock()
	waiting := slices.Clone(ws.objects[witnessed{img.id, index}])
	ws.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	version := img.versionOf(index)
	for _, w := range waiting {
		if w.version != version {
			continue
		}
		ws.mu.Lock()
		stopped := !slices.Contains(ws.objects[w.of], w)
		ws.drop(w)
		ws.mu.Unlock()
		if !stopped {
			w.testify(img)
		}
	}
}

// rearranged tells the witnesses that anything may have changed but data that was written.
// applying is held, and no stripe.
func (r *Replica) rearranged() {
	ws := &r.witnesses
	if ws.waiting.Load() == 0 {
		return
	}
	ws.mu.Lock()
	objects := make([]witnessed, 0, len(ws.objects))
	for of := range ws.objects {
		objects = append(objects, of)
	}
	ws.mu.Unlock()
	for _, of := range objects {
		img, _, err := r.view(View{Image: of.image})
		if err != nil {
			continue // removed: the version never comes
		}
		s := img.stripe(of.index)
		s.mu.Lock()
		ws.changed(img, of.index)
		s.mu.Unlock()
	}
}

// DigestWitness waits for the digests of an object in exactly a version.
type DigestWitness struct {
	*Witness
	Object ObjectDigest // once Done is closed, without error
}

// DigestAt returns the digests of an image's object when it has exactly a version, as soon as
// it has. A version that it had before and has no more, or never gets, is waited for until
// the witness is stopped. An image that is not there is [ErrNotFound].
func (r *Replica) DigestAt(image events.ImageID, index uint64, version events.Position) (*DigestWitness, error) {
	w := &DigestWitness{}
	var err error
	w.Witness, err = r.witness(image, index, version, func(l *layer) error {
		r.chain.RLock()
		defer r.chain.RUnlock()
		return l.digest(index, &w.Object)
	})
	return w, err
}

// HoldApply keeps messages from being applied until release is called, and returns the
// position between two messages at which the replica stands.
func (r *Replica) HoldApply() (at events.Position, release func()) {
	r.gate.Lock()
	return r.Applied().Position, sync.OnceFunc(r.gate.Unlock)
}
