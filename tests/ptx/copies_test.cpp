// Copies that go on beside their thread: what they bring, and each way of using it too early.
#include <gmock/gmock.h>

#include "tests/ptx/small_kernel.hpp"

namespace perilune::ptx {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kWait = "\tcp.async.wait_all;\n", kBarrier = "\tbar.sync 0;\n";
/// Thread t copies word t.
const std::string kCopy = "\tshl.b32 %r4, %r1, 2;\n\tcp.async.ca.shared.global [%r4], [%rd2], 4;\n";
/// It gives back what thread 63 - t copied, in its own word.
const std::string kOthers =
    "\tmov.u32 %r6, 252;\n\tsub.s32 %r5, %r6, %r4;\n\tld.shared.u32 %r3, [%r5];\n\tst.global.u32 [%rd2], %r3;\n";
const std::string kOwn = "\tld.shared.u32 %r3, [%r4];\n";

SmallKernel& filled(SmallKernel& kernel, std::uint32_t threads = 64) {
  kernel.launch.threads = threads;
  for (std::size_t i = 0; i < 64; ++i) kernel[i] = static_cast<std::uint32_t>(1000 + i);
  return kernel;
}
std::string fault_of(const std::string& body, std::uint32_t threads = 64, Order warps = Order::kForward) {
  SmallKernel kernel(text_of("\t.loc 1 7 3\n" + body + "\tret;"));
  kernel.machine.options.warps = warps;
  return filled(kernel, threads).fault();
}

TEST(PtxCopies, BringWhatTheyRead) {
  SmallKernel kernel(text_of(kCopy + kWait + kBarrier + kOthers + "\tret;"));
  filled(kernel).run();
  for (std::uint32_t t = 0; t < 64; ++t) EXPECT_EQ(kernel[t], 1063 - t);
}

/// Thread 0 copies to table + 16 from word 4 on, and 16 bytes from there are given back.
TEST(PtxCopies, OfEachSize) {
  struct Case {
    const char* instruction;
    std::vector<std::uint32_t> expected;
  };
  for (const auto& [instruction, expected] :
       {Case{"cp.async.ca.shared.global [table+16], [%rd1+16], 4;", {1004, 7, 7, 7}},
        Case{"cp.async.ca.shared.global [table+16], [%rd1+16], 16;", {1004, 1005, 1006, 1007}}}) {
    SmallKernel kernel(text_of("\tmov.u32 %r7, 7;\n\tst.shared.v4.u32 [table+16], {%r7, %r7, %r7, %r7};\n\t" +
                               std::string(instruction) +
                               "\n\tcp.async.wait_all;\n\tld.shared.v4.u32 {%r3, %r4, %r5, %r6}, [table+16];\n"
                               "\tst.global.v4.u32 [%rd1], {%r3, %r4, %r5, %r6};\n\tret;"));
    filled(kernel, 1).run();
    EXPECT_EQ(std::vector(&kernel[0], &kernel[0] + 4), expected) << instruction;
  }
}

TEST(PtxCopies, AreNotThereBeforeTheirThreadWaits) {
  const auto early = AllOf(HasSubstr("thread 0: reads what thread 0 copies and has not waited for (?:7: "
                                     "`cp.async.ca.shared.global [%r4], [%rd2], 4`)"),
                           HasSubstr("at ?:7: `ld.shared.u32 %r3, [%r4]`"));
  EXPECT_EQ(fault_of(kCopy + kWait + kOwn), "no fault");
  EXPECT_THAT(fault_of(kCopy + kOwn + kWait), early);
  EXPECT_THAT(fault_of(kCopy + kBarrier + kOwn), early) << "a barrier does not wait for copies";
  EXPECT_THAT(fault_of(kCopy + "\tst.shared.u32 [%r4], %r1;\n" + kWait),
              HasSubstr("writes what thread 0 copies and has not waited for"));
  EXPECT_THAT(fault_of(kCopy + kCopy + kWait), HasSubstr("writes what thread 0 copies and has not waited for"))
      << "twice";
  EXPECT_THAT(fault_of(kCopy + kBarrier + kOthers), HasSubstr("reads what thread 63 copies and has not waited for"));
}

TEST(PtxCopies, AreOthersAfterABarrierThatComesLater) {
  for (const Order warps : {Order::kForward, Order::kReverse}) {
    EXPECT_THAT(fault_of(kCopy + kWait + kOthers, 64, warps), HasSubstr("shared memory that nobody has written"));
    EXPECT_THAT(fault_of(kCopy + kBarrier + kWait + kOthers, 64, warps), HasSubstr("copies and has not waited for"));
  }
  // The first warp has waited, and no barrier came after that.
  const std::string first = "\tsetp.gt.u32 %p1, %r1, 31;\n\t@!%p1 cp.async.wait_all;\n";
  EXPECT_EQ(fault_of(kCopy + first + kBarrier + "\t@!%p1 bra $end;\n" + kOthers + "$end:\n"), "no fault");
  EXPECT_THAT(fault_of(kCopy + kBarrier + first + "\t@!%p1 bra $end;\n" + kOthers + "$end:\n"),
              HasSubstr("reads what thread 31 wrote, and nothing orders the two (?:7: `cp.async"));
  const std::string neighbour = "\txor.b32 %r5, %r4, 4;\n\tld.shared.u32 %r3, [%r5];\n";
  EXPECT_EQ(fault_of(kCopy + kWait + "\tbar.warp.sync -1;\n" + neighbour), "no fault");
  EXPECT_THAT(fault_of(kCopy + kWait + neighbour),
              HasSubstr("reads what thread 1 wrote, and nothing orders the two (?:7: `cp.async"));
}

TEST(PtxCopies, AWaitIsForThoseBegunBefore) {
  const std::string more = "\tcp.async.ca.shared.global [%r4+256], [%rd2], 4;\n",
                    other = "\tld.shared.u32 %r3, [%r4+256];\n";
  EXPECT_EQ(fault_of(kCopy + more + kWait + kOwn + other), "no fault");
  EXPECT_EQ(fault_of(kCopy + kWait + more + kOwn + kWait + other), "no fault");
  EXPECT_THAT(fault_of(kCopy + kWait + more + other), HasSubstr("reads what thread 0 copies and has not waited for"));
  // Of each thread, whether it goes the same way as others or not.
  EXPECT_THAT(fault_of(kCopy + "\tsetp.ne.s32 %p1, %r1, 9;\n\t@%p1 cp.async.wait_all;\n" + kOwn),
              HasSubstr("thread 9: reads what thread 9 copies and has not waited for"));
}

/// The first warp copies to where the second one reads.
TEST(PtxCopies, WhatTheyReplaceIsNotReadAnyMore) {
  const std::string written =
      "\tshl.b32 %r4, %r1, 2;\n\tst.shared.u32 [%r4], %r1;\n" + kBarrier + "\tsetp.gt.u32 %p1, %r1, 31;\n";
  const std::string read = "\tmov.u32 %r6, 252;\n\tsub.s32 %r5, %r6, %r4;\n\t@%p1 ld.shared.u32 %r3, [%r5];\n";
  const std::string copy = "\t@!%p1 cp.async.ca.shared.global [%r4], [%rd2], 4;\n";
  EXPECT_EQ(fault_of(written + read + kBarrier + copy), "no fault");
  EXPECT_THAT(fault_of(written + read + copy, 64, Order::kReverse),
              HasSubstr("writes what thread 63 read, and nothing orders the two"));
  EXPECT_THAT(fault_of(written + read + copy, 64, Order::kForward),
              HasSubstr("reads what thread 31 copies and has not waited for"));
}

TEST(PtxCopies, WhatTheyReadMustNotChange) {
  EXPECT_THAT(fault_of(kCopy + "\tst.global.u32 [%rd2], %r1;\n" + kWait),
              HasSubstr("thread 0: copies what was written before it had waited for it, at ?:7: `cp.async"));
  EXPECT_EQ(fault_of(kCopy + kWait + "\tst.global.u32 [%rd2], %r1;\n"), "no fault");
}

TEST(PtxCopies, OfABlockBeforeAreForgotten) {
  SmallKernel kernel(text_of(
      "\tsetp.ne.s32 %p1, %r2, 0;\n\tshl.b32 %r4, %r1, 2;\n\t@!%p1 cp.async.ca.shared.global [%r4], [%rd1], 4;\n\t@%p1 "
      "st.shared.u32 [%r4], %r1;\n\tret;"));
  kernel.launch.blocks = 2;
  EXPECT_EQ(kernel.fault(), "no fault");
}

TEST(PtxCopies, BoundsAndAlignment) {
  const auto of = [](const std::string& operands) {
    return fault_of("\tcp.async.ca.shared.global " + operands + ";\n", 1);
  };
  EXPECT_THAT(of("[table+8], [%rd1], 16"), HasSubstr("copies to an address that is no multiple of the size"));
  EXPECT_THAT(of("[table], [%rd1+8], 16"), HasSubstr("copies from an address that is no multiple of the size"));
  EXPECT_THAT(of("[table+512], [%rd1], 16"), HasSubstr("writes 16 bytes at 512 of 512 of shared memory"));
  EXPECT_THAT(of("[table], [%rd1+256], 16"), HasSubstr("reads 4 bytes 256 bytes into an allocation of 256"));
}

}  // namespace
}  // namespace perilune::ptx
