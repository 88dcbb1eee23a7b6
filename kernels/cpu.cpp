// The CPU machine at one instruction-set level. Compiled once per level, with PERILUNE_LEVEL naming it
// (sims/portable.hpp), as are the units of the environments (cpu_launcher.hpp); cpu_levels.cpp chooses among levels at
// start-up.
#include "kernels/cpu_launcher.hpp"
#include "kernels/gae.hpp"
#include "kernels/statistics.hpp"

namespace perilune::inline PERILUNE_LEVEL {

#define PERILUNE_ENVIRONMENT(environment, header, ...) void add_##environment(KernelList&);
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT

namespace {

/// Blocks of AdvantageMoments for each minibatch, whatever its size.
constexpr int kMomentChunks = 8;

#define PERILUNE_TEXT_OF(x) #x
#define PERILUNE_TEXT(x) PERILUNE_TEXT_OF(x)
constexpr const char* kLevelName = "cpu " PERILUNE_TEXT(PERILUNE_LEVEL);

const KernelList& instances() {
  static const KernelList all = [] {
    KernelList table;
#define PERILUNE_ENVIRONMENT(environment, header, ...) add_##environment(table);
#include PERILUNE_ENVIRONMENT_LIST
#undef PERILUNE_ENVIRONMENT
    return table;
  }();
  return all;
}

Machine make_machine() {
  Machine machine{};
  machine.name = kLevelName;
  instances().show_in(machine);
  machine.gae_blocks = [](int count) { return divide_up(count, kScanLanes); };
  machine.moment_chunks = [](int) { return kMomentChunks; };
  machine.reduce_blocks = [](int parameters) { return divide_up(parameters, kElementLanes); };
  machine.gae = [](const GaeArgs& args, Queue& queue) {
    launch_cpu<Gae, ScanBlock>(args, divide_up(args.count, kScanLanes), queue);
  };
  machine.advantage_moments = [](const AdvantageMomentsArgs& args, Queue& queue) {
    launch_cpu<AdvantageMoments, ScanBlock>(args, args.num_epochs * args.num_minibatches * kMomentChunks, queue);
  };
  machine.reduce_gradients = [](const ReduceGradientsArgs& args, Queue& queue) {
    launch_cpu<ReduceGradients, ElementBlock>(args, divide_up(args.end - args.begin, kElementLanes), queue);
  };
  machine.apply_gradients = [](const ApplyGradientsArgs& args, Queue& queue) {
    launch_cpu<ApplyGradients, ElementBlock>(args, divide_up(args.end - args.begin, kElementLanes), queue);
  };
  machine.begin_iteration = launch_single<BeginIteration, BeginIterationArgs>;
  machine.end_iteration = launch_single<EndIteration, EndIterationArgs>;
  return machine;
}

}  // namespace

const Machine& level_machine() {
  static const Machine machine = make_machine();
  return machine;
}

}  // namespace perilune::inline PERILUNE_LEVEL
