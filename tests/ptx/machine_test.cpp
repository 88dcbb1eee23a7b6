// The machine on kernels of a few lines: what instructions give where it is easy to be wrong, lanes that part and meet,
// and each kind of Fault by its name.
#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/ptx/small_kernel.hpp"

namespace perilune::ptx {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// %r3 of thread 0 after these lines.
std::uint32_t result_of(const std::string& lines) {
  SmallKernel kernel(text_of(lines + "\n\tst.global.u32 [%rd2], %r3;\n\tret;"));
  kernel.run();
  return kernel[0];
}
std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }
std::string number(float x) {
  char text[16];
  std::snprintf(text, sizeof text, "0f%08X", bits(x));
  return text;
}
std::uint32_t of_floats(const std::string& opcode, float a, float b) {
  return result_of("\tmov.f32 %f1, " + number(a) + ";\n\t" + opcode + " %f3, %f1, " + number(b) +
                   ";\n\tmov.b32 %r3, %f3;");
}

TEST(PtxMachine, IntegersAtTheirEdges) {
  EXPECT_EQ(result_of("\tmov.u32 %r4, 40;\n\tshl.b32 %r3, -1, %r4;"), 0u);
  EXPECT_EQ(result_of("\tmov.u32 %r4, 40;\n\tshr.u32 %r3, -1, %r4;"), 0u);
  EXPECT_EQ(result_of("\tmov.u32 %r4, 40;\n\tshr.s32 %r3, -2, %r4;"), ~0u);
  EXPECT_EQ(result_of("\tshr.s32 %r3, -8, 1;"), static_cast<std::uint32_t>(-4));
  EXPECT_EQ(result_of("\tadd.s32 %r3, 2147483647, 1;"), 0x80000000u);
  EXPECT_EQ(result_of("\tmul.lo.s32 %r3, 65537, 65537;"), 131073u);
  EXPECT_EQ(result_of("\tmul.hi.s32 %r3, -2, 2147483647;"), ~0u);
  EXPECT_EQ(result_of("\tmul.wide.s32 %rd4, -3, 5;\n\tshr.u64 %rd4, %rd4, 32;\n\tcvt.u32.u64 %r3, %rd4;"), ~0u);
  EXPECT_EQ(result_of("\tmul.wide.u32 %rd4, -1, -1;\n\tshr.u64 %rd4, %rd4, 32;\n\tcvt.u32.u64 %r3, %rd4;"), ~0u - 1);
  EXPECT_EQ(result_of("\tmov.u32 %r4, -2147483648;\n\tmov.u32 %r5, -1;\n\tdiv.s32 %r3, %r4, %r5;"), 0x80000000u);
  EXPECT_EQ(result_of("\tdiv.s32 %r3, -7, 2;"), static_cast<std::uint32_t>(-3));
  EXPECT_EQ(result_of("\trem.s32 %r3, -7, 2;"), static_cast<std::uint32_t>(-1));
  EXPECT_EQ(result_of("\tbfi.b32 %r3, 255, 0, 28, 8;"), 0xF0000000u);
  EXPECT_EQ(result_of("\tbfi.b32 %r3, 255, 4660, 8, 4;"), 0x1F34u);
  EXPECT_EQ(result_of("\tbfi.b32 %r3, 255, 7, 40, 4;"), 7u);
  EXPECT_EQ(result_of("\tmov.b64 %rd4, -5;\n\tcvt.u32.u64 %r4, %rd4;\n\tcvt.s64.s32 %rd5, %r4;\n\tsetp.eq.s64 %p1, "
                      "%rd4, %rd5;\n\tselp.b32 %r3, 1, 0, %p1;"),
            1u);
  EXPECT_EQ(result_of("\tmov.b64 %rd4, 8589934591;\n\tcvt.s64.s32 %rd5, %rd4;\n\tsetp.eq.s64 %p1, %rd5, "
                      "-1;\n\tselp.b32 %r3, 1, 0, %p1;"),
            1u);
}

