// What a warp does to matrices together: multiplies, and moves between registers and shared memory.
#include <cstring>

#include "kernels/machine/tensor_core_emulation.hpp"
#include "tests/ptx/opcodes.hpp"

namespace perilune::ptx {

namespace {

using u32 = std::uint32_t;

/// d = A B + c over operands of as many registers; with half of a fragment's, of half its depth.
template <class Fragment, std::size_t A, std::size_t B>
void multiply(Warp& warp, const Instruction& instruction, Mask) {
  const auto& o = instruction.operands;
  EmulatedOperands operands;
  for (int lane = 0; lane < kLanes; ++lane) {
    u32 a[4] = {}, b[2] = {};
    for (std::size_t r = 0; r < A; ++r) a[r] = warp.lanes<u32>(o[4 + r])[lane];
    for (std::size_t r = 0; r < B; ++r) b[r] = warp.lanes<u32>(o[4 + A + r])[lane];
    operands.put<Fragment>(lane, a, b);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    float c[4], d[4];
    for (std::size_t r = 0; r < 4; ++r) c[r] = warp.lanes<float>(o[4 + A + B + r])[lane];
    operands.add_product<Fragment>(lane, d, c);
    for (std::size_t r = 0; r < 4; ++r) warp.lanes<float>(o[r])[lane] = d[r];
  }
}

/// Matrices of 8 x 8 elements of 16 bits, one in each register: lane 8 i + r says where row r of matrix i lies, and lane l has
/// elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4; Transposed: of column l / 4. Whoever has an element is who reads or
/// writes it.
template <int Matrices, bool Transposed, bool Stores>
void move_matrices(Warp& warp, const Instruction& instruction, Mask) {
  std::uint64_t rows[kLanes];
  for (int lane = 0; lane < 8 * Matrices; ++lane) {
    rows[lane] = warp.address(instruction.address, lane);
    if (rows[lane] % 16 != 0) warp.fault(instruction, lane, "names a matrix row at an address that is no multiple of 16");
  }
  // A lane's two elements lie side by side, or in rows one after the other.
  constexpr std::size_t kBytes = Transposed ? 2 : 4;
  u32 words[4][kLanes] = {};
  for (int i = 0; i < Matrices; ++i) {
    u32* registers = warp.lanes<u32>(instruction.operands[static_cast<std::size_t>(i)]);
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int e = 0; e < 2; e += Transposed ? 1 : 2) {
        const int along = lane % 4 * 2 + e, across = lane / 4;
        const int row = Transposed ? along : across, column = Transposed ? across : along;
        u32 part = registers[lane] >> 16 * e;
        const Range range{Space::kShared, rows[8 * i + row] + 2 * static_cast<std::uint64_t>(column), kBytes};
        std::byte* data = warp.access(instruction, lane, range, Stores ? &part : nullptr);
        if (Stores) {
          std::memcpy(data, &part, kBytes);
        } else {
          part = 0;
          std::memcpy(&part, data, kBytes);
          words[i][lane] |= part << 16 * e;
        }
      }
    }
  }
  if (Stores) return;
  for (int i = 0; i < Matrices; ++i)
    std::memcpy(warp.lanes<u32>(instruction.operands[static_cast<std::size_t>(i)]), words[i], sizeof words[i]);
}

template <int Matrices>
void add_moves(OpcodeTable& table) {
  const std::string size = ".sync.aligned.m8n8.x" + std::to_string(Matrices);
  const char *loads = &"wwwws"[4 - Matrices], *stores = Matrices == 1 ? "sw" : Matrices == 2 ? "sww" : "swwww";
  table["ldmatrix" + size + ".shared.b16"] = {move_matrices<Matrices, false, false>, loads, Kind::kWarpSync};
  table["ldmatrix" + size + ".trans.shared.b16"] = {move_matrices<Matrices, true, false>, loads, Kind::kWarpSync};
  table["stmatrix" + size + ".shared.b16"] = {move_matrices<Matrices, false, true>, stores, Kind::kWarpSync};
  table["stmatrix" + size + ".trans.shared.b16"] = {move_matrices<Matrices, true, true>, stores, Kind::kWarpSync};
}

}  // namespace

void add_matrix_opcodes(OpcodeTable& table) {
  const std::string mma = "mma.sync.aligned.m16n8", tf32 = ".row.col.f32.tf32.tf32.f32", bf16 = ".row.col.f32.bf16.bf16.f32";
  table[mma + "k4" + tf32] = {multiply<Tf32Fragment, 2, 1>, "wwwwwwwwwww", Kind::kWarpSync};
  table[mma + "k8" + tf32] = {multiply<Tf32Fragment, 4, 2>, "wwwwwwwwwwwwww", Kind::kWarpSync};
  table[mma + "k8" + bf16] = {multiply<Bf16Fragment, 2, 1>, "wwwwwwwwwww", Kind::kWarpSync};
  table[mma + "k16" + bf16] = {multiply<Bf16Fragment, 4, 2>, "wwwwwwwwwwwwww", Kind::kWarpSync};
  add_moves<1>(table);
  add_moves<2>(table);
  add_moves<4>(table);
}

}  // namespace perilune::ptx
