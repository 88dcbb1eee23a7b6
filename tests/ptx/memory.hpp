// The memory of the PTX machine, and who touched which word of it when.
//
// Device memory has two addresses: the one that kernels are given, where the host can touch nothing, and the one that
// the machine works with; a host that follows a device pointer dies of it, as it would with a GPU. No address is given
// out twice. Whatever else kernels are given (managed, page-locked) is memory of the process, at the same address for
// both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace perilune::ptx {

struct Instruction;

/// One access to a word of four bytes: when, by which thread of the grid, which of the bytes, and by what.
struct Access {
  std::uint64_t time = 0;  ///< 0: never
  const Instruction* instruction = nullptr;
  std::uint32_t thread = 0;
  std::uint8_t bytes = 0;
  bool atomic = false;
  bool under_way = false;  ///< of a write: it is a copy that its thread has not waited for
};
/// The last write of a word, and its last reads by two threads.
struct Word {
  Access write, read, other_read;
};

struct Allocation {
  std::uintptr_t begin = 0;  ///< as kernels know it
  std::size_t bytes = 0;
  std::byte* data = nullptr;  ///< as the machine does
  bool is_device = false;
  std::unique_ptr<Word[]> words;  ///< made when it is touched first

  bool holds(std::uintptr_t address) const { return address - begin < bytes; }
  Word& word(std::uintptr_t address);
};

class Memory {
 public:
  Memory();
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  /// Null where nothing is left of kDeviceBytes.
  void* allocate_device(std::size_t bytes);
  /// Memory that the host may touch too, at least `alignment` 256.
  void* allocate_shared(std::size_t bytes);
  /// False: no such allocation.
  bool release(void* pointer);
  /// Null: the address lies in none.
  Allocation* find(std::uintptr_t address);
  /// Where the bytes from a kernel's address on are. Null: not all of them are in one allocation. Any address of the
  /// host's that is no device memory is itself.
  std::byte* host_view(const void* pointer, std::size_t bytes);
  /// The nearest allocation, in words.
  std::string describe(std::uintptr_t address) const;
  std::size_t free_bytes() const { return kDeviceBytes - used_; }

  static constexpr std::size_t kDeviceBytes = std::size_t{2} << 30;

 private:
  std::map<std::uintptr_t, Allocation> allocations_;
  int file_ = -1;
  std::byte* device_ = nullptr;  // as kernels know it
  std::byte* mirror_ = nullptr;
  std::size_t next_ = 0, used_ = 0;
};

}  // namespace perilune::ptx
