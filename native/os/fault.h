// What happens when the daemon itself faults (SIGSEGV and the like).
//
// Owns: the process's handlers of these signals. A fault ends the process at
// once, whichever thread it is in: the kernel then lets everybody go on who
// waits for an answer. A daemon that lived on with a broken thread would not.
#pragma once

namespace janus {

// Writes one line that names the thread and the signal, then lets the signal's
// default action end the process.
void report_faults();

}  // namespace janus
