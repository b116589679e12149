package nbd_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

func named(name string) *nbdtest.Disk {
	return nbdtest.NewDisk(nbd.Info{Name: name, Size: diskSize})
}

func TestUnknownClientFlagsDropTheConnection(t *testing.T) {
	s := serve(t, nbd.Limits{}, newDisk())
	for _, flags := range []uint32{1 << 2, 1<<31 | 3, 7, 0, 2} {
		s.dial(t).greet(flags).gone()
	}
}

func TestUnknownOptionIsConsumedAndRefused(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	for _, opt := range []wire.Option{0, 4, wire.OptStartTLS, 11, 1 << 31} {
		c.expect(wire.RepErrUnsup, opt, bytes.Repeat([]byte{0xff}, 999))
	}
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	c.alive()
}

func TestListSendsOneAnswerForEachExport(t *testing.T) {
	c := serve(t, nbd.Limits{}, named("b"), named("a/ü"), named("c")).dial(t).hello()
	got := c.option(wire.OptList, nil)
	want := []answer{
		{wire.RepServer, string(wire.AppendString(nil, "a/ü"))},
		{wire.RepServer, string(wire.AppendString(nil, "b"))},
		{wire.RepServer, string(wire.AppendString(nil, "c"))},
		{wire.RepAck, ""},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(answer{})); diff != "" {
		t.Error(diff)
	}
	c.expect(wire.RepErrInvalid, wire.OptList, []byte("x"))
}

func TestAbortIsAcknowledgedWhateverItsData(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.expect(wire.RepAck, wire.OptAbort, []byte("whatever"))
	c.gone()
}

func TestInfoAndGoSayTheSame(t *testing.T) {
	d := newDisk()
	c := serve(t, nbd.Limits{}, d).dial(t).hello()
	req := export("disk", wire.InfoName, wire.InfoDescription, wire.InfoBlockSize, 77)
	info, again, enter := c.option(wire.OptInfo, req), c.option(wire.OptInfo, req), c.option(wire.OptGo, req)
	want := []answer{
		{wire.RepInfo, "\x00\x00" + "\x00\x00\x00\x00\x00\x10\x00\x00" + "\x0d\x6d"},
		{wire.RepInfo, "\x00\x01disk"},
		{wire.RepInfo, "\x00\x02a disk"},
		{wire.RepInfo, "\x00\x03" + "\x00\x00\x00\x01" + "\x00\x00\x10\x00" + "\x02\x00\x00\x00"},
		{wire.RepAck, ""},
	}
	for _, got := range [][]answer{info, again, enter} {
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(answer{})); diff != "" {
			t.Error(diff)
		}
	}
	c.alive()
	if opened, closed := d.Sessions(); opened != 1 || closed != 0 {
		t.Errorf("opened %d, closed %d; want one handle for INFO and GO", opened, closed)
	}
}

func TestGoOnUnknownNameAfterInfoOfAnotherIsUnknown(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.expect(wire.RepAck, wire.OptInfo, export("disk"))
	c.expect(wire.RepErrUnknown, wire.OptGo, export("other"))
	c.expect(wire.RepErrUnknown, wire.OptInfo, export("disk\x00"))
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	c.alive()
}

func TestInfoOfManyLeavesNoneOpen(t *testing.T) {
	a, b := named("a"), named("b")
	s := serve(t, nbd.Limits{}, a, b)
	c := s.dial(t).hello()
	c.expect(wire.RepAck, wire.OptInfo, export("a"))
	c.expect(wire.RepAck, wire.OptInfo, export("b"))
	c.expect(wire.RepAck, wire.OptAbort, nil)
	c.gone()
	s.stop()
	s.wait(t)
	for _, d := range []*nbdtest.Disk{a, b} {
		if opened, closed := d.Sessions(); opened != 1 || closed != 1 {
			t.Errorf("opened %d, closed %d", opened, closed)
		}
	}
}

func TestExportNamePadding(t *testing.T) {
	s := serve(t, nbd.Limits{}, newDisk())
	for _, test := range []struct {
		flags   uint32
		padding int
	}{{wire.HandshakeFixedNewstyle, 124}, {wire.HandshakeFixedNewstyle | wire.HandshakeNoZeroes, 0}} {
		c := s.dial(t).greet(test.flags)
		c.send(wire.AppendOption(nil, wire.OptExportName, []byte("disk")))
		b := c.recv(10 + test.padding)
		if binary.BigEndian.Uint64(b) != diskSize || !bytes.Equal(b[10:], make([]byte, test.padding)) {
			t.Errorf("answer %x", b)
		}
		c.alive()
	}
}

