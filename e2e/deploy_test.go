package e2e_test

import "testing"

// TestDeployedSite runs a site as deploy/ installs it: the NATS server as a process of its own
// with the rendered configuration, and each service as its unit runs it, with a user of its own.
func TestDeployedSite(t *testing.T) {
	t.Parallel()
	east := install(t, "east")
	east.startAll()
	east.createImage("vms/prod/a", "16MiB")
	l := newLoad(t, 16<<20, "vms/prod/a")
	w := l.start(east.site)
	w.awaitWrites(50)
	w.end()
	l.demandComplete(east.site)
	east.stopAll()
	east.demandNothingRefused()
}
