package replica

import (
	"encoding/json"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// What a source sends is taken as it is; what lists more than a directory can have is refused
// before anything is made for it.
func TestDecodeSyncStart(t *testing.T) {
	_, source, _ := withNoise(t)
	start, err := source.SyncStart()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(start)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSyncStart(data)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(got); string(again) != string(data) {
		t.Errorf("decoded\n%s\nsent\n%s", again, data)
	}
	if err := create1(t, vfs.OS(), memDir(t)).BeginSync(got); err != nil {
		t.Error(err)
	}
	outline, err := source.Outline()
	if err != nil {
		t.Fatal(err)
	}
	data, _ = json.Marshal(outline)
	if got, err := DecodeOutline(data); err != nil || !reflect.DeepEqual(got.Mark, outline.Mark) || len(got.Images) != 2 {
		t.Errorf("%+v, %v", got, err)
	}

	many := strings.Repeat("{},", listedMax)
	for name, text := range map[string]string{
		"layers":    `{"layers":[` + many + `{}]}`,
		"images":    `{"history":"h","images":[` + many + `{}],"layers":[]}`,
		"tags":      `{"tags":[` + strings.Repeat("0,", listedMax) + `0]}`,
		"torn":      `{"layers":[{}`,
		"no object": `]`,
		"nothing":   ``,
		"followed":  `{} {}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeSyncStart([]byte(text))
		runtime.ReadMemStats(&after)
		if fault.CodeOf(err) != fault.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
		if live := int64(after.HeapInuse) - int64(before.HeapInuse); live > 256<<20 {
			t.Errorf("%s: the heap grew by %d MiB", name, live>>20)
		}
	}
	links := `{"images":[{"links":[` + strings.Repeat(`"",`, 1000) + `""]}]}`
	if err := checkListing([]byte(links), 1000); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("values: %v", err)
	}
	if err := checkListing([]byte(links), 2000); err != nil {
		t.Errorf("fewer values: %v", err)
	}
}
