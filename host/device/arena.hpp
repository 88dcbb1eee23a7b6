// Device memory of a run: every array is registered first, then all of it is taken at once.
//
// So the total is known, can be shown and is checked against free memory before anything is taken, and nothing is
// allocated while training.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "host/device/device.hpp"

namespace perilune {

// A registered array; becomes a pointer with Arena::at once the arena is taken.
template <class T>
struct Slot {
  std::size_t index = 0;
};

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  // Arrays are aligned to 256 bytes and followed by kTailPadding elements (kernels/api.hpp).
  template <class T>
  Slot<T> add(std::string name, std::vector<std::size_t> shape) {
    return {add_array(std::move(name), std::move(shape), sizeof(T))};
  }

  std::size_t total_bytes() const { return total_bytes_; }
  // A line per array, largest first: name, shape, bytes.
  std::string table() const;

  // Throws Error with the table if the device has less memory free.
  void require_room(const Device& device) const;
  // Takes the memory, zeroed, if there is room.
  void take(Device& device);

  template <class T>
  T* at(Slot<T> slot) const {
    return reinterpret_cast<T*>(base_ + arrays_[slot.index].offset);
  }
  template <class T>
  std::size_t size(Slot<T> slot) const {
    return arrays_[slot.index].count;
  }

 private:
  struct Array {
    std::string name;
    std::vector<std::size_t> shape;
    std::size_t count, bytes, offset;
  };
  std::size_t add_array(std::string name, std::vector<std::size_t> shape, std::size_t element);

  std::vector<Array> arrays_;
  std::size_t total_bytes_ = 0;
  Device* device_ = nullptr;
  std::byte* base_ = nullptr;
};

// 1536 -> "1.5 KiB".
std::string format_bytes(std::size_t bytes);

}  // namespace perilune
