// The list that a machine's translation units add their kernels to, one after the other, when it is asked for first.
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
  /// Those of a fused network.
  void add(const Kernels& kernels) { at(fused_, fused_count_++) = kernels; }
  /// Adds those of an environment in fp32, and each once more for every one of `setters`, which give them another
  /// precision.
  template <class... Setters>
  void add_in_precisions(void (*add_fp32)(KernelList&), Setters... setters) {
    const std::int32_t first = fused_count_;
    add_fp32(*this);
    const std::int32_t end = fused_count_;
    const auto add_again = [&](void (*set)(Kernels*)) {
      const std::int32_t begin = fused_count_;
      for (std::int32_t i = first; i < end; ++i) add(fused_[i]);
      set(fused_ + begin);
    };
    (add_again(setters), ...);
  }
  void add_layerwise(const Kernels& kernels) { at(layerwise_, layerwise_count_++) = kernels; }

  /// Points into this list.
  KernelTable table() const {
    return {.version = kKernelTableVersion,
            .fused_count = fused_count_,
            .layerwise_count = layerwise_count_,
            .fused = fused_,
            .layerwise = layerwise_};
  }

 private:
  static constexpr int kMost = 96;
  static Kernels& at(Kernels (&list)[kMost], int index) {
    if (index >= kMost) __builtin_trap();  // kernels/environments.def has outgrown the list
    return list[index];
  }

  Kernels fused_[kMost] = {}, layerwise_[kMost] = {};
  std::int32_t fused_count_ = 0, layerwise_count_ = 0;
};

}  // namespace perilune::inline PERILUNE_LEVEL
