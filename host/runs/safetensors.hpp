// Reading and writing safetensors files (https://github.com/huggingface/safetensors), the format of
// checkpoints.
//
// A file is: u64 header length; a JSON header, padded with spaces to a multiple of 8,
//   {"name": {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ...,
//    "__metadata__": {string: string}}
// then the data, little-endian, tensors without gaps in the order of their offsets. Reading trusts
// nothing: every length, offset, shape and name is checked before it is used.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace perilune {

static_assert(std::endian::native == std::endian::little, "tensor data is stored as it lies in memory");

enum class TensorType { kU8, kI32, kU32, kF32, kI64, kU64, kF64 };

template <class T>
constexpr TensorType tensor_type_of() {
  if constexpr (std::is_same_v<T, std::uint8_t>) return TensorType::kU8;
  if constexpr (std::is_same_v<T, std::int32_t>) return TensorType::kI32;
  if constexpr (std::is_same_v<T, std::uint32_t>) return TensorType::kU32;
  if constexpr (std::is_same_v<T, float>) return TensorType::kF32;
  if constexpr (std::is_same_v<T, std::int64_t>) return TensorType::kI64;
  if constexpr (std::is_same_v<T, std::uint64_t>) return TensorType::kU64;
  if constexpr (std::is_same_v<T, double>) return TensorType::kF64;
}

using Shape = std::vector<std::uint64_t>;
using Metadata = std::map<std::string, std::string>;

// A named tensor over memory that someone else owns. The data of a file that was read may be
// unaligned.
struct Tensor {
  std::string name;
  TensorType type;
  Shape shape;
  std::span<const std::byte> data;
};

template <class T>
Tensor make_tensor(std::string name, Shape shape, std::span<const T> values) {
  return {std::move(name), tensor_type_of<T>(), std::move(shape), std::as_bytes(values)};
}

// A file in memory.
class SafetensorsFile {
 public:
  // Throws Error that says what is wrong with the file; `source` names it in messages.
  static SafetensorsFile load(const std::filesystem::path& path);
  static SafetensorsFile parse(std::vector<std::byte> bytes, const std::string& source);

  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  const std::string& source() const { return source_; }
  const Metadata& metadata() const { return metadata_; }
  // In the order of their data.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // nullptr if there is none.
  const Tensor* find(std::string_view name) const;

  // Copies a tensor's values out. Throws Error if it is missing, or type or shape differ.
  template <class T>
  void copy(std::string_view name, const Shape& shape, std::span<T> out) const {
    copy_bytes(name, tensor_type_of<T>(), shape, std::as_writable_bytes(out));
  }

 private:
  SafetensorsFile() = default;
  void copy_bytes(std::string_view name, TensorType type, const Shape& shape, std::span<std::byte> out) const;

  std::string source_;
  std::vector<std::byte> bytes_;  // tensors_ points into it; moving a vector keeps its memory in place
  Metadata metadata_;
  std::vector<Tensor> tensors_;
};

// The bytes before the data of the first tensor.
std::string safetensors_header(std::span<const Tensor> tensors, const Metadata& metadata);

// Writes a file as replace_file does (host/base/files.hpp): atomically, and with a non-empty `previous`
// keeping the file that was there. Throws Error if a tensor's size is not that of its shape or a
// name is used twice.
void write_safetensors(const std::filesystem::path& path, std::span<const Tensor> tensors, const Metadata& metadata,
                       const std::filesystem::path& previous = {});

}  // namespace perilune
