// What a policy does in given observations: one row in, an action and the network's outputs out.
#pragma once

#include "kernels/environment_lane.hpp"
#include "kernels/network.hpp"
#include "kernels/policy.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// I: an Interface. Chooses the actions of rows `first` and on, one a lane, from the network's outputs, and writes
/// what is asked for.
template <class I, class B, class Real>
PERILUNE_DEVICE void act_on_rows(const B& block, const ActArgs& args, const typename PolicyOf<I, Real>::Spread& spread,
                                 int first, typename B::Lane lane, const Real (&outputs)[PolicyOf<I, Real>::kOutputs]) {
  using Policy = PolicyOf<I, Real>;
  const UInt<Real> row = block.numbers(lane) + UInt<Real>(static_cast<std::uint32_t>(first));
  CounterRandom<Real> random(args.key, row, UInt<Real>(args.call), UInt<Real>(0u), Purpose::kAction);
  const auto action = choose_action<Policy>(outputs, spread, args.deterministic != 0, random);
  const std::ptrdiff_t at = first;
  if constexpr (I::Action::kContinuous) {
    constexpr int kNumbers = Policy::kActionFloats;
    if (args.numbers != nullptr) block.store_row(args.numbers + at * kNumbers, lane, action.at);
  } else {
    if (args.choices != nullptr) block.store(args.choices + at, lane, action);
  }
  if (args.outputs != nullptr) {
    block.store_row(args.outputs + at * Policy::kOutputs, lane, outputs);
  }
}

/// I: an Interface.
template <class I, int Width>
struct Act {
  static constexpr Grid kGrid = Grid::kSamples;
  template <class Real>
  using Policy = PolicyOf<I, Real>;
  template <class B>
  using Actor = Mlp<B, I::kObsDim, Width, Policy<typename B::Real>::kOutputs>;

  template <class B>
  static constexpr int storage_floats(int depth) {
    return Observations<B, I::kObsDim>::floats() + Outputs<B, Policy<typename B::Real>::kOutputs>::inference_floats() +
           Actor<B>::Hidden::inference_floats() + Actor<B>::storage_floats(depth);
  }

  template <Block B>
  PERILUNE_DEVICE static void run(B& block, const ActArgs& args) {
    using Real = typename B::Real;
    constexpr int kOutputs = Policy<Real>::kOutputs;
    const BlockRange range = block_range(block, args.count);
    block.activate(range.count);
    Carver<B> carver{block.storage()};
    const Observations<B, I::kObsDim> observation(carver);
    const auto outputs = Outputs<B, kOutputs>::for_inference(carver);
    const auto hidden = Actor<B>::Hidden::for_inference(carver);
    const Actor<B> actor(block, carver, args.parameters, args.actor, hidden);
    const typename Policy<Real>::Spread spread(args.parameters + args.actor.log_std);
    block.lanes([&](typename B::Lane lane) {
      Real row[I::kObsDim];
      const std::ptrdiff_t first = range.first;
      block.load_row(args.observations + first * I::kObsDim, lane, row);
      normalize_inputs(args.actor, args.parameters, row);
      observation.store(lane, row);
    });
    block.sync();
    actor.infer(observation, outputs);
    block.lanes([&](typename B::Lane lane) {
      Real values[kOutputs];
      outputs.load(lane, values);
      act_on_rows<I>(block, args, spread, range.first, lane, values);
    });
  }
};

}  // namespace perilune::inline PERILUNE_LEVEL
