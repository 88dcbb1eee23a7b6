// The fiber machine as a table of launchers, so that the tests of every machine run on it.
#pragma once

#include "kernels/api.hpp"

namespace perilune::test {

/// CartPole at widths 16 and 32 in fp32, and 16 to 64 on emulated tensor cores; PointMass at width 32 in all of them.
/// Lanes run in ascending or in descending order.
const Machine& forward_fiber_machine();
const Machine& reverse_fiber_machine();

}  // namespace perilune::test
