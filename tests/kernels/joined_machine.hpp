// The program's machine and the same one for environments that only tests have, as one.
#pragma once

#include <vector>

#include "kernels/api.hpp"

namespace perilune::test {

/// A machine with the instances of another one as well.
class JoinedMachine {
 public:
  JoinedMachine(const Machine& machine, const Machine& more)
      : kernels_(machine.kernels, machine.kernels + machine.kernel_count),
        layerwise_(machine.layerwise, machine.layerwise + machine.layerwise_count),
        joined_(machine) {
    kernels_.insert(kernels_.end(), more.kernels, more.kernels + more.kernel_count);
    layerwise_.insert(layerwise_.end(), more.layerwise, more.layerwise + more.layerwise_count);
    joined_.kernels = kernels_.data();
    joined_.kernel_count = static_cast<std::int32_t>(kernels_.size());
    joined_.layerwise = layerwise_.data();
    joined_.layerwise_count = static_cast<std::int32_t>(layerwise_.size());
  }
  JoinedMachine(const JoinedMachine&) = delete;
  JoinedMachine& operator=(const JoinedMachine&) = delete;
  const Machine& machine() const { return joined_; }

 private:
  std::vector<Kernels> kernels_, layerwise_;
  Machine joined_;
};

template <const Machine& (*machine)(), const Machine& (*more)()>
const Machine& joined_machine() {
  static const JoinedMachine joined(machine(), more());
  return joined.machine();
}

}  // namespace perilune::test