TEST(PtxMachine, FloatsAtTheirEdges) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const float smallest = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(of_floats("min.f32", nan, 2.0f), bits(2.0f));
  EXPECT_EQ(of_floats("max.f32", 2.0f, nan), bits(2.0f));
  EXPECT_EQ(of_floats("min.f32", 0.0f, -0.0f), bits(-0.0f));
  EXPECT_EQ(of_floats("max.f32", -0.0f, 0.0f), bits(0.0f));
  EXPECT_EQ(of_floats("mul.rn.f32", smallest, 1.0f), bits(smallest)) << "subnormal numbers are kept";
  EXPECT_EQ(of_floats("add.rn.f32", 1.0f, 0x1p-24f), bits(1.0f)) << "ties go to even";
  EXPECT_EQ(of_floats("div.rn.f32", 1.0f, 3.0f), bits(1.0f / 3.0f));
  for (const auto& [x, expected] :
       {std::pair{2.9f, 2}, {-2.9f, -2}, {nan, 0}, {infinity, 2147483647}, {-3e9f, std::numeric_limits<int>::min()}}) {
    EXPECT_EQ(result_of("\tcvt.rzi.s32.f32 %r3, " + number(x) + ";"), static_cast<std::uint32_t>(expected)) << x;
  }
  for (const auto& [x, expected] :
       {std::pair{2.9f, 2u}, {-1.5f, 0u}, {nan, 0u}, {infinity, ~0u}, {3e9f, 3000000000u}}) {
    EXPECT_EQ(result_of("\tcvt.rzi.u32.f32 %r3, " + number(x) + ";"), expected) << x;
  }
  // Once rounded, not twice.
  const float a = 1.0f + 0x1p-12f;
  EXPECT_EQ(result_of("\tmov.f32 %f1, " + number(a) + ";\n\tfma.rn.f32 %f3, %f1, %f1, " + number(-a * a) +
                      ";\n\tmov.b32 %r3, %f3;"),
            bits(std::fma(a, a, -a * a)));
  EXPECT_EQ(result_of("\tmov.f32 %f1, " + number(1.0f + 0x1p-11f) + ";\n\tcvt.rna.tf32.f32 %r3, %f1;"),
            bits(1.0f + 0x1p-10f));
  EXPECT_EQ(
      result_of("\tmov.f32 %f1, " + number(1.0f + 0x1p-8f) + ";\n\tcvt.rn.bf16x2.f32 %r3, %f1, " + number(-2.0f) + ";"),
      0x3F80C000u);
  // Comparisons with a NaN: false, but for those that end in u.
  for (const char* name : {"eq", "ne", "lt", "le", "gt", "ge", "num"})
    EXPECT_EQ(result_of("\tmov.f32 %f1, 0f7FC00000;\n\tsetp." + std::string(name) +
                        ".f32 %p1, %f1, %f1;\n\tselp.b32 %r3, 1, 0, %p1;"),
              0u)
        << name;
  for (const char* name : {"equ", "neu", "ltu", "leu", "gtu", "geu", "nan"})
    EXPECT_EQ(result_of("\tmov.f32 %f1, 0f7FC00000;\n\tsetp." + std::string(name) +
                        ".f32 %p1, %f1, 0f00000000;\n\tselp.b32 %r3, 1, 0, %p1;"),
              1u)
        << name;
}

TEST(PtxMachine, TanhIsExactOrAsWrongAsItMayBe) {
  const std::string lines =
      "\tmov.f32 %f1, 0f3F000000;\n\ttanh.approx.f32 %f3, %f1;\n\tst.global.f32 [%rd2], %f3;\n\tret;";
  SmallKernel kernel(text_of(lines));
  kernel.run();
  EXPECT_NEAR(std::bit_cast<float>(kernel[0]), std::tanh(0.5), 4e-7);
  kernel.machine.options.tanh = Approximation::kWorst;
  kernel.run();
  EXPECT_NEAR(std::abs(std::bit_cast<float>(kernel[0]) / std::tanh(0.5) - 1.0), 4.9e-4, 2e-6);
}

