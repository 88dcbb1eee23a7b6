// What a warp does to matrices together, against the figures of the PTX ISA, "Warp-level matrix instructions".
#include <gmock/gmock.h>

#include <bit>

#include "tests/ptx/small_kernel.hpp"

namespace perilune::ptx {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using u32 = std::uint32_t;

// ---- ldmatrix ----

constexpr int row_of_address(int lane) { return (lane * 7 + 3) % 32; }

/// Row k of `table` (16 bytes) holds the halves 8 k to 8 k + 7; lane l names row (7 l + 3) % 32.
const std::string kRows =
    "\tshl.b32 %r3, %r1, 4;\n\tmul.lo.s32 %r4, %r1, 524296;\n\tadd.s32 %r5, %r4, 65536;\n\tadd.s32 %r6, %r5, 131074;\n"
    "\tadd.s32 %r7, %r6, 131074;\n\tadd.s32 %r8, %r7, 131074;\n\tst.shared.v4.u32 [%r3], {%r5, %r6, %r7, %r8};\n";
const std::string kAddresses = "\tmul.lo.s32 %r9, %r1, 112;\n\tadd.s32 %r9, %r9, 48;\n\tand.b32 %r9, %r9, 511;\n";
const std::string kSync = "\tbar.warp.sync -1;\n";
const std::string kResults =
    "\tmul.wide.u32 %rd4, %r1, 16;\n\tadd.s64 %rd4, %rd1, %rd4;\n\tst.global.v4.u32 [%rd4], {%r10, %r11, %r12, "
    "%r13};\n\tret;";

/// "{%r10, %r11}"
std::string registers_of(int count, int first) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i == 0 ? "%r" : ", %r") + std::to_string(first + i);
  return "{" + list + "}";
}
std::string load_of(int matrices, const std::string& more = "", const std::string& address = "%r9") {
  return "\tldmatrix.sync.aligned.m8n8.x" + std::to_string(matrices) + more + ".b16 " + registers_of(matrices, 10) +
         ", [" + address + "];\n";
}

/// Which thread has element (row, column) of a matrix, and in which half of its register.
struct Holder {
  int thread, half;
};
/// Row 0 is held by T0 T0 T1 T1 T2 T2 T3 T3, row 1 by T4 T4 ...; with .trans what is held so are columns.
Holder holder_of(int row, int column, bool transposed) {
  return transposed ? Holder{column * 4 + row / 2, row % 2} : Holder{row * 4 + column / 2, column % 2};
}

TEST(PtxMatrices, LoadsAreThoseOfTheIsa) {
  for (const int matrices : {2, 4}) {
    for (const std::string more : {".shared", ".trans.shared"}) {
      SCOPED_TRACE(load_of(matrices, more));
      SmallKernel kernel(text_of(kRows + kAddresses + kSync + load_of(matrices, more) + kResults), 128);
      kernel.run();
      for (int i = 0; i < matrices; ++i) {
        for (int row = 0; row < 8; ++row) {
          for (int column = 0; column < 8; ++column) {
            const Holder at = holder_of(row, column, more.starts_with(".trans"));
            const u32 word = kernel[static_cast<std::size_t>(4 * at.thread + i)];
            ASSERT_EQ(word >> 16 * at.half & 0xFFFFu, static_cast<u32>(8 * row_of_address(8 * i + row) + column))
                << i << row << column;
          }
        }
      }
    }
  }
}

TEST(PtxMatrices, AddressesOfGenericPointersAndOffsets) {
  const std::string generic =
      "\tmov.u64 %rd4, table;\n\tcvta.shared.u64 %rd5, %rd4;\n\t{ .reg .u64 t; cvta.to.shared.u64 t, %rd5; cvt.u32.u64 "
      "%r8, t; }\n";
  for (const std::string address : {"%r8+496", "table+496", "%rd4+496"}) {
    SmallKernel kernel(text_of(kRows + kSync + generic + load_of(2, ".shared", address) + kResults), 128);
    kernel.run();
    EXPECT_EQ(kernel[0], 249u << 16 | 248u) << address;
  }
}

std::string fault_of(const std::string& body, int threads = 32, Order warps = Order::kForward) {
  SmallKernel kernel(text_of("\t.loc 1 7 3\n" + body), 64);
  kernel.launch.threads = static_cast<u32>(threads);
  kernel.machine.options.warps = warps;
  return kernel.fault();
}

TEST(PtxMatrices, FaultsOfLoads) {
  const std::string load = load_of(4, ".shared");
  EXPECT_EQ(fault_of(kRows + kAddresses + kSync + load + "\tret;"), "no fault");
  EXPECT_THAT(
      fault_of(kAddresses + load + "\tret;"),
      AllOf(HasSubstr("thread 0: reads 4 bytes of shared memory that nobody has written"), HasSubstr("ldmatrix")));
  EXPECT_THAT(
      fault_of(kRows + kAddresses + load + "\tret;"),
      AllOf(HasSubstr("thread 0: reads what thread 3 wrote, and nothing orders the two"), HasSubstr("ldmatrix")));
  EXPECT_THAT(fault_of(kRows + kAddresses + kSync + load_of(4, ".shared", "%r9+8") + "\tret;"),
              HasSubstr("a matrix row at an address that is no multiple of 16"));
  EXPECT_THAT(fault_of(kRows + kAddresses + kSync + load_of(4, ".shared", "%r9+16") + "\tret;"),
              HasSubstr("512 of 512 of shared memory"));
  // What other lanes than the first sixteen hold is no address of two matrices.
  EXPECT_EQ(fault_of(kRows + kAddresses + kSync + "\tsetp.gt.u32 %p1, %r1, 15;\n\tselp.b32 %r9, -1, %r9, %p1;\n" +
                     load_of(2, ".shared") + "\tret;"),
            "no fault");
  EXPECT_THAT(fault_of(kRows + kAddresses + kSync + "\tsetp.gt.u32 %p1, %r1, 15;\n\tselp.b32 %r9, -1, %r9, %p1;\n" +
                       load_of(4, ".shared") + "\tret;"),
              HasSubstr("thread 16: names a matrix row"));
}

