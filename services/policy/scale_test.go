package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/services/policy"
)

// Many directories at once. Every one is mapped once and acquired once.
func TestManyDirectories(t *testing.T) {
	w := newWorld(t, "east")
	metrics := prometheus.NewRegistry()
	p := policy.New(policy.Deps{Bus: w.connect(), Node: w.node, Log: w.log, Metrics: metrics})
	w.run("policy", p.Run)
	w.ready("policy", p.Ready())
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	const directories = 300
	for i := range directories {
		w.publish(events.StreamDirectories, &events.DirectoryCreated{
			Directory: events.DirectoryID(fmt.Sprintf("%016x", i)), Pool: "vms", Path: fmt.Sprintf("/d%d", i),
		})
	}
	w.eventually("all are stalled", func() bool { return gauge(t, metrics, "stalled") == directories })
	w.startNotifier()
	a, b := newFakeHolder(), newFakeHolder()
	start := time.Now()
	w.both("a", "1", a)
	w.both("b", "1", b)
	w.eventually("all are mapped", func() bool { return gauge(t, metrics, "mapped") == directories })
	t.Logf("%d directories in %s, %d at one node and %d at the other", directories, time.Since(start), len(a.log()), len(b.log()))
	if n := w.count(events.StreamDirectories, "directory_mapped"); n != directories {
		t.Errorf("%d mappings", n)
	}
	if n := len(a.log()) + len(b.log()); n != directories {
		t.Errorf("%d acquires", n)
	}
}

func gauge(t *testing.T, r *prometheus.Registry, state string) int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "tidemark_policy_directories" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == state {
				return int(m.GetGauge().GetValue())
			}
		}
	}
	return 0
}
