package main

import "syscall"

// childAttributes puts a child into a process group of its own, so that a terminal's
// interrupt reaches only us, and lets the kernel kill it should we be killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
