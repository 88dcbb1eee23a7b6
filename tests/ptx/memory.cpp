#include "tests/ptx/memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace perilune::ptx {

namespace {

constexpr std::size_t kReserved = std::size_t{1}
                                  << 34;  // of addresses; memory is taken page by page, when it is touched
constexpr std::size_t kAlignment = 256, kPage = 4096;

std::size_t aligned(std::size_t x, std::size_t to) { return (x + to - 1) / to * to; }

}  // namespace

Word& Allocation::word(std::uintptr_t address) {
  if (!words) words = std::make_unique<Word[]>(bytes / 4 + 1);
  return words[(address - begin) / 4];
}

Memory::Memory() {
  file_ = memfd_create("device memory", MFD_CLOEXEC);
  if (file_ < 0 || ftruncate(file_, kReserved) != 0) throw std::runtime_error("no file for device memory");
  void* device = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* mirror = mmap(nullptr, kReserved, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file_, 0);
  if (device == MAP_FAILED || mirror == MAP_FAILED) throw std::runtime_error("no addresses for device memory");
  device_ = static_cast<std::byte*>(device);
  mirror_ = static_cast<std::byte*>(mirror);
}

Memory::~Memory() {
  munmap(device_, kReserved);
  munmap(mirror_, kReserved);
  close(file_);
}

void* Memory::allocate_device(std::size_t bytes) {
  const std::size_t room = aligned(bytes + kAlignment, kPage);
  if (bytes > free_bytes() || next_ + room > kReserved) return nullptr;
  Allocation allocation;
  allocation.begin = reinterpret_cast<std::uintptr_t>(device_ + next_);
  allocation.bytes = bytes;
  allocation.data = mirror_ + next_;
  allocation.is_device = true;
  std::memset(allocation.data, 0xFD, bytes);  // what nobody has written is no number
  void* pointer = device_ + next_;
  next_ += room;
  used_ += bytes;
  allocations_[allocation.begin] = std::move(allocation);
  return pointer;
}

void* Memory::allocate_shared(std::size_t bytes) {
  void* pointer = std::aligned_alloc(kAlignment, aligned(bytes + 1, kAlignment));
  if (pointer == nullptr) return nullptr;
  Allocation allocation;
  allocation.begin = reinterpret_cast<std::uintptr_t>(pointer);
  allocation.bytes = bytes;
  allocation.data = static_cast<std::byte*>(pointer);
  allocations_[allocation.begin] = std::move(allocation);
  return pointer;
}

bool Memory::release(void* pointer) {
  const auto found = allocations_.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (found == allocations_.end()) return false;
  const Allocation& allocation = found->second;
  if (allocation.is_device) {
    used_ -= allocation.bytes;
    madvise(allocation.data, aligned(allocation.bytes, kPage), MADV_REMOVE);
  } else {
    std::free(pointer);
  }
  allocations_.erase(found);
  return true;
}

Allocation* Memory::find(std::uintptr_t address) {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  Allocation& allocation = (--after)->second;
  return allocation.holds(address) ? &allocation : nullptr;
}

std::byte* Memory::host_view(const void* pointer, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (address - reinterpret_cast<std::uintptr_t>(device_) >= kReserved) {
    return const_cast<std::byte*>(static_cast<const std::byte*>(pointer));
  }
  Allocation* allocation = find(address);
  if (allocation == nullptr || bytes > allocation->begin + allocation->bytes - address) return nullptr;
  return allocation->data + (address - allocation->begin);
}

std::string Memory::describe(std::uintptr_t address) const {
  if (address < kPage) return "near null";
  auto after = allocations_.upper_bound(address);
  std::string text = "in no allocation";
  if (after != allocations_.begin()) {
    const Allocation& before = std::prev(after)->second;
    const std::size_t distance = address - before.begin;
    if (distance < 2 * before.bytes + kPage) {
      text = std::to_string(distance) + " bytes into an allocation of " + std::to_string(before.bytes);
    }
  }
  if (after != allocations_.end() && after->first - address < kPage) {
    text +=
        ", " + std::to_string(after->first - address) + " bytes before one of " + std::to_string(after->second.bytes);
  }
  return text;
}

}  // namespace perilune::ptx
