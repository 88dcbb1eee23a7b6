// The fiber machine as a table of launchers, so that the tests of every machine run on it.
#pragma once

#include "kernels/api.hpp"

namespace perilune::test {

/// CartPole at widths 16 and 32, 32 lanes; lanes run in ascending or in descending order.
const Machine& forward_fiber_machine();
const Machine& reverse_fiber_machine();

}  // namespace perilune::test
