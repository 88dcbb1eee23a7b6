// What the files that say what instructions do have in common.
#pragma once

#include <string>
#include <unordered_map>

#include "tests/ptx/machine.hpp"

namespace perilune::ptx {

using OpcodeTable = std::unordered_map<std::string, Opcode>;
void add_matrix_opcodes(OpcodeTable& table);
void add_copy_opcodes(OpcodeTable& table);

/// What a read that races gives: another number, which is near: its last bit changed, and for 0, of which that would be
/// lost in a sum, 2^-20.
template <class T>
T another(T value) {
  return value == 0 && sizeof(T) == 4 ? static_cast<T>(0x35800000) : static_cast<T>(value ^ 1);
}

}  // namespace perilune::ptx
