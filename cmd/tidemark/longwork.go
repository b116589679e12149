package main

import (
	"context"
	"fmt"

	"tidemark/events"
	"tidemark/internal/api"
)

// longWork asks the holder of a directory for work that may take hours, and shows how many
// objects are done. The command's time-out is for how long the holder may say nothing.
func longWork[Reply any](ctx context.Context, c *cli, name events.DirectoryName, stage, request string, body any) (Reply, error) {
	s := c.client()
	defer s.close()
	asking, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	d, err := call[api.Directory](asking, s, api.DirectoryResolve, name)
	if err != nil {
		var none Reply
		return none, err
	}
	bar := c.progress()
	bar.unit = func(n uint64) string { return fmt.Sprintf("%d objects", n) }
	bar.begin(stage)
	defer bar.end()
	return holdLong[Reply](ctx, s, d, c.timeout, request, body, func(p api.Progress) {
		if p.ObjectsTotal > 0 { // else how much there is to do is not known yet
			bar.at(p.Objects, p.ObjectsTotal)
		}
	})
}
