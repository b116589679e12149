package main

import (
	"math"
	"testing"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"512": 512, "512B": 512, "64KiB": 64 << 10, "64K": 64 << 10, "64k": 64 << 10,
		"3MiB": 3 << 20, "1GiB": 1 << 30, "10G": 10 << 30, "2T": 2 << 40, "7EiB": 7 << 60,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "0K", "-1", "+1", "1.5G", "G", "10X", "10KB", "10 G", " 1", "1iB", "1KiBB", "0x10",
		"8EiB", "9223372036854775808", "99999999999999999999", "1_000", "٣",
	} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, it should be refused", text, got)
		}
	}
}

func TestFormatSizeIsReadBack(t *testing.T) {
	for n, want := range map[uint64]string{
		1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 64 << 20: "64MiB", 5 << 40: "5TiB", 1 << 60: "1EiB", 0: "0B",
	} {
		text := formatSize(n)
		if text != want {
			t.Errorf("formatSize(%d) = %q, want %q", n, text, want)
		}
		if back, err := parseSize(text); n != 0 && n != 1536 && (err != nil || back != n) {
			t.Errorf("%q reads as %d, %v", text, back, err)
		}
	}
}
