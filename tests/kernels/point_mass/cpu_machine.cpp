// The kernels of the test environment on the CPU, compiled at every level that is built.
#include "kernels/kernel_list.hpp"

namespace perilune::inline PERILUNE_LEVEL {

void add_PointMass(KernelList&);

/// A machine of these kernels and nothing else.
const Machine& point_mass_machine() {
  static KernelList list;
  static const Machine machine = [] {
    add_PointMass(list);
    Machine result{};
    result.table = list.table();
    return result;
  }();
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
