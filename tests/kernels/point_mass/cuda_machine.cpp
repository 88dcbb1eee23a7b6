// The instances of the test environment on the GPU, in every precision.
#include "kernels/instance_table.hpp"

namespace perilune::inline PERILUNE_LEVEL {

void add_PointMass(InstanceTable&);
void set_tf32_PointMass(Instance*);
void set_bf16_PointMass(Instance*);

/// A machine of these instances and nothing else.
const Machine& point_mass_machine() {
  static InstanceTable table;
  static const Machine machine = [] {
    table.add_in_precisions(add_PointMass, set_tf32_PointMass, set_bf16_PointMass);
    Machine result{};
    table.show_in(result);
    return result;
  }();
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
