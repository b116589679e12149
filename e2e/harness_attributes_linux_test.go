package e2e_test

import "syscall"

// childAttributes lets the kernel kill a child should the test binary be killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
