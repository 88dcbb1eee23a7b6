// A CUDA runtime whose device is the PTX machine: programs that are linked with it instead of NVIDIA's run the kernels
// they were built with on the CPU. Launch tables, arguments and host code are those of the program; PTX is read from
// the files that its build kept beside the object files that PERILUNE_PTX_OBJECTS lists.
//
// What is enqueued on a stream is carried out at once, or when its graph is launched. A kernel's Fault is the text of
// the error that its launch returns. Also an error, as on a GPU or worse: a launch that may overlap with what is no
// kernel, more shared memory than was asked for, a synchronisation or an allocation while a graph is captured.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/ptx/machine.hpp"

namespace perilune::ptx {

/// That of this process.
Machine& runtime_machine();
/// Options of all launches from now on. Until it is called, launches take turns in the order of warps and blocks, and
/// tanh.approx is as wrong as it may be.
void set_options(const Options& options);
/// Back to what it was at the start.
void restart_orders();
/// The module that a kernel comes from. Throws ReadError where there is none.
Module& module_of(const std::string& kernel);
/// Takes this kernel from another module from now on, which must live until restore_kernels().
void replace_kernel(const std::string& kernel, Module& module);
void restore_kernels();
/// The PTX files that kernels come from.
const std::vector<std::string>& runtime_files();
/// All kernels that the program registered.
std::vector<std::string> registered_kernels();

/// Runs it on a stream (a cudaStream_t), as something that is no kernel.
void enqueue(void* stream, std::function<void()> work);

/// What an H100 has, but for its few multiprocessors: grids are small then.
inline constexpr int kMultiprocessors = 3;
inline constexpr std::size_t kSharedPerBlock = 48 * 1024, kSharedPerBlockOptin = 227 * 1024;

}  // namespace perilune::ptx
