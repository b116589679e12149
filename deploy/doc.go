// Package deploy is what it takes to run Tidemark on real machines: systemd units, a
// container, a compose file, the NATS server's configuration, dashboards and alert rules.
// README.md says how to use them.
//
// The Go code here reads those files as the programs do that they are written for, so that
// tests can run exactly what they say: nothing of it is part of the binary.
package deploy
