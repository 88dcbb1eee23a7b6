// Where kernels are launched: a CPU queue runs a kernel at once on its thread pool, a CUDA queue enqueues it on a
// stream (and so can be captured into a graph). Launchers take one; they never choose a device themselves.
#pragma once

namespace perilune {

class MatrixLibrary;
class ThreadPool;

struct Queue {
  ThreadPool* pool = nullptr;       ///< CPU machine
  void* stream = nullptr;           ///< CUDA machine: a cudaStream_t, never the default stream
  bool overlaps = false;            ///< CUDA: the device can start a kernel's blocks while the kernel before it ends
  bool after_kernel = false;        ///< CUDA: what was enqueued last is a kernel (kept by the launches)
  MatrixLibrary* matrix = nullptr;  ///< null until a network without fused kernels needs it
};

}  // namespace perilune
