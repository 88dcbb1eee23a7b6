// How a kernel's work is laid out over blocks: each kernel says what its lanes are, and each machine, for each of
// these, how many lanes a block has and how many blocks there are (cpu_launcher.hpp, cuda_launcher.cuh, and in tests
// fiber_launcher.hpp).
#pragma once

#include "sims/portable.hpp"

namespace perilune::inline PERILUNE_LEVEL {

enum class Grid {
  kSteps,         ///< environments for one step or reset, which is little work
  kChecks,        ///< environments for a look at their actions, which is hardly any
  kSimulation,    ///< environments for many steps
  kEnvironments,  ///< environments for many steps with a network
  kSamples,       ///< rows that go through a network once
  kLanes,         ///< one of either, between the products of a layer-by-layer network
  kTiles,         ///< tiles of samples in turn; the caller says how many blocks
  kScan,          ///< environments whose time several lanes may share (Block::kSplit), or chunks of samples
  kColumns,       ///< parameters whose partial gradients several lanes may share
  kElements,      ///< elements of an array
  kRows,          ///< rows of a matrix, a block to each or to several
  kOneBlock,
};

}  // namespace perilune::inline PERILUNE_LEVEL
