// The instances of the test environment on the CPU, compiled at every level that is built.
#include "kernels/instance_table.hpp"

namespace perilune::inline PERILUNE_LEVEL {

void add_PointMass(InstanceTable&);

/// A machine of these instances and nothing else.
const Machine& point_mass_machine() {
  static InstanceTable table;
  static const Machine machine = [] {
    add_PointMass(table);
    Machine result{};
    table.show_in(result);
    return result;
  }();
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
