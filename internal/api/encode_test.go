package api

import (
	"errors"
	"fmt"
	"testing"

	"tidemark/internal/fault"
)

// An answer is what it is for who reads it: a reply, also an empty one, or an error, and never both.
func TestEncode(t *testing.T) {
	for _, c := range []struct {
		reply any
		err   error
		want  string
	}{
		{Pool{Pool: "a<b"}, nil, `{"reply":{"pool":"a\u003cb","mirroring":false,"directories":0,"peers":0}}`},
		{Nothing{}, nil, `{"reply":{}}`},
		{[]Pool(nil), nil, `{"reply":null}`},
		{nil, nil, `{"reply":null}`},
		{Pool{}, fault.New(fault.Busy, "no"), `{"error":{"code":"busy","message":"no"}}`},
		{nil, errors.New("broken"), `{"error":{"code":"internal","message":"broken"}}`},
		{func() {}, nil, `{"error":{"code":"internal","message":"json: unsupported type: func()"}}`},
	} {
		if got := string(encode(c.reply, c.err)); got != c.want {
			t.Errorf("%T, %v: %s, want %s", c.reply, c.err, got, c.want)
		}
	}
}

// BenchmarkEncodeDirectories encodes the answer that holds 10,000 directories.
func BenchmarkEncodeDirectories(b *testing.B) {
	all := make([]Directory, 10_000)
	for i := range all {
		all[i] = Directory{Pool: "vms", Path: fmt.Sprintf("/d%05d", i), Name: fmt.Sprintf("vms/d%05d", i), Node: "n1", MappedTo: "n1", State: "mapped", Epoch: 1}
	}
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(encode(all, nil))))
	}
}
