// The kernels of the test environment on the GPU, in every precision.
#include "kernels/kernel_list.hpp"

namespace perilune::inline PERILUNE_LEVEL {

void add_PointMass(KernelList&);
void set_tf32_PointMass(Kernels*);
void set_bf16_PointMass(Kernels*);

/// A machine of these kernels and nothing else.
const Machine& point_mass_machine() {
  static KernelList list;
  static const Machine machine = [] {
    list.add_in_precisions(add_PointMass, set_tf32_PointMass, set_bf16_PointMass);
    Machine result{};
    result.table = list.table();
    return result;
  }();
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