/// Lane l goes l times round a loop, and odd ones call a function, which adds 100 and for those divisible by 3 again.
TEST(PtxMachine, LanesPartAndMeet) {
  const std::string add =
      ".func (.param .b32 func_retval0) add(\n\t.param .b32 add_param_0\n)\n{\n\t.reg .pred %p<3>;\n\t.reg .b32 "
      "%r<9>;\n"
      "\tld.param.u32 %r1, [add_param_0];\n\tadd.s32 %r2, %r1, 100;\n\trem.u32 %r3, %r1, 3;\n\tsetp.ne.s32 %p1, %r3, "
      "0;\n"
      "\t@%p1 bra $end;\n\tadd.s32 %r2, %r2, 100;\n$end:\n\tst.param.b32 [func_retval0+0], %r2;\n\tret;\n}\n";
  const std::string body =
      "\tmov.u32 %r3, 0;\n\tmov.u32 %r4, 0;\n$loop:\n\tsetp.ge.u32 %p1, %r4, %r1;\n\t@%p1 bra $out;\n\tadd.s32 %r3, "
      "%r3, 1;\n"
      "\tadd.s32 %r4, %r4, 1;\n\tbra.uni $loop;\n$out:\n\tand.b32 %r5, %r1, 1;\n\tsetp.eq.s32 %p2, %r5, 0;\n\t@%p2 bra "
      "$even;\n"
      "\t{\n\t.param .b32 param0;\n\tst.param.b32 [param0+0], %r3;\n\t.param .b32 retval0;\n\tcall.uni "
      "(retval0),\n\tadd,\n\t(\n\tparam0\n\t);\n"
      "\tld.param.b32 %r3, [retval0+0];\n\t}\n$even:\n\tbar.warp.sync -1;\n\tst.global.u32 [%rd2], %r3;\n\tret;";
  SmallKernel kernel(text_of(body, add));
  kernel.launch.threads = 64;
  kernel.machine.options.warps = Order::kReverse;
  kernel.run();
  for (std::uint32_t l = 0; l < 64; ++l) {
    EXPECT_EQ(kernel[l], l % 2 == 0 ? l : l + 100 + (l % 3 == 0 ? 100 : 0)) << l;
  }
}

TEST(PtxMachine, ShufflesWithinTheirBounds) {
  const auto shuffle = [](const std::string& bounds) {
    return text_of("\tshfl.sync.bfly.b32 %r3|%p1, %r1, 18, " + bounds +
                   ", -1;\n\tselp.b32 %r4, 100, 0, %p1;\n"
                   "\tadd.s32 %r3, %r3, %r4;\n\tst.global.u32 [%rd2], %r3;\n\tret;");
  };
  SmallKernel all(shuffle("31")),
      halves(shuffle("4127"));  // 16 lanes and 16, the second of which may take of the first
  all.run();
  halves.run();
  for (std::uint32_t l = 0; l < 32; ++l) {
    EXPECT_EQ(all[l], (l ^ 18u) + 100) << l;
    EXPECT_EQ(halves[l], l < 16 ? l : (l ^ 18u) + 100) << l;
  }
}

// ---- faults ----

std::string fault_of(const std::string& body, int threads = 64, int blocks = 1, Options options = {}) {
  SmallKernel kernel(text_of("\t.loc 1 7 3\n" + body), 64);
  kernel.launch.threads = static_cast<std::uint32_t>(threads);
  kernel.launch.blocks = static_cast<std::uint32_t>(blocks);
  kernel.launch.shared_bytes = 256;
  kernel.machine.options = options;
  return kernel.fault();
}

