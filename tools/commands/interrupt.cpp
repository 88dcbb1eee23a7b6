// See interrupt.hpp.
#include "tools/commands/interrupt.hpp"

#include <signal.h>
#include <unistd.h>

#include <string_view>

#include "host/base/error.hpp"

namespace perilune {
namespace {

std::atomic<bool> interrupt_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

extern "C" void handle_interrupt(int) {
  if (interrupt_requested.exchange(true)) {
    constexpr std::string_view kText = "\nperilune: stopped at once; what was saved before stays\n";
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, kText.data(), kText.size());
    ::_exit(static_cast<int>(ExitCode::kInterrupted));
  }
}

}  // namespace

const std::atomic<bool>& catch_interrupts() {
  for (int signal_number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction old {};
    ::sigaction(signal_number, nullptr, &old);
    if (old.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = handle_interrupt;
    action.sa_flags = SA_RESTART;
    ::sigaction(signal_number, &action, nullptr);
  }
  return interrupt_requested;
}

}  // namespace perilune
