package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"tidemark/cmd/tidemark/internal/journaltext"
	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// executed is a site that an importer sends to: it notes what it executed, and refuses
// writes at some offsets.
type executed struct {
	requests int
	most     int // bytes of the largest request, as its entries count
	offsets  []uint64
	kinds    []string
	named    []string
	refuses  map[uint64]bool
}

func (x *executed) send(_ context.Context, entries []api.ImportEntry) (api.JournalImportReply, error) {
	x.requests++
	var reply api.JournalImportReply
	size := 0
	for _, sent := range entries {
		size += importLine{entry: sent}.bytes()
		entry, err := events.DecodeEntry(sent.Entry)
		if err != nil || entry.Part != (events.Part{}) || len(entry.Before) != 0 || entry.Version != 0 {
			return reply, fmt.Errorf("entry %+v, %w", entry, err)
		}
		_, offset, _, data := events.Range(entry.Event)
		if data && x.refuses[offset] {
			reply.Refused = &api.Refusal{Code: fault.NoSpace, Message: "no room"}
			break
		}
		if data {
			x.offsets = append(x.offsets, offset)
		}
		x.kinds = append(x.kinds, journaltext.Kind(entry.Event))
		x.named = append(x.named, sent.Image)
		reply.Executed++
	}
	x.most = max(x.most, size)
	return reply, nil
}