TEST(PtxFaults, OutsideOfWhatWasAllocated) {
  EXPECT_THAT(fault_of("\tst.global.u32 [%rd2], %r1;\n\tret;", 65),
              AllOf(HasSubstr("k, block 0, thread 64: writes 4 bytes 256 bytes into an allocation of 256"),
                    HasSubstr("`st.global.u32 [%rd2], %r1`")));
  EXPECT_THAT(fault_of("\tld.global.u32 %r3, [%rd1+-4];\n\tret;"), HasSubstr("4 bytes before one of 256"));
  EXPECT_THAT(fault_of("\tmov.u64 %rd5, 0;\n\tld.global.u32 %r3, [%rd5+8];\n\tret;"), HasSubstr("near null"));
  EXPECT_THAT(fault_of("\tld.global.u32 %r3, [%rd2+2];\n\tret;"), HasSubstr("no multiple"));
  EXPECT_THAT(fault_of("\tld.global.v2.u32 {%r3, %r4}, [%rd1+4];\n\tret;"),
              HasSubstr("vector at an address that is no multiple"));
  EXPECT_THAT(fault_of("\tst.shared.u32 [table+512], %r1;\n\tret;"), HasSubstr("512 of 512 of shared memory"));
  EXPECT_THAT(fault_of("\tst.shared.u32 [storage+256], %r1;\n\tret;"), HasSubstr("256 of 256 of shared memory"));
  EXPECT_THAT(
      fault_of("\t.local .align 4 .b8 depot[8];\n\tmov.u64 %rd5, depot;\n\tst.local.u32 [%rd5+8], %r1;\n\tret;"),
      HasSubstr("outside of its local memory"));
  EXPECT_THAT(fault_of("\tld.param.u32 %r3, [k_param_0+8];\n\tret;"), HasSubstr("outside of its parameters"));
}

TEST(PtxFaults, SharedMemoryThatNobodyWrote) {
  EXPECT_THAT(fault_of("\tld.shared.u32 %r3, [table+8];\n\tret;"), HasSubstr("shared memory that nobody has written"));
  // Not even by the block before.
  EXPECT_THAT(
      fault_of(
          "\tsetp.ne.s32 %p1, %r2, 0;\n\t@%p1 bra $read;\n\tsetp.ne.s32 %p1, %r1, 0;\n\t@%p1 bra $end;\n"
          "\tst.shared.u32 [table+8], %r1;\n\tbra.uni $end;\n$read:\n\tld.shared.u32 %r3, [table+8];\n$end:\n\tret;",
          32, 2),
      HasSubstr("block 1, thread 0: reads 4 bytes of shared memory that nobody has written"));
}

/// Thread t writes its word and reads that of thread 63 - t.
std::string exchange(const std::string& between) {
  return "\tshl.b32 %r4, %r1, 2;\n\tst.shared.u32 [%r4], %r1;\n" + between +
         "\tmov.u32 %r6, 252;\n\tsub.s32 %r5, %r6, %r4;\n\tld.shared.u32 %r3, [%r5];\n\tst.global.u32 [%rd2], "
         "%r3;\n\tret;";
}

TEST(PtxFaults, RacesInABlock) {
  EXPECT_EQ(fault_of(exchange("\tbar.sync 0;\n")), "no fault");
  EXPECT_THAT(fault_of(exchange("\tbar.warp.sync -1;\n")), HasSubstr("shared memory that nobody has written"));
  Options reverse;
  reverse.warps = Order::kReverse;
  EXPECT_THAT(fault_of("\tst.shared.u32 [table], %r1;\n\tret;", 32),
              HasSubstr("writes what thread 0 wrote, and nothing orders the two"));
  EXPECT_EQ(fault_of("\tst.shared.u32 [table], 7;\n\tret;", 64), "no fault") << "the same number";
  const std::string twice = exchange("\tbar.sync 0;\n");
  const std::string race = twice.substr(0, twice.find("\tst.global")) + "\tst.shared.u32 [%r4], %r3;\n\tret;";
  EXPECT_THAT(
      fault_of(race),
      AllOf(HasSubstr("reads what thread 31 wrote, and nothing orders the two (?:7: `st.shared.u32 [%r4], %r3`)"),
            HasSubstr("at ?:7: `ld.shared.u32 %r3, [%r5]`")));
  // Within a warp its own barrier is enough.
  const std::string warp =
      "\tshl.b32 %r4, %r1, 2;\n\tst.shared.u32 [%r4], %r1;\n\tBETWEEN\n\txor.b32 %r5, %r4, 4;\n\tld.shared.u32 %r3, "
      "[%r5];\n\tret;";
  const auto with = [&](const std::string& between) {
    return std::string(warp).replace(warp.find("BETWEEN"), 7, between);
  };
  EXPECT_EQ(fault_of(with("bar.warp.sync -1;")), "no fault");
  EXPECT_THAT(fault_of(with("")), HasSubstr("reads what thread 1 wrote"));
}

