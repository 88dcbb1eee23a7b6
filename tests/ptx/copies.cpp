// Copies from global to shared memory that go on beside their thread (cp.async), until it waits for them.
#include <cstring>

#include "tests/ptx/opcodes.hpp"

namespace perilune::ptx {

namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

/// As many bytes, of which as many as a third operand says are read (InPart), and the others are 0.
template <std::size_t Bytes, bool InPart>
void copy(Warp& warp, const Instruction& instruction, Mask mask) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const u64 to = warp.address(instruction.address, lane), from = warp.address(instruction.from, lane);
    if (to % Bytes != 0) warp.fault(instruction, lane, "copies to an address that is no multiple of the size");
    if (from % Bytes != 0) warp.fault(instruction, lane, "copies from an address that is no multiple of the size");
    const std::size_t read = InPart ? warp.lanes<u32>(instruction.operands[0])[lane] : Bytes;
    if (read > Bytes) warp.fault(instruction, lane, "copies " + std::to_string(Bytes) + " bytes and reads " + std::to_string(read));
    Copy copy{.instruction = &instruction, .bytes = Bytes, .read = read};
    bool races = false;
    for (std::size_t i = 0; i < read;) {
      const std::size_t step = read - i < sizeof(u32) ? 1 : sizeof(u32);
      const std::byte* data = warp.access(instruction, lane, {Space::kGlobal, from + i, step}, nullptr);
      if (i == 0) copy.source = data;
      u32 word = 0;
      std::memcpy(&word, data, step);
      if (warp.take_uncertain()) {
        word = another(word);
        races = true;
      }
      std::memcpy(&copy.value[i], &word, step);
      i += step;
    }
    if (races) copy.source = nullptr;
    warp.begin_copy(lane, to, copy);
  }
}

template <std::size_t Bytes>
void add_copies(OpcodeTable& table, const std::string& name) {
  const std::string full = name + ".shared.global " + std::to_string(Bytes);
  table[full] = {copy<Bytes, false>, "s@"};
  table[full + " of w"] = {copy<Bytes, true>, "s@w"};
}

}  // namespace

void add_copy_opcodes(OpcodeTable& table) {
  add_copies<4>(table, "cp.async.ca");
  add_copies<8>(table, "cp.async.ca");
  add_copies<16>(table, "cp.async.ca");
  add_copies<16>(table, "cp.async.cg");
  table["cp.async.commit_group"] = {[](Warp& warp, const Instruction&, Mask mask) { warp.commit_copies(mask); }, ""};
  table["cp.async.wait_group"] = {
      [](Warp& warp, const Instruction& instruction, Mask mask) { warp.wait_for_copies(mask, instruction.number); }, "#"};
  table["cp.async.wait_all"] = {[](Warp& warp, const Instruction&, Mask mask) {
                                  warp.commit_copies(mask);
                                  warp.wait_for_copies(mask, 0);
                                },
                                ""};
}

}  // namespace perilune::ptx
