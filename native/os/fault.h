// What happens when the daemon itself faults (SIGSEGV and the like).
//
// Owns: the process's handlers of these signals. A fault ends the process at
// once, whichever thread it is in: the kernel then lets everybody go on who
// waits for an answer. A daemon that lived on with a broken thread would not.
#pragma once

namespace janus {

// Writes one line that names the thread and the signal, then lets the signal's
// default action end the process. Covers the calling thread as below.
void report_faults();

// Gives the calling thread a stack for the handler, until the thread ends. A
// thread that has used up its own has no room to report it: the kernel then ends
// the process without a line.
void report_stack_overflow();

}  // namespace janus
