// Package e2e holds the tests that run Tidemark as its users do: real processes, killed
// and stopped for real, and real clients on their sockets.
//
// Nothing but tests is in here. The files whose names begin with harness_ are the tools:
//
//	harness_process  one child process: start, ready line, kill, stop, pause, reap
//	harness_attributes   what makes a child end with the test
//	harness_site     a site of one or several processes, its command line, its exports
//	harness_deploy   the same as deploy/ installs it, with a NATS server of its own
//	harness_mirror   two sites that are peers, and what `mirror status` says of them
//	harness_fleet    several sites, with a link of its own between any two
//	harness_load     writers over several NBD connections, and the judge of what is left
//	harness_exact    the same on no block's boundary, one request at a time
//	harness_history  what several clients did, for the check of linearizability
//	harness_catalogue, harness_operations   all that a directory holds, and what operations make of it
//	harness_inside   a site in the test's own process, whose power can be cut
//	harness_disk     what a power cut leaves of a NATS store
//	harness_proxy    a TCP link that can be cut, silenced and slowed down
//	harness_network  a link between network namespaces, packet by packet (Linux, root)
//	harness_browser  a headless Chromium with one page
//	harness_tool     programs that are not ours: qemu-img, nbdcopy, fio
//	harness_poll     waits with a deadline
//	harness_main     builds the program under test, and says how many tests run at a time
//
// Nothing sleeps: every wait is for something that can be seen, with a deadline. The
// processes run with the race detector when the tests do; a data race, a panic or a
// transition that the program itself calls impossible, in the log of any process, fails
// the test that started it.
//
// See README.md for how to run them and what each file proves.
package e2e
