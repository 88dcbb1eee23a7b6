// What a warp does to matrices together: multiplies, and loads from shared memory.
#include <cstring>

#include "kernels/machine/tensor_core_emulation.hpp"
#include "tests/ptx/opcodes.hpp"

namespace perilune::ptx {

namespace {

using u32 = std::uint32_t;

/// d = A B + c.
template <class Fragment>
void multiply(Warp& warp, const Instruction& instruction, Mask) {
  const auto& o = instruction.operands;
  EmulatedOperands operands;
  for (int lane = 0; lane < kLanes; ++lane) {
    u32 a[4], b[2];
    for (std::size_t r = 0; r < 4; ++r) a[r] = warp.lanes<u32>(o[4 + r])[lane];
    for (std::size_t r = 0; r < 2; ++r) b[r] = warp.lanes<u32>(o[8 + r])[lane];
    operands.put<Fragment>(lane, a, b);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    float c[4], d[4];
    for (std::size_t r = 0; r < 4; ++r) c[r] = warp.lanes<float>(o[10 + r])[lane];
    operands.add_product<Fragment>(lane, d, c);
    for (std::size_t r = 0; r < 4; ++r) warp.lanes<float>(o[r])[lane] = d[r];
  }
}

/// Matrices of 8 x 8 elements of 16 bits, one in each register: lane 8 i + r says where row r of matrix i lies, and
/// lane l has elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4; Transposed: of column l / 4. Whoever has an element is
/// who reads it.
template <int Matrices, bool Transposed>
void load_matrices(Warp& warp, const Instruction& instruction, Mask) {
  std::uint64_t rows[kLanes];
  for (int lane = 0; lane < 8 * Matrices; ++lane) {
    rows[lane] = warp.address(instruction.address, lane);
    if (rows[lane] % 16 != 0)
      warp.fault(instruction, lane, "names a matrix row at an address that is no multiple of 16");
  }
  // A lane's two elements lie side by side, or in rows one after the other.
  constexpr std::size_t kBytes = Transposed ? 2 : 4;
  u32 words[Matrices][kLanes] = {};
  for (int i = 0; i < Matrices; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int e = 0; e < 2; e += Transposed ? 1 : 2) {
        const int along = lane % 4 * 2 + e, across = lane / 4;
        const int row = Transposed ? along : across, column = Transposed ? across : along;
        const Range range{Space::kShared, rows[8 * i + row] + 2 * static_cast<std::uint64_t>(column), kBytes};
        u32 part = 0;
        std::memcpy(&part, warp.access(instruction, lane, range, nullptr), kBytes);
        words[i][lane] |= part << 16 * e;
      }
    }
  }
  for (int i = 0; i < Matrices; ++i)
    std::memcpy(warp.lanes<u32>(instruction.operands[static_cast<std::size_t>(i)]), words[i], sizeof words[i]);
}

}  // namespace

void add_matrix_opcodes(OpcodeTable& table) {
  table["mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"] = {multiply<Tf32Fragment>, "wwwwwwwwwwwwww",
                                                                 Kind::kWarpSync};
  table["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"] = {multiply<Bf16Fragment>, "wwwwwwwwwwwwww",
                                                                  Kind::kWarpSync};
  const std::string load = "ldmatrix.sync.aligned.m8n8";
  table[load + ".x2.shared.b16"] = {load_matrices<2, false>, "wws", Kind::kWarpSync};
  table[load + ".x2.trans.shared.b16"] = {load_matrices<2, true>, "wws", Kind::kWarpSync};
  table[load + ".x4.shared.b16"] = {load_matrices<4, false>, "wwwws", Kind::kWarpSync};
  table[load + ".x4.trans.shared.b16"] = {load_matrices<4, true>, "wwwws", Kind::kWarpSync};
}

}  // namespace perilune::ptx
