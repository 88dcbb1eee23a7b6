// The program's machine and the same one for environments that only tests have, as one.
#pragma once

#include <stdexcept>
#include <vector>

#include "kernels/api.hpp"

namespace perilune::test {

/// A machine with the kernels of another one as well.
class JoinedMachine {
 public:
  JoinedMachine(const Machine& machine, const Machine& other) : joined_(machine) {
    for (const KernelTable& table : {machine.table, other.table}) {
      if (table.version != kKernelTableVersion) throw std::invalid_argument("a table of another version");
      fused_.insert(fused_.end(), table.fused, table.fused + table.fused_count);
      layerwise_.insert(layerwise_.end(), table.layerwise, table.layerwise + table.layerwise_count);
    }
    joined_.table = {.version = kKernelTableVersion,
                     .fused_count = static_cast<std::int32_t>(fused_.size()),
                     .layerwise_count = static_cast<std::int32_t>(layerwise_.size()),
                     .fused = fused_.data(),
                     .layerwise = layerwise_.data()};
  }
  JoinedMachine(const JoinedMachine&) = delete;
  JoinedMachine& operator=(const JoinedMachine&) = delete;
  const Machine& machine() const { return joined_; }

 private:
  std::vector<Kernels> fused_, layerwise_;
  Machine joined_;
};

template <const Machine& (*machine)(), const Machine& (*other)()>
const Machine& joined_machine() {
  static const JoinedMachine joined(machine(), other());
  return joined.machine();
}

}  // namespace perilune::test
