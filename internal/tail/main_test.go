package tail

import (
	"os"
	"testing"

	"tidemark/internal/sitetest"
)

func TestMain(m *testing.M) {
	if err := sitetest.SideBySide(3); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
