// Ctrl-C and its kin: the first asks what runs to save and stop, a second ends the process at once.
#pragma once

#include <atomic>

namespace perilune {

// From now on SIGINT, SIGTERM and SIGHUP set the flag; one that the caller had ignored (nohup) stays ignored. The flag
// lives as long as the process.
const std::atomic<bool>& catch_interrupts();

}  // namespace perilune
