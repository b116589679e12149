package replica

import (
	"runtime"
	"testing"
)

// TestEmptyTableIsSmall makes the table of the largest image: a layer of it that nothing was
// written to takes some kilobytes.
func TestEmptyTableIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	large := newTable(ObjectsMax, 1)
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 64<<10 {
		t.Errorf("%d bytes", bytes)
	}
	for _, index := range []uint64{0, 65535, 65536, ObjectsMax - 1} {
		large.make(index).version = 1
	}
	found := 0
	large.touched(0, func(_ uint64, o *object) bool { found += int(o.version); return true })
	if small := large.resized(65536); found != 4 || small.version(65535) != 1 || small.version(65536) != 0 || large.version(ObjectsMax-1) != 1 {
		t.Errorf("%d objects found", found)
	}
}
