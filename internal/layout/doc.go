// Package layout holds no code, only the test of how this module's packages may import
// each other: down, never up or sideways.
//
//	cmd, e2e ──> services ──> internal ──> events
//
// Services do not know each other, events knows nothing of ours, and JetStream is
// reached through internal/bus alone (internal/natsd, which runs the server, aside).
package layout
