package natsd

import (
	"context"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// Handlers answer processes that use this server over the network and need its log
// synced.
func (s *Server) Handlers() []api.Handler {
	return []api.Handler{
		api.On(api.LogSync, func(ctx context.Context, r api.LogSyncRequest) (api.Nothing, error) {
			if err := events.CheckName(r.Stream); err != nil {
				return api.Nothing{}, fault.New(fault.Usage, "stream: %w", err)
			}
			if r.Trimmed {
				return api.Nothing{}, s.Trimmed(ctx, r.Stream)
			}
			return api.Nothing{}, s.Sync(ctx, r.Stream)
		}),
		api.On(api.LogInfo, func(context.Context, api.Nothing) (api.LogInfoReply, error) {
			return api.LogInfoReply{Sync: string(s.sync)}, nil
		}),
	}
}
