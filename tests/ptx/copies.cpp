// Copies from global to shared memory that go on beside their thread (cp.async), until it waits for them.
#include <cstring>

#include "tests/ptx/opcodes.hpp"

namespace perilune::ptx {

namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

template <std::size_t Bytes>
void copy(Warp& warp, const Instruction& instruction, Mask mask) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const u64 to = warp.address(instruction.address, lane), from = warp.address(instruction.from, lane);
    if (to % Bytes != 0) warp.fault(instruction, lane, "copies to an address that is no multiple of the size");
    if (from % Bytes != 0) warp.fault(instruction, lane, "copies from an address that is no multiple of the size");
    Copy copy{.instruction = &instruction, .bytes = Bytes};
    bool races = false;
    for (std::size_t i = 0; i < Bytes; i += sizeof(u32)) {
      const std::byte* data = warp.access(instruction, lane, {Space::kGlobal, from + i, sizeof(u32)}, nullptr);
      if (i == 0) copy.source = data;
      u32 word;
      std::memcpy(&word, data, sizeof word);
      if (warp.take_uncertain()) {
        word = another(word);
        races = true;
      }
      std::memcpy(&copy.value[i], &word, sizeof word);
    }
    if (races) copy.source = nullptr;
    warp.begin_copy(lane, to, copy);
  }
}

}  // namespace

void add_copy_opcodes(OpcodeTable& table) {
  table["cp.async.ca.shared.global 4"] = {copy<4>, "s@"};
  table["cp.async.ca.shared.global 16"] = {copy<16>, "s@"};
  table["cp.async.wait_all"] = {[](Warp& warp, const Instruction&, Mask mask) { warp.wait_for_copies(mask); }, ""};
}

}  // namespace perilune::ptx
