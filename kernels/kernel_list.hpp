// The list of instances that a machine's translation units add to, one after the other, when it is asked for first.
//
// A plain array: a container of the standard library would bring functions that levels share (tests/structure), and a
// list made before main() would run a level's instructions before the processor is checked.
#pragma once

#include "kernels/api.hpp"
#include "sims/portable.hpp"

// Tests compile the machines once more, with environments of their own.
#ifndef PERILUNE_ENVIRONMENT_LIST
#define PERILUNE_ENVIRONMENT_LIST "kernels/environments.def"
#endif

namespace perilune::inline PERILUNE_LEVEL {

class KernelList {
 public:
  void add(const Kernels& kernels) { at(kernels_, count_++) = kernels; }
  /// Adds instances in fp32, and each once more for every one of `setters`, which gives them another precision.
  template <class... Setters>
  void add_in_precisions(void (*add_fp32)(KernelList&), Setters... setters) {
    const std::int32_t first = count_;
    add_fp32(*this);
    const std::int32_t end = count_;
    const auto add_again = [&](void (*set)(Kernels*)) {
      const std::int32_t begin = count_;
      for (std::int32_t i = first; i < end; ++i) add(kernels_[i]);
      set(kernels_ + begin);
    };
    (add_again(setters), ...);
  }
  void add_layerwise(const Kernels& kernels) { at(layerwise_, layerwise_count_++) = kernels; }
  void show_in(Machine& machine) const {
    machine.kernels = kernels_;
    machine.kernel_count = count_;
    machine.layerwise = layerwise_;
    machine.layerwise_count = layerwise_count_;
  }

 private:
  static constexpr int kMost = 96;
  static Kernels& at(Kernels (&list)[kMost], int index) {
    if (index >= kMost) __builtin_trap();  // kernels/environments.def has outgrown the list
    return list[index];
  }

  Kernels kernels_[kMost] = {}, layerwise_[kMost] = {};
  std::int32_t count_ = 0, layerwise_count_ = 0;
};

}  // namespace perilune::inline PERILUNE_LEVEL
