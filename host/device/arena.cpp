#include "host/device/arena.hpp"

#include <algorithm>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/table.hpp"
#include "host/base/text.hpp"

namespace perilune {

Arena::~Arena() {
  if (base_ != nullptr) device_->release(base_);
}

std::size_t Arena::add_array(std::string name, std::vector<std::size_t> shape, std::size_t element) {
  std::size_t count = 1;
  for (std::size_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count)) {
      throw UsageError(formatted("{} has more elements than 64 bits can count - lower num_envs or num_steps", name));
    }
  }
  constexpr std::size_t kAlignment = 256;
  const std::size_t bytes = ((count + kTailPadding) * element + kAlignment - 1) / kAlignment * kAlignment;
  arrays_.push_back({std::move(name), std::move(shape), count, bytes, total_bytes_});
  total_bytes_ += bytes;
  return arrays_.size() - 1;
}

std::string Arena::table() const {
  std::vector<const Array*> order;
  for (const Array& array : arrays_) order.push_back(&array);
  std::stable_sort(order.begin(), order.end(), [](const Array* a, const Array* b) { return a->bytes > b->bytes; });
  Table table = {{{"array"}, {"shape"}, {"memory", true}}, {}};
  for (const Array* array : order) {
    table.rows.push_back({{array->name, formatted("[{}]", joined(array->shape)), format_bytes(array->bytes)}});
  }
  constexpr std::size_t kWidth = 80;
  return layout(table, kWidth, false);
}

void Arena::require_room(const Device& device) const {
  const std::size_t free = device.free_memory();
  if (total_bytes_ > free) {
    throw OutOfMemoryError(
        formatted("this run needs {} of memory, but {} has {} free - lower num_envs, num_steps or "
                  "the hidden layers' sizes:\n{}",
                  format_bytes(total_bytes_), device.description(), format_bytes(free), table()));
  }
}

void Arena::take(Device& device) {
  require_room(device);
  try {
    base_ = static_cast<std::byte*>(device.allocate(total_bytes_));
  } catch (const OutOfMemoryError& error) {
    throw OutOfMemoryError(formatted("{} for {} of arrays - lower num_envs, num_steps or the hidden layers' sizes:\n{}",
                                     error.what(), format_bytes(total_bytes_), table()));
  }
  device_ = &device;
}

std::string format_bytes(std::size_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024.0 && unit < 6) {
    value /= 1024.0;
    ++unit;
  }
  return unit == 0 ? formatted("{} B", bytes) : formatted("{:.1f} {}", value, units[unit]);
}

}  // namespace perilune