func TestGoHasNoPaddingEvenWithoutNoZeroes(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).greet(wire.HandshakeFixedNewstyle)
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	c.alive()
}

func TestExportNameOfAnUnknownExportCloses(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.send(wire.AppendOption(nil, wire.OptExportName, []byte("other")))
	c.gone()
}

func TestEmptyNameIsTheOnlyExport(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.expect(wire.RepAck, wire.OptGo, export(""))
	c.alive()
	c = serve(t, nbd.Limits{}, named("a"), named("b")).dial(t).hello()
	c.expect(wire.RepErrUnknown, wire.OptGo, export(""))
	c = serve(t, nbd.Limits{}).dial(t).hello()
	c.expect(wire.RepErrUnknown, wire.OptInfo, export(""))
}

func TestOptionLengthsThatLie(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	for name, data := range map[string][]byte{
		"nothing":            nil,
		"name longer":        {0, 0, 0, 9, 'd', 'i', 's', 'k', 0, 0},
		"name of 4 GiB":      {0xff, 0xff, 0xff, 0xff, 'd', 0, 0},
		"name eats count":    {0, 0, 0, 5, 'd', 'i', 's', 'k', 0},
		"fewer infos":        append(export("disk"), 0, 1),
		"more infos":         {0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 2, 0, 0},
		"bytes after":        append(export("disk", wire.InfoName), 7),
		"count is cut short": {0, 0, 0, 4, 'd', 'i', 's', 'k', 0},
	} {
		t.Log(name)
		c.expect(wire.RepErrInvalid, wire.OptInfo, data)
		c.expect(wire.RepErrInvalid, wire.OptGo, data)
	}
	c.expect(wire.RepAck, wire.OptStructuredReply, nil)
	for _, data := range [][]byte{nil, {0, 0, 0, 4, 'd', 'i', 's', 'k', 0xff, 0xff, 0xff, 0xff}, append(queries("disk"), 1), queries("disk", "nonamespace")} {
		c.expect(wire.RepErrInvalid, wire.OptSetMetaContext, data)
		c.expect(wire.RepErrInvalid, wire.OptListMetaContext, data)
	}
	c.expect(wire.RepErrUnknown, wire.OptGo, export(strings.Repeat("x", 4097)))
	c.expect(wire.RepErrUnknown, wire.OptGo, export("\xff\xfe"))
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
}

func TestOversizedOptionIsSkippedOrDropsTheConnection(t *testing.T) {
	s := serve(t, nbd.Limits{}, newDisk())
	c := s.dial(t).hello()
	c.expect(wire.RepErrTooBig, wire.OptInfo, make([]byte, 65<<10))
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	for _, opt := range []wire.Option{wire.OptInfo, wire.OptExportName, 99} {
		c := s.dial(t).hello()
		c.send(append(binary.BigEndian.AppendUint32(wire.AppendOption(nil, opt, nil)[:12], 0xffffffff), "data"...))
		c.gone()
	}
}

func TestWrongOptionMagicDropsTheConnection(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.send(make([]byte, wire.OptionSize))
	c.gone()
}

func TestStructuredReplyTakesNoDataAndIsAgreedOnce(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.expect(wire.RepErrInvalid, wire.OptStructuredReply, []byte{1})
	c.expect(wire.RepAck, wire.OptStructuredReply, nil)
	c.expect(wire.RepErrInvalid, wire.OptStructuredReply, nil)
}

func TestTransmissionFlags(t *testing.T) {
	ro := nbdtest.NewDisk(nbd.Info{Name: "ro", Size: diskSize, ReadOnly: true})
	s := serve(t, nbd.Limits{}, newDisk(), ro)
	const always = wire.FlagHasFlags | wire.FlagSendFlush | wire.FlagSendFUA | wire.FlagCanMultiConn | wire.FlagSendCache
	const zeroes = wire.FlagSendTrim | wire.FlagSendWriteZeroes | wire.FlagSendFastZero
	for _, test := range []struct {
		name       string
		structured bool
		want       uint16
	}{
		{"disk", false, always | zeroes},
		{"disk", true, always | zeroes | wire.FlagSendDF},
		{"ro", false, always | wire.FlagReadOnly},
		{"ro", true, always | wire.FlagReadOnly | wire.FlagSendDF},
	} {
		c := s.dial(t).hello()
		if test.structured {
			c.expect(wire.RepAck, wire.OptStructuredReply, nil)
		}
		got := c.option(wire.OptGo, export(test.name))[0].data
		if flags := binary.BigEndian.Uint16([]byte(got[10:])); flags != test.want {
			t.Errorf("%s, structured %v: flags %#x, want %#x", test.name, test.structured, flags, test.want)
		}
	}
}

