// What only the CUDA machine has: graphs, and the CPU machine to be equal to.
#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/cpu_levels.hpp"
#include "kernels/machine/thread_pool.hpp"
#include "tests/kernels/whole_iteration.hpp"

namespace perilune::test {
namespace {

class CudaMachine : public EveryMachine {
 protected:
  static constexpr int kIterations = 4;

  /// For what is no kernel: the next one is not to overlap with the kernel before it.
  cudaStream_t stream() const {
    queue().after_kernel = false;
    return static_cast<cudaStream_t>(queue().stream);
  }
};

/// One iteration captured once and replayed leaves the bits of eager launches.
TEST_P(CudaMachine, GraphEqualsEager) {
  for (const bool layerwise : {false, true}) {
    if (!tests(layerwise ? 0 : small_width(), 2)) continue;
    const int partials = layerwise ? 1 : kernels_for(small_width()).max_partials(2);
    WholeIteration eager(subject(), machine(), partials, layerwise);
    eager.reset(queue());
    for (int i = 0; i < kIterations; ++i) eager.launch(queue());
    finish();

    WholeIteration captured(subject(), machine(), partials, layerwise);
    captured.reset(queue());
    finish();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    captured.launch(queue());
    ASSERT_EQ(cudaStreamEndCapture(stream(), &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    for (int i = 0; i < kIterations; ++i) {
      ASSERT_EQ(cudaGraphLaunch(executable, stream()), cudaSuccess);
    }
    finish();
    EXPECT_EQ(captured.control().iteration, static_cast<std::uint32_t>(kIterations));
    expect_same_bits("word", captured.bits(), eager.bits());
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
}

/// The simulator alone: up to a million steps with the CPU machine's bits.
TEST_P(CudaMachine, SimulatesTheBitsOfTheCpu) {
  const int count = subject().speed == Speed::kNative ? 5003 : 503, num_steps = 200;
  Environments gpu(subject(), count, {21, 0}, 100), cpu(subject(), count, {21, 0}, 100);
  const Machine& cpu_kernels = cpu_machine();
  const Kernels& on_cpu = *find_kernels(cpu_kernels, "CartPole-v1", 16);
  ThreadPool pool(2, largest_block_storage(on_cpu, 1));
  Queue cpu_queue{&pool, nullptr};
  on_cpu.reset({cpu.batch}, cpu_queue);
  on_cpu.simulate({cpu.batch, cpu.sums, num_steps}, cpu_queue);
  kernels_for(16).reset({gpu.batch}, queue());
  kernels_for(16).simulate({gpu.batch, gpu.sums, num_steps}, queue());
  finish();
  expect_same_bits("state", gpu.fields.copy(), cpu.fields.copy());
  expect_same_bits("episode", gpu.episode.copy(), cpu.episode.copy());
  expect_same_bits("elapsed", gpu.elapsed.copy(), cpu.elapsed.copy());
  expect_same_bits("finished", gpu.finished.copy(), cpu.finished.copy());
  expect_same_bits("total return", gpu.total_return.copy(), cpu.total_return.copy());
  expect_same_bits("total length", gpu.total_length.copy(), cpu.total_length.copy());
}

PERILUNE_ON_EVERY_MACHINE(CudaMachine);

}  // namespace
}  // namespace perilune::test
