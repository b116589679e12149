package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// LogFormat is how log records look.
type LogFormat int

// The formats: text for a person at a terminal, JSON for everything else.
const (
	LogText LogFormat = iota
	LogJSON
)

// NewLogger returns a logger that writes records of level and above to w.
func NewLogger(w io.Writer, format LogFormat, level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == LogJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// ParseLevel reads debug, info, warn or error.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q: it is one of debug, info, warn, error", s)
}