TEST(PtxMatrices, LanesThatDoNotCome) {
  const std::string mma =
      "\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r3, %r4, %r5, %r6}, {%r7, %r8}, "
      "{%f1, %f2, %f3, %f4};\n";
  for (const std::string& instruction : {load_of(2, ".shared"), load_of(4, ".trans.shared"), mma}) {
    EXPECT_THAT(fault_of(kRows + kAddresses + "\tsetp.eq.s32 %p1, %r1, 5;\n\t@%p1 ret;\n" + instruction + "\tret;"),
                HasSubstr("waits for lane 5, which has ended"));
    EXPECT_THAT(fault_of(kRows + kAddresses + "\tsetp.ne.s32 %p1, %r1, 5;\n\t@%p1 bra $here;\n\tbar.sync 0;\n$here:\n" +
                         instruction + "\tret;"),
                HasSubstr("waits for lanes that do not come"));
  }
}

// ---- mma ----

/// Row and column of element i of an operand's fragment, for groupID = lane / 4 and threadID_in_group = lane % 4.
struct Cell {
  int row, column;
};
struct Shape {
  const char* name;
  int depth, per_register;
  Cell (*a)(int group, int thread, int i);
  Cell (*b)(int group, int thread, int i);
};
const Shape kShapes[] = {
    {"k8.row.col.f32.tf32.tf32.f32", 8, 1,
     [](int g, int t, int i) -> Cell {
       return {i == 0 || i == 2 ? g : g + 8, i < 2 ? t : t + 4};
     },
     [](int g, int t, int i) -> Cell {
       return {i == 0 ? t : t + 4, g};
     }},
    {"k16.row.col.f32.bf16.bf16.f32", 16, 2,
     [](int g, int t, int i) -> Cell {
       return {i < 2 || (4 <= i && i < 6) ? g : g + 8, t * 2 + (i & 1) + (i < 4 ? 0 : 8)};
     },
     [](int g, int t, int i) -> Cell {
       return {t * 2 + (i & 1) + (i < 2 ? 0 : 8), g};
     }},
};

/// Of whole numbers, whose products have no rounding errors. Of tf32 operands the last 13 bits, which are full here,
/// are cut off.
TEST(PtxMatrices, ProductsAreThoseOfTheIsa) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.name);
    const auto a = [](int row, int k) { return row * 3 % 7 + k * 5 % 11 - 6; };
    const auto b = [](int k, int column) { return k * 7 % 5 + column * 3 % 8 - 4; };
    // Each lane's 16 words: 4 for a, 2 for b, 4 for c, where the result comes to.
    std::string text = "\tmul.wide.u32 %rd4, %r1, 64;\n\tadd.s64 %rd4, %rd1, %rd4;\n";
    const auto at = [](int word) { return "[%rd4+" + std::to_string(4 * word) + "]"; };
    for (int i = 0; i < 6; ++i) text += "\tld.global.u32 %r" + std::to_string(10 + i) + ", " + at(i) + ";\n";
    for (int i = 0; i < 4; ++i) text += "\tld.global.f32 %f" + std::to_string(i) + ", " + at(6 + i) + ";\n";
    text += "\tmma.sync.aligned.m16n8" + std::string(shape.name) + " {%f4, %f5, %f6, %f7}, " + registers_of(4, 10) +
            ", " + registers_of(2, 14) + ", {%f0, %f1, %f2, %f3};\n";
    for (int i = 0; i < 4; ++i) text += "\tst.global.f32 " + at(6 + i) + ", %f" + std::to_string(4 + i) + ";\n";
    SmallKernel kernel(text_of(text + "\tret;"), 512);
    const auto put = [&](int lane, int first, int i, int number) {
      const u32 bits = std::bit_cast<u32>(static_cast<float>(number));
      u32& word = kernel[static_cast<std::size_t>(16 * lane + first + i / shape.per_register)];
      word = shape.per_register == 1 ? bits | 0x1FFFu : i % 2 == 0 ? bits >> 16 : word | bits;
    };
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane / 4, thread = lane % 4;
      for (int i = 0; i < 4 * shape.per_register; ++i) {
        const Cell cell = shape.a(group, thread, i);
        put(lane, 0, i, a(cell.row, cell.column));
      }
      for (int i = 0; i < 2 * shape.per_register; ++i) {
        const Cell cell = shape.b(group, thread, i);
        put(lane, 4, i, b(cell.row, cell.column));
      }
      for (int i = 0; i < 4; ++i)
        kernel[static_cast<std::size_t>(16 * lane + 6 + i)] = std::bit_cast<u32>(static_cast<float>(lane - i));
    }
    kernel.run();
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = i < 2 ? lane / 4 : lane / 4 + 8, column = lane % 4 * 2 + (i & 1);
        int expected = lane - i;
        for (int k = 0; k < shape.depth; ++k) expected += a(row, k) * b(k, column);
        EXPECT_EQ(std::bit_cast<float>(kernel[static_cast<std::size_t>(16 * lane + 6 + i)]),
                  static_cast<float>(expected))
            << lane << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace perilune::ptx
