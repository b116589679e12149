package api_test

import (
	"context"
	"strings"
	"testing"

	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// An answer that no message could hold arrives, and so do refusals and small ones.
func TestAnswersInParts(t *testing.T) {
	nc := conn(t)
	serve(t, nc, api.On("test.list", func(_ context.Context, n int) ([]string, error) {
		if n < 0 {
			return nil, fault.New(fault.NotFound, "there is no list of %d", n)
		}
		list := make([]string, n)
		for i := range list {
			list[i] = strings.Repeat("x", 1000)
		}
		return list, nil
	}))
	for _, n := range []int{0, 1, 525, 10_000} {
		list, err := api.CallParts[[]string](within(t), nc, "test.list", n)
		if err != nil || len(list) != n {
			t.Errorf("a list of %d: %d, %v", n, len(list), err)
		}
	}
	if _, err := api.CallParts[[]string](within(t), nc, "test.list", -1); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a refusal: %v", err)
	}
	if _, err := api.CallParts[[]string](within(t), nc, "test.nobody", 1); !api.Nobody(err) {
		t.Errorf("nobody: %v", err)
	}
}
