package holder

import (
	"context"
	"encoding/json"
	"errors"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

const (
	// digestsAtOnce bounds the comparisons that one source reads for at a time.
	digestsAtOnce = 4
	// digestedMax and digestedBytesMax bound one page of digests, by objects and by the
	// bytes that were read for it.
	digestedMax      = 1024
	digestedBytesMax = 32 << 20
)

// VerifyObjectsReply lists objects in ascending order, without the digests of their blocks.
// Next is where to ask on; zero when the list is complete.
type VerifyObjectsReply struct {
	Objects []VerifiedObject `json:"objects"`
	Next    uint64           `json:"next"`
}

// VerifiedObject is an object of a list.
type VerifiedObject struct {
	Index uint64 `json:"index"`
	replica.ObjectDigest
}

// verifier answers followers that compare their copies with this one.
type verifier struct {
	source SyncSource
	slots  chan struct{}
}

// verifyHandlers answer VerifyOutline, VerifyObjects, VerifyObject and VerifyContent.
func (s SyncSource) verifyHandlers() []api.Handler {
	v := verifier{source: s, slots: make(chan struct{}, digestsAtOnce)}
	return []api.Handler{
		api.OnSeries(api.HolderSubject(s.ID, api.VerifyOutline), v.outline),
		api.On(api.HolderSubject(s.ID, api.VerifyObjects), v.objects),
		api.On(api.HolderSubject(s.ID, api.VerifyObject), v.object),
		api.OnSeries(api.HolderSubject(s.ID, api.VerifyContent), v.content),
	}
}

// admit lets a follower in that may follow, in its turn.
func (v verifier) admit(ctx context.Context, site string) (leave func(), err error) {
	s := v.source
	if err := s.Followers.Admit(s.Name.Pool, site); err != nil {
		return nil, err
	}
	if !s.Complete() {
		return nil, fault.New(fault.NotReady, "the copy of %s at site %s is not complete yet", s.Name, s.Site)
	}
	select {
	case v.slots <- struct{}{}:
		return func() { <-v.slots }, nil
	case <-ctx.Done():
		return nil, v.cutShort(ctx)
	}
}

// cutShort says why an answer has no end; nil while it may go on. Who asks a source that is
// stopping asks the one that follows it.
func (v verifier) cutShort(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.New(fault.NotReady, "site %s stops serving the copy of %s: %w", v.source.Site, v.source.Name, ctx.Err())
	}
	return ctx.Err()
}

func (v verifier) outline(ctx context.Context, r api.VerifyOutlineRequest, send func([]byte) error) error {
	leave, err := v.admit(ctx, r.Site)
	if err != nil {
		return err
	}
	defer leave()
	outline, err := v.source.Replica.Outline()
	if err != nil {
		return err
	}
	data, err := json.Marshal(outline)
	if err != nil {
		return err
	}
	return sendParts(api.SyncObjectRequest{}, replica.ObjectCopy{Data: data}, send)
}

func (v verifier) objects(ctx context.Context, r api.VerifyObjectsRequest) (VerifyObjectsReply, error) {
	reply := VerifyObjectsReply{Objects: []VerifiedObject{}}
	leave, err := v.admit(ctx, r.Site)
	if err != nil {
		return reply, err
	}
	defer leave()
	view := replica.View{Image: r.Image, Snapshot: r.Snapshot}
	for from, read := r.From, 0; ; {
		index, ok, err := v.source.Replica.NextObject(view, from)
		switch {
		case err != nil:
			return reply, gone(err)
		case !ok:
			return reply, nil
		case len(reply.Objects) == digestedMax || read >= digestedBytesMax || ctx.Err() != nil:
			reply.Next = index
			return reply, v.cutShort(ctx)
		}
		object, err := v.digest(view, index)
		if err != nil {
			return reply, err
		}
		if object.Content != (replica.Digest{}) {
			read += len(object.Blocks) * replica.BlockSize
		}
		object.Blocks = nil
		reply.Objects = append(reply.Objects, VerifiedObject{index, object})
		from = index + 1
	}
}

func (v verifier) object(ctx context.Context, r api.VerifyObjectRequest) (replica.ObjectDigest, error) {
	leave, err := v.admit(ctx, r.Site)
	if err != nil {
		return replica.ObjectDigest{}, err
	}
	defer leave()
	return v.digest(replica.View{Image: r.Image, Snapshot: r.Snapshot}, r.Index)
}

// digest returns the digests of an object that can be read.
func (v verifier) digest(view replica.View, index uint64) (replica.ObjectDigest, error) {
	object, err := v.source.Replica.Digest(view, index)
	if err == nil && object.Failure != nil {
		err = fault.New(fault.Internal, "site %s cannot read object %d of %v: %w", v.source.Site, index, view, object.Failure)
	}
	return object, gone(err)
}

func (v verifier) content(ctx context.Context, r api.VerifyContentRequest, send func([]byte) error) error {
	leave, err := v.admit(ctx, r.Site)
	if err != nil {
		return err
	}
	defer leave()
	object, err := v.source.Replica.ReadBlocks(replica.View{Image: r.Image, Snapshot: r.Snapshot}, r.Index, r.Blocks)
	if err != nil {
		return gone(err)
	}
	return sendParts(api.SyncObjectRequest{}, object, send)
}

// gone gives the error of a view that is not there the code that says so.
func gone(err error) error {
	if errors.Is(err, replica.ErrNotFound) {
		return fault.New(fault.NotFound, "%w", err)
	}
	return err
}

// RefuseVerify refuses to compare the copy of a directory that is primary here.
func RefuseVerify(id events.DirectoryID, name events.DirectoryName) api.Handler {
	return api.On(api.HolderSubject(id, api.MirrorVerify), func(context.Context, api.VerifyRequest) (api.Verified, error) {
		return api.Verified{}, fault.New(fault.Busy,
			"directory %s is primary at this site, and is what others are compared with; verify it at a site that follows it", name)
	})
}
