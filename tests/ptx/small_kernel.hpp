// Kernels of a few lines for tests of the reader and the machine.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/ptx/machine.hpp"

namespace perilune::ptx {

inline const std::string kHeader = ".version 9.0\n.target sm_90\n.address_size 64\n";

/// A text with the kernel `k`, which takes an array (%rd1) and knows its thread (%r1), its block (%r2) and where its
/// own word of the array is (%rd2).
inline std::string text_of(const std::string& body, const std::string& more = "") {
  return kHeader + ".extern .shared .align 64 .b8 storage[];\n" + more +
         ".visible .entry k(\n\t.param .u64 k_param_0\n)\n.maxntid 1024, 1, 1\n{\n"
         "\t.reg .pred %p<9>;\n\t.reg .b16 %rs<9>;\n\t.reg .b32 %r<30>;\n\t.reg .f32 %f<30>;\n\t.reg .b64 %rd<30>;\n"
         "\t.shared .align 4 .b8 table[512];\n"
         "\tld.param.u64 %rd1, [k_param_0];\n\tmov.u32 %r1, %tid.x;\n\tmov.u32 %r2, %ctaid.x;\n\tmov.u32 %r20, "
         "%ntid.x;\n"
         "\tmad.lo.s32 %r21, %r2, %r20, %r1;\n\tmul.wide.u32 %rd3, %r21, 4;\n\tadd.s64 %rd2, %rd1, %rd3;\n" +
         body + "\n}\n";
}

/// Runs kernels of one text over an array of words.
class SmallKernel {
 public:
  explicit SmallKernel(const std::string& text, std::size_t words = 64) : module("small", text), words_(words) {
    array_ = static_cast<std::uint32_t*>(machine.memory.allocate_shared(words * 4));
    std::memset(array_, 0, words * 4);
    launch.threads = 32;
  }
  ~SmallKernel() { machine.memory.release(array_); }
  SmallKernel(const SmallKernel&) = delete;
  SmallKernel& operator=(const SmallKernel&) = delete;

  void run() {
    launch.kernel = &module.function("k");
    launch.arguments.resize(8);
    std::memcpy(launch.arguments.data(), &array_, 8);
    machine.run(launch);
  }
  /// The Fault's text, or what to say of none.
  std::string fault() {
    try {
      run();
    } catch (const Fault& fault) {
      return fault.what();
    }
    return "no fault";
  }
  std::vector<std::uint32_t> words() const { return {array_, array_ + words_}; }
  std::uint32_t& operator[](std::size_t i) { return array_[i]; }

  Module module;
  Machine machine;
  Launch launch;

 private:
  std::size_t words_;
  std::uint32_t* array_;
};

}  // namespace perilune::ptx
