package api

// Requests that the process answers which embeds the site's NATS server.
const (
	LogSync = "tidemark.api.log.sync" // LogSyncRequest -> Nothing
	LogInfo = "tidemark.api.log.info" // Nothing -> LogInfoReply
)

// LogSyncRequest asks for a stream to be synced, or (Trimmed) for what a purge rewrote.
type LogSyncRequest struct {
	Stream  string `json:"stream"`
	Trimmed bool   `json:"trimmed"`
}

// LogInfoReply tells how the log is made safe: "files", "always" or "never".
type LogInfoReply struct {
	Sync string `json:"sync"`
}
