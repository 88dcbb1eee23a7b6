// All environments, for who names them by kernels/environments.def.
#pragma once

#include "sims/cartpole.hpp"
#include "sims/lander.hpp"
#include "sims/lunar_lander.hpp"
