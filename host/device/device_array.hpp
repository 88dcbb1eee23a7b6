// An array in a device's memory, for benchmarks and tests: given back when it goes.
#pragma once

#include <cstddef>
#include <vector>

#include "host/device/device.hpp"

namespace perilune {

template <class T>
class DeviceArray {
 public:
  // Zeros, with the tail that kernels may read (kernels/api.hpp).
  DeviceArray(Device& device, std::size_t size)
      : device_(device), size_(size), data_(static_cast<T*>(device.allocate((size + kTailPadding) * sizeof(T)))) {}
  DeviceArray(Device& device, const std::vector<T>& values) : DeviceArray(device, values.size()) {
    device.upload(data_, values.data(), size_ * sizeof(T));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { device_.release(data_); }

  T* data() const { return data_; }
  std::vector<T> copy() const {
    std::vector<T> values(size_);
    device_.download(values.data(), data_, size_ * sizeof(T));
    return values;
  }

 private:
  Device& device_;
  std::size_t size_;
  T* data_;
};

}  // namespace perilune