// file writes an export of entries, numbered from 1.
func file(t *testing.T, entries ...events.Entry) string {
	t.Helper()
	b := []byte("# an export\n\n")
	for i, e := range entries {
		var err error
		l := journaltext.Line{Position: events.At(1, uint32(i+1)), Entry: e, Named: journaltext.Named{Image: "disk"}}
		if b, err = l.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

func write(offset uint64, n int) events.Entry {
	return events.Entry{Event: events.Written{Image: 1, Offset: offset, Data: make([]byte, n)}}
}

func partOf(e events.Entry, index, count uint32) events.Entry {
	e.Part = events.Part{Index: index, Count: count}
	return e
}

func importing(x *executed, goOn bool) *importer {
	return &importer{send: x.send, goOn: goOn, told: func(string, ...any) {}, started: map[events.Position]startedLine{}}
}

// TestImportExecutesWhatHappened: operations by their end, runs when they are complete,
// nothing of what failed or was broken off.
func TestImportExecutesWhatHappened(t *testing.T) {
	resize := events.ImageResized{Image: 1, Size: 5}
	text := file(t,
		write(1, 1),
		events.Entry{Event: events.OperationStarted{Intent: resize}}, // 2
		write(3, 1),
		events.Entry{Event: events.OperationStarted{Intent: events.ImageRemoved{Image: 1}}}, // 4
		events.Entry{Event: events.OperationFinished{Started: events.At(1, 2)}},
		events.Entry{Event: events.OperationFinished{Started: events.At(1, 4), Failure: "busy"}},
		events.Entry{Event: events.OperationFinished{Started: events.At(1, 99)}}, // journal 128: its start is not known
		events.Entry{Event: events.Flushed{}},
		partOf(write(9, 1), 0, 2), partOf(write(10, 1), 1, 2),
		partOf(write(11, 1), 0, 3), partOf(write(12, 1), 1, 3), // broken off
		write(13, 1),
		partOf(write(14, 1), 1, 3), partOf(write(15, 1), 2, 3), // its beginning is missing
		partOf(write(16, 1), 0, 2), // the file ends
	)
	x := &executed{}
	i := importing(x, false)
	if err := i.all(t.Context(), strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"written", "written", "image_resized", "written", "written", "written"}; !slices.Equal(x.kinds, want) {
		t.Errorf("executed %v, want %v", x.kinds, want)
	}
	if want := []uint64{1, 3, 9, 10, 13}; !slices.Equal(x.offsets, want) {
		t.Errorf("writes at %v, want %v", x.offsets, want)
	}
	if want := (imported{Executed: 6, LeftOut: 7}); i.count != want {
		t.Errorf("counted %+v, want %+v", i.count, want)
	}
}

// journal 126: operations that were started, and not finished when the journal ended, are
// carried out at the end, in the order of their starts; one that had failed is not.
func TestImportFinishesWhatWasStarted(t *testing.T) {
	text := file(t,
		events.Entry{Event: events.OperationStarted{Intent: events.ImageFlattened{Image: 1}}}, // 1
		events.Entry{Event: events.OperationStarted{Intent: events.ImageRemoved{Image: 1}}},   // 2
		write(3, 1),
		events.Entry{Event: events.OperationStarted{Intent: events.ImageResized{Image: 1, Size: 5}}}, // 4
		events.Entry{Event: events.OperationFinished{Started: events.At(1, 2), Failure: "busy"}},
		write(6, 1),
	)
	x := &executed{}
	i := importing(x, false)
	if err := i.all(t.Context(), strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"written", "written", "image_flattened", "image_resized"}; !slices.Equal(x.kinds, want) {
		t.Errorf("executed %v, want %v", x.kinds, want)
	}
	if want := (imported{Executed: 4, LeftOut: 1}); i.count != want {
		t.Errorf("counted %+v, want %+v", i.count, want)
	}
}

func TestImportStopsAtTheFirstBadLine(t *testing.T) {
	good := strings.SplitAfter(file(t, write(1, 1), write(2, 1), write(3, 1)), "\n")
	for name, c := range map[string]struct {
		text string
		line string
	}{
		"truncated":        {strings.Join(good[:4], "") + good[4][:40], "line 5: "},
		"garbage":          {strings.Join(good[:4], "") + "\x00\xff\n" + good[4], "line 5: "},
		"hostile length":   {strings.Join(good[:4], "") + "99999999999 {}\n" + good[4], "line 5: "},
		"negative length":  {strings.Join(good[:4], "") + "-1 {}\n" + good[4], "line 5: "},
		"not JSON":         {strings.Join(good[:4], "") + "3 {x}\n" + good[4], "line 5: "},
		"without its name": {strings.Join(good[:4], "") + lineWithoutName(t) + good[4], "line 5: "},
	} {
		x := &executed{}
		err := importing(x, false).all(t.Context(), strings.NewReader(c.text))
		if fault.ExitCode(err) != 1 || !strings.HasPrefix(err.Error(), c.line) || !slices.Equal(x.offsets, []uint64{1, 2}) {
			t.Errorf("%s: writes at %v, then %v", name, x.offsets, err)
		}
		x = &executed{}
		i := importing(x, true)
		err = i.all(t.Context(), strings.NewReader(c.text))
		if fault.ExitCode(err) != 1 || i.count.Skipped != 1 || name != "truncated" && !slices.Equal(x.offsets, []uint64{1, 2, 3}) {
			t.Errorf("%s, going on: writes at %v, %+v, then %v", name, x.offsets, i.count, err)
		}
	}
}

func lineWithoutName(t *testing.T) string {
	t.Helper()
	b, err := journaltext.Line{Position: 1, Entry: write(7, 1)}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestImportOfWhatTheSiteRefuses(t *testing.T) {
	text := file(t, write(1, 1), write(2, 1), write(3, 1), write(4, 1))
	x := &executed{refuses: map[uint64]bool{2: true}}
	err := importing(x, false).all(t.Context(), strings.NewReader(text))
	if fault.ExitCode(err) != 1 || err.Error() != "line 4: no room" || !slices.Equal(x.offsets, []uint64{1}) {
		t.Errorf("writes at %v, then %v", x.offsets, err)
	}
	x = &executed{refuses: map[uint64]bool{2: true, 4: true}}
	i := importing(x, true)
	err = i.all(t.Context(), strings.NewReader(text))
	if fault.ExitCode(err) != 1 || i.count != (imported{Executed: 2, Skipped: 2}) || !slices.Equal(x.offsets, []uint64{1, 3}) {
		t.Errorf("going on: writes at %v, %+v, then %v", x.offsets, i.count, err)
	}
	// A change of several entries of which one line is bad does not come to be.
	parts := strings.SplitAfter(file(t, partOf(write(1, 1), 0, 2), partOf(write(2, 1), 1, 2), write(3, 1)), "\n")
	x = &executed{}
	i = importing(x, true)
	err = i.all(t.Context(), strings.NewReader(parts[2]+"1 {}\n"+parts[3]+parts[4]))
	if fault.ExitCode(err) != 1 || i.count != (imported{Executed: 1, LeftOut: 2, Skipped: 1}) || !slices.Equal(x.offsets, []uint64{3}) {
		t.Errorf("a bad line in a change of several: writes at %v, %+v, then %v", x.offsets, i.count, err)
	}
	broken := importing(&executed{}, true)
	broken.send = func(context.Context, []api.ImportEntry) (api.JournalImportReply, error) {
		return api.JournalImportReply{Executed: 4, Refused: &api.Refusal{}}, nil
	}
	if err := broken.all(t.Context(), strings.NewReader(text)); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("an answer that contradicts itself: %v", err)
	}
	broken.send = func(context.Context, []api.ImportEntry) (api.JournalImportReply, error) {
		return api.JournalImportReply{Executed: 3}, nil
	}
	if err := broken.all(t.Context(), strings.NewReader(text)); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("an answer about fewer: %v", err)
	}
	gone := fault.New(fault.NotPrimary, "promote it first")
	broken.send = func(context.Context, []api.ImportEntry) (api.JournalImportReply, error) {
		return api.JournalImportReply{}, gone
	}
	if err := broken.all(t.Context(), strings.NewReader(text)); !errors.Is(err, gone) {
		t.Errorf("a site that refuses all: %v", err)
	}
}

func TestImportSendsBoundedRequests(t *testing.T) {
	var entries []events.Entry
	var want []uint64
	for i := range uint64(12) {
		entries = append(entries, partOf(write(i, events.PayloadMax), uint32(i), 12))
		want = append(want, i)
	}
	x := &executed{}
	if err := importing(x, false).all(t.Context(), strings.NewReader(file(t, entries...))); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(x.offsets, want) || x.requests != 6 || x.most > events.MessageBytesMax {
		t.Errorf("writes at %v in %d requests of at most %d bytes", x.offsets, x.requests, x.most)
	}
}

// FuzzImport gives an importer any file: it ends, and sends nothing that does not decode.
func FuzzImport(f *testing.F) {
	f.Add("# x\n2 {}\n")
	f.Add(`83 {"position":{"tag":1,"entry":1},"image_name":"d","kind":"image_resized","image":1,"size":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		x := &executed{}
		err := importing(x, true).all(t.Context(), strings.NewReader(text))
		if err != nil && fault.CodeOf(err) != fault.Corrupt || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}
