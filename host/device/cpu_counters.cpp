#include "host/device/cpu_counters.hpp"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace perilune {

CpuCounters::CpuCounters() {
  constexpr std::array<std::uint64_t, 2> kEvents = {PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_HW_INSTRUCTIONS};
  for (std::size_t i = 0; i < kEvents.size(); ++i) {
    perf_event_attr event{};
    event.type = PERF_TYPE_HARDWARE;
    event.size = sizeof event;
    event.config = kEvents[i];
    event.inherit = 1;
    event.exclude_kernel = 1;
    event.exclude_hv = 1;
    files_[i] = static_cast<int>(::syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
    if (files_[i] >= 0) continue;
    const int error = errno;
    if (error == ENOENT || error == EOPNOTSUPP) {
      obstacle_ = "this machine has no hardware counters (many virtual ones)";
    } else if (error == EACCES || error == EPERM) {
      obstacle_ = "not permitted (kernel.perf_event_paranoid, or a container)";
    } else {
      obstacle_ = "perf_event_open: " + std::generic_category().message(error);
    }
    return;
  }
}

CpuCounters::~CpuCounters() {
  for (int file : files_) {
    if (file >= 0) ::close(file);
  }
}

void CpuCounters::end(Phase phase) {
  const CounterTotal now = read();
  const auto i = static_cast<std::size_t>(phase);
  totals_[i].cycles += now.cycles - begun_[i].cycles;
  totals_[i].instructions += now.instructions - begun_[i].instructions;
}

CounterTotal CpuCounters::read() const {
  std::array<std::uint64_t, 2> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (::read(files_[i], &values[i], sizeof values[i]) != sizeof values[i]) values[i] = 0;
  }
  return {values[0], values[1]};
}

}  // namespace perilune
