package main

import (
	"context"
	"sync/atomic"
	"testing"

	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// A process that is stopping while another one starts is not the one that syncs its log: the
// next is asked.
func TestEmbedderIsAskedAgain(t *testing.T) {
	at := sitetest.Start(t, "east")
	var asked atomic.Int64
	stop, err := api.Serve(t.Context(), at.Bus.Conn(), at.Log, api.On(api.LogInfo, func(context.Context, api.Nothing) (api.LogInfoReply, error) {
		if asked.Add(1) == 1 {
			return api.LogInfoReply{}, fault.New(fault.NotReady, "stopping")
		}
		return api.LogInfoReply{Sync: "files"}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if info, err := askEmbedder(t.Context(), at.Bus, sitetest.Patience); err != nil || info.Sync != "files" {
		t.Errorf("%+v, %v", info, err)
	}
}