/// Blocks leave a number each, and the last one adds them.
std::string last_adds(const std::string& fence, const std::string& barrier, const std::string& second_fence) {
  return "\tsetp.ne.s32 %p1, %r1, 1;\n\tmul.wide.u32 %rd4, %r2, 4;\n\tadd.s64 %rd4, %rd1, %rd4;\n"
         "\t@%p1 bra $written;\n\tst.global.u32 [%rd4], 5;\n$written:\n\t" +
         fence + "\n\t" + barrier +
         "\n"
         "\tsetp.ne.s32 %p2, %r1, 0;\n\t@%p2 bra $asked;\n\tatom.global.inc.u32 %r4, [%rd1+128], 2;\n\tst.shared.u32 "
         "[table], %r4;\n"
         "$asked:\n\tbar.sync 0;\n\t" +
         second_fence +
         "\n\tld.shared.u32 %r5, [table];\n\tsetp.ne.s32 %p3, %r5, 2;\n\t@%p3 bra $end;\n"
         "\tld.global.u32 %r6, [%rd1];\n\tld.global.u32 %r7, [%rd1+4];\n\tadd.s32 %r3, %r6, %r7;\n\tmul.wide.u32 %rd5, "
         "%r1, 4;\n"
         "\tadd.s64 %rd6, %rd1, %rd5;\n\tst.global.u32 [%rd6+192], %r3;\n$end:\n\tret;";
}

TEST(PtxFaults, RacesBetweenBlocks) {
  EXPECT_EQ(fault_of(last_adds("membar.gl;", "bar.sync 0;", "membar.gl;"), 4, 3), "no fault");
  for (const auto& [fence, barrier, second] :
       {std::array{"", "bar.sync 0;", "membar.gl;"}, std::array{"membar.gl;", "", "membar.gl;"},
        std::array{"membar.gl;", "bar.sync 0;", ""}}) {
    EXPECT_THAT(fault_of(last_adds(fence, barrier, second), 4, 3),
                HasSubstr("reads what thread 1 of block 0 wrote, and nothing orders the two"))
        << fence << barrier << second;
  }
  EXPECT_THAT(fault_of("\tst.global.u32 [%rd1], %r2;\n\tret;", 1, 2),
              HasSubstr("writes what thread 0 of block 0 wrote"));
}

TEST(PtxFaults, ReadsOfGlobalMemoryThatRaceMustNotMatter) {
  // Thread 32 reads what thread 0 wrote: with a barrier its number, without one another.
  const std::string body =
      "\tsetp.ne.s32 %p1, %r1, 0;\n\t@%p1 bra $written;\n\tst.global.u32 [%rd1], 8;\n$written:\n\tBETWEEN\n"
      "\tld.global.u32 %r3, [%rd1];\n\tsetp.ne.s32 %p1, %r1, 32;\n\t@%p1 bra $end;\n\tst.global.u32 [%rd2], "
      "%r3;\n$end:\n\tret;";
  for (const auto& [between, expected] : {std::pair{"bar.sync 0;", 8u}, {"", 9u}}) {
    SmallKernel kernel(text_of(std::string(body).replace(body.find("BETWEEN"), 7, between)));
    kernel.launch.threads = 64;
    kernel.run();
    EXPECT_EQ(kernel[32], expected);
  }
}

