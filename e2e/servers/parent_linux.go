package servers

import "syscall"

// dieWithParent makes the kernel kill the process when the thread that started
// it ends, which is with the test binary at the latest.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
