package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"tidemark/events"
)

// versionInfo is what `version` shows.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Format is the newest message format that the program reads, and the one it writes.
	Format int `json:"format"`
}

// thisVersion reads what the Go tool noted in the binary.
func thisVersion() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Format: events.FormatVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the program's version", Args: takes(0, 0),
		RunE: c.action(func(context.Context, []string) error {
			v := thisVersion()
			return c.show(v, func(t *table) {
				t.row("tidemark " + v.Version)
				t.row("revision:", v.Revision)
				t.row("built with:", v.Go, v.Platform)
				t.row("message format:", v.Format)
			})
		}),
	}
}
