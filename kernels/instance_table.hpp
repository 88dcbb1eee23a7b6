// The list of instances that a machine's translation units add to, one after the other, when it is asked for first.
//
// A plain array: a container of the standard library would bring functions that levels share (tests/structure), and a list
// made before main() would run a level's instructions before the processor is checked.
#pragma once

#include "kernels/api.hpp"
#include "sims/portable.hpp"

// Tests compile the machines once more, with environments of their own.
#ifndef PERILUNE_INSTANCES
#define PERILUNE_INSTANCES "kernels/instances.def"
#endif

namespace perilune::inline PERILUNE_LEVEL {

class InstanceTable {
 public:
  void add(const Instance& instance) { at(instances_, count_++) = instance; }
  /// Adds instances in fp32, and each once more for every one of `setters`, which gives them another precision.
  template <class... Setters>
  void add_in_precisions(void (*add_fp32)(InstanceTable&), Setters... setters) {
    const std::int32_t first = count_;
    add_fp32(*this);
    const std::int32_t end = count_;
    const auto add_again = [&](void (*set)(Instance*)) {
      const std::int32_t begin = count_;
      for (std::int32_t i = first; i < end; ++i) add(instances_[i]);
      set(instances_ + begin);
    };
    (add_again(setters), ...);
  }
  void add_wide(const Instance& instance) { at(wide_, wide_count_++) = instance; }
  void show_in(Machine& machine) const {
    machine.instances = instances_;
    machine.instance_count = count_;
    machine.wide_instances = wide_;
    machine.wide_instance_count = wide_count_;
  }

 private:
  static constexpr int kMost = 96;
  static Instance& at(Instance (&list)[kMost], int index) {
    if (index >= kMost) __builtin_trap();  // kernels/instances.def has outgrown the list
    return list[index];
  }

  Instance instances_[kMost] = {}, wide_[kMost] = {};
  std::int32_t count_ = 0, wide_count_ = 0;
};

}  // namespace perilune::inline PERILUNE_LEVEL
