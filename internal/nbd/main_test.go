package nbd_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a test leaves a goroutine behind: whatever a client did, its
// session must have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