TEST(PtxFaults, BarriersThatNotAllReach) {
  EXPECT_THAT(fault_of("\tsetp.eq.s32 %p1, %r1, 40;\n\t@%p1 ret;\n\tbar.sync 0;\n\tret;"),
              HasSubstr("1 of 64 threads have ended, and this one waits for them"));
  EXPECT_THAT(
      fault_of(
          "\tsetp.gt.u32 %p1, %r1, 31;\n\t@%p1 bra $other;\n\tbar.sync 0;\n\tret;\n$other:\n\tbar.sync 0;\n\tret;"),
      HasSubstr("waits here, and thread 32 at"));
  EXPECT_THAT(fault_of("\tsetp.ne.s32 %p1, %r1, 3;\n\t@%p1 bra $sum;\n\tbar.sync 0;\n$sum:\n\tshfl.sync.bfly.b32 "
                       "%r3|%p2, %r1, 1, 31, -1;\n\tret;",
                       32),
              AllOf(HasSubstr("waits for lanes that do not come; thread 3 waits at"), HasSubstr("shfl.sync")));
}

TEST(PtxFaults, ShufflesOfLanesThatDoNotCome) {
  EXPECT_THAT(
      fault_of("\tsetp.eq.s32 %p1, %r1, 5;\n\t@%p1 ret;\n\tshfl.sync.bfly.b32 %r3|%p2, %r1, 1, 31, -1;\n\tret;"),
      HasSubstr("waits for lane 5, which has ended"));
  EXPECT_THAT(
      fault_of("\tsetp.gt.u32 %p1, %r1, 15;\n\t@%p1 ret;\n\tshfl.sync.bfly.b32 %r3|%p2, %r1, 16, 31, 65535;\n\tret;",
               32),
      HasSubstr("takes a number of lane 16, which is not in its mask"));
  EXPECT_THAT(fault_of("\tbar.warp.sync 1;\n\tret;", 32), HasSubstr("does not name the lane itself"));
}

TEST(PtxFaults, WhatMustNotOverlap) {
  const auto fault = [](const std::string& body) {
    SmallKernel kernel(text_of(body));
    kernel.launch.overlaps = true;
    return kernel.fault();
  };
  EXPECT_EQ(fault("\tgriddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;\n\tst.global.u32 [%rd2], %r1;\n\tret;"),
            "no fault");
  EXPECT_THAT(fault("\tld.global.u32 %r3, [%rd2];\n\tgriddepcontrol.wait;\n\tret;"),
              HasSubstr("before the launches before have ended"));
  EXPECT_THAT(fault("\tst.global.u32 [%rd2], %r1;\n\tret;"), HasSubstr("never waits for it"));
}

TEST(PtxFaults, Others) {
  EXPECT_THAT(fault_of("\tdiv.u32 %r3, 1, %r1;\n\tret;"), HasSubstr("thread 0: divides by nought"));
  Options few;
  few.most_instructions = 1000;
  EXPECT_THAT(fault_of("$here:\n\tbra.uni $here;\n\tret;", 32, 1, few), HasSubstr("does not end"));
}

/// A host that follows a device pointer dies of it.
TEST(PtxMemory, DeviceMemoryIsNotTheHosts) {
  Memory memory;
  auto* words = static_cast<volatile std::uint32_t*>(memory.allocate_device(400));
  EXPECT_DEATH(words[0] = 1, "");
  EXPECT_NE(memory.host_view(const_cast<std::uint32_t*>(words), 400), nullptr);
  EXPECT_EQ(memory.host_view(const_cast<std::uint32_t*>(words), 404), nullptr);
  EXPECT_EQ(memory.allocate_device(Memory::kDeviceBytes), nullptr);
  EXPECT_TRUE(memory.release(const_cast<std::uint32_t*>(words)));
  EXPECT_FALSE(memory.release(const_cast<std::uint32_t*>(words)));
  EXPECT_EQ(memory.find(reinterpret_cast<std::uintptr_t>(words)), nullptr) << "after it was given back";
}

}  // namespace
}  // namespace perilune::ptx