func TestSetMetaContextNeedsStructuredReplies(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.expect(wire.RepErrInvalid, wire.OptSetMetaContext, queries("disk", wire.BaseAllocation))
	c.expect(wire.RepAck, wire.OptListMetaContext, queries("disk"))
}

func TestMetaContextQueries(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).dial(t).hello()
	c.expect(wire.RepAck, wire.OptStructuredReply, nil)
	for _, test := range []struct {
		opt     wire.Option
		queries []string
		found   bool
	}{
		{wire.OptListMetaContext, nil, true},
		{wire.OptListMetaContext, []string{"base:"}, true},
		{wire.OptListMetaContext, []string{"base:allocation"}, true},
		{wire.OptListMetaContext, []string{"qemu:", "x-y:z", "base:other"}, false},
		{wire.OptSetMetaContext, nil, false},
		{wire.OptSetMetaContext, []string{"base:"}, false},
		{wire.OptSetMetaContext, []string{"qemu:dirty-bitmap:b"}, false},
		{wire.OptSetMetaContext, []string{"x-y:z", "base:allocation"}, true},
	} {
		got := c.expect(wire.RepAck, test.opt, queries("disk", test.queries...))
		if found := len(got) == 2 && got[0].data[4:] == wire.BaseAllocation; found != test.found || len(got) > 2 {
			t.Errorf("option %d, %q: %v", test.opt, test.queries, got)
		}
	}
	c.expect(wire.RepErrUnknown, wire.OptListMetaContext, queries("other"))
}

func TestMetaContextSelectionIsVoid(t *testing.T) {
	s := serve(t, nbd.Limits{}, newDisk(), named("other"))
	set := func(c *raw, name string, qs ...string) { c.option(wire.OptSetMetaContext, queries(name, qs...)) }
	for name, test := range map[string]struct {
		steps func(c *raw)
		want  bool
	}{
		"never selected":          {func(*raw) {}, false},
		"selected":                {func(c *raw) { set(c, "disk", wire.BaseAllocation) }, true},
		"for another export":      {func(c *raw) { set(c, "other", wire.BaseAllocation) }, false},
		"replaced by none":        {func(c *raw) { set(c, "disk", wire.BaseAllocation); set(c, "disk") }, false},
		"replaced by a failure":   {func(c *raw) { set(c, "disk", wire.BaseAllocation); set(c, "absent", wire.BaseAllocation) }, false},
		"replaced by a malformed": {func(c *raw) { set(c, "disk", wire.BaseAllocation); c.option(wire.OptSetMetaContext, nil) }, false},
	} {
		c := s.dial(t).hello()
		c.expect(wire.RepAck, wire.OptStructuredReply, nil)
		test.steps(c)
		c.expect(wire.RepAck, wire.OptGo, export("disk"))
		c.request(wire.Request{Command: wire.CmdBlockStatus, Cookie: 5, Length: 4096}, nil)
		if got := c.chunk(5).kind == wire.ChunkBlockStatus; got != test.want {
			t.Errorf("%s: answered with extents: %v", name, got)
		}
	}
}

func TestOpenRefusals(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{}, d)
	for code, want := range map[fault.Code]wire.OptReply{
		fault.NotFound: wire.RepErrUnknown,
		fault.NotReady: wire.RepErrShutdown,
		fault.Fenced:   wire.RepErrShutdown,
		fault.Denied:   wire.RepErrPolicy,
		fault.Internal: wire.RepErrPolicy,
	} {
		d.Refuse(fault.New(code, "because of %s", code))
		got := s.dial(t).hello().expect(want, wire.OptGo, export("disk"))
		if got[0].data != "because of "+string(code) {
			t.Errorf("%s: the client is told %q", code, got[0].data)
		}
	}
}
