// Arrays on their way to Python: NumPy's over memory of the process, and those that any DLPack
// library can take over memory of a device. Both come from pools, so that a step allocates and
// copies nothing.
//
// The pool's promise: an array that a caller has is never written again. Memory is used again only
// when nobody else refers to the array, to a view of it or to anything made from it without a copy.
#pragma once

#include <nanobind/ndarray.h>

#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "host/device/device.hpp"
#include "tools/python/bindings/bindings.hpp"

namespace perilune::python {

enum class ArrayType { kFloat32, kFloat64, kInt32, kInt64, kBool };

nb::dlpack::dtype dlpack_type(ArrayType type);
std::size_t bytes_of(ArrayType type);

// NumPy arrays of one shape and type. Not for two threads at once.
class NumpyPool {
 public:
  NumpyPool(std::vector<std::size_t> shape, ArrayType type);

  struct Taken {
    nb::object array;
    void* data;
  };
  // An array that nobody refers to, zeroed where asked. Where all are in use one is made; the pool
  // then forgets another.
  Taken take(bool zeroed = false);

 private:
  Taken make() const;

  static constexpr std::size_t kKept = 8;
  std::vector<std::size_t> shape_;
  ArrayType type_;
  std::size_t bytes_;
  std::array<Taken, kKept> kept_{};  // those made so far come first
  std::size_t next_ = 0;             // is forgotten when all are in use
};

// A device and who reads what was made on it.
struct SharedDevice {
  std::unique_ptr<Device> device;
  // Streams that arrays were handed to. What is written again must wait for them.
  std::set<void*> readers;

  void wait_for_readers();
};

struct DeviceMemory {
  DeviceMemory(std::shared_ptr<SharedDevice> owner, std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::shared_ptr<SharedDevice> device;
  void* data;
  std::size_t bytes;
};

// What Python sees of device memory (perilune.DeviceArray).
class DeviceArray {
 public:
  DeviceArray(std::shared_ptr<DeviceMemory> memory, std::vector<std::size_t> shape, ArrayType type)
      : memory_(std::move(memory)), shape_(std::move(shape)), type_(type) {}

  nb::object dlpack(nb::handle stream, nb::kwargs arguments) const;
  nb::tuple dlpack_device() const;
  // Waits for the device, and copies.
  nb::object numpy() const;
  nb::tuple shape() const;
  nb::str dtype() const;
  std::string device() const { return is_cuda() ? "cuda" : "cpu"; }

 private:
  bool is_cuda() const { return memory_->device->device->is_cuda(); }

  std::shared_ptr<DeviceMemory> memory_;
  std::vector<std::size_t> shape_;
  ArrayType type_;
};

// DeviceArrays of one shape and type.
class DevicePool {
 public:
  DevicePool(std::shared_ptr<SharedDevice> device, std::vector<std::size_t> shape, ArrayType type);

  struct Taken {
    nb::object array;
    void* data;
  };
  Taken take();

 private:
  static constexpr std::size_t kKept = 8;
  std::shared_ptr<SharedDevice> device_;
  std::vector<std::size_t> shape_;
  ArrayType type_;
  std::size_t bytes_;
  std::array<std::shared_ptr<DeviceMemory>, kKept> kept_;
  std::size_t next_ = 0;  // is forgotten when all are in use
};

// Numbers that Python gave, contiguous, in memory of the process or (on_cuda) of the GPU. They stay
// valid as long as this.
struct InputArray {
  std::vector<std::size_t> shape;
  char kind;         // 'i' signed, 'u' unsigned, 'b' boolean, 'f' float, '?' something else
  std::size_t item;  // bytes of a number
  const void* data;
  bool on_cuda = false;
  nb::object owner;  // keeps the memory

  InputArray() = default;
  InputArray(InputArray&&) noexcept;
  InputArray& operator=(InputArray&&) = delete;
  ~InputArray();

  Py_buffer buffer{};  // held if buffer.obj is set
};

// Reads anything NumPy can make an array of, and DLPack arrays of a GPU: nothing is copied where
// memory is contiguous. The device's queue then runs after what the producer has enqueued. Throws
// TypeError or ValueError for what is no array.
InputArray read_array(nb::handle value, SharedDevice& device, const char* what);

// To be called once what reads the array is enqueued: its producer may write it again after that.
void finish_reading(const InputArray& array, SharedDevice& device);

std::string shape_text(const std::vector<std::size_t>& shape);

}  // namespace perilune::python
