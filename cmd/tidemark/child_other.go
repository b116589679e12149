//go:build !linux

package main

import "syscall"

// childAttributes puts a child into a process group of its own, so that a terminal's
// interrupt reaches only us.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
