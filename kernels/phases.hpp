// The phases of training, as profiles name them.
#pragma once

#include <array>
#include <cstddef>

namespace perilune {

/// rollout, gae and update follow each other in an iteration; gradient, reduce and apply repeat in an update.
enum class Phase { kIteration, kRollout, kGae, kUpdate, kGradient, kReduce, kApply, kEvaluation };
inline constexpr std::size_t kPhases = 8;
/// As Nsight shows them, in the domain "perilune".
inline constexpr std::array<const char*, kPhases> kPhaseNames = {"iteration", "rollout", "gae",   "update",
                                                                 "gradient",  "reduce",  "apply", "evaluation"};

}  // namespace perilune
