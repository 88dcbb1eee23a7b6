// The program's machine and the same one for environments that only tests have, as one.
#pragma once

#include <vector>

#include "kernels/api.hpp"

namespace perilune::test {

/// A machine with the instances of another one as well.
class JoinedMachine {
 public:
  JoinedMachine(const Machine& machine, const Machine& more)
      : instances_(machine.instances, machine.instances + machine.instance_count),
        wide_(machine.wide_instances, machine.wide_instances + machine.wide_instance_count),
        joined_(machine) {
    instances_.insert(instances_.end(), more.instances, more.instances + more.instance_count);
    wide_.insert(wide_.end(), more.wide_instances, more.wide_instances + more.wide_instance_count);
    joined_.instances = instances_.data();
    joined_.instance_count = static_cast<std::int32_t>(instances_.size());
    joined_.wide_instances = wide_.data();
    joined_.wide_instance_count = static_cast<std::int32_t>(wide_.size());
  }
  JoinedMachine(const JoinedMachine&) = delete;
  JoinedMachine& operator=(const JoinedMachine&) = delete;
  const Machine& machine() const { return joined_; }

 private:
  std::vector<Instance> instances_, wide_;
  Machine joined_;
};

template <const Machine& (*machine)(), const Machine& (*more)()>
const Machine& joined_machine() {
  static const JoinedMachine joined(machine(), more());
  return joined.machine();
}

}  // namespace perilune::test
