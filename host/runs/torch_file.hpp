// PyTorch's files of tensors: what torch.save(model.state_dict(), path) writes since PyTorch 1.6, read and written
// without PyTorch.
//
// A file is a zip archive whose entries are in one folder: data.pkl, a pickle of a dict of tensors (torch_pickle.hpp);
// data/<storage>, the numbers of each storage; version; and byteorder, which files of older versions do not have.
// Reading trusts nothing and runs nothing.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/runs/safetensors.hpp"

namespace perilune {

enum class TorchType { kFloat, kDouble, kHalf, kBFloat16 };

struct TorchTensor {
  std::string name;
  TorchType type;
  Shape shape;
  Shape strides;                    // in numbers
  std::span<const std::byte> data;  // from its first number to the end of its storage
};

// A file in memory.
class TorchFile {
 public:
  // Throws Error that says what is wrong with the file; `source` names it in messages.
  static TorchFile load(const std::filesystem::path& path);
  static TorchFile parse(std::vector<std::byte> bytes, const std::string& source);

  const std::string& source() const { return source_; }
  // In the order of the dict.
  const std::vector<TorchTensor>& tensors() const { return tensors_; }
  // nullptr if there is none.
  const TorchTensor* find(std::string_view name) const;

  // The numbers of one of its tensors, the last index fastest; doubles are rounded. Throws Error for a number that is
  // not finite in float32.
  std::vector<float> numbers(const TorchTensor& tensor) const;

 private:
  TorchFile() = default;

  std::string source_;
  std::vector<std::byte> bytes_;  // tensors_ points into it; moving a vector keeps its memory in place
  std::vector<TorchTensor> tensors_;
};

// A file of these tensors, which are of float32. torch.load reads it with weights_only=True. Throws Error if it would
// have 4 GiB.
std::string torch_file(std::span<const Tensor> tensors);

}  // namespace perilune
