// The pickle in a file of torch.save: which tensors a state dictionary has, and where their numbers are.
//
// A pickle is a program for a machine with a stack. Python's own machine imports and calls whatever the program names;
// this one knows the few opcodes that torch.save writes for numbers, texts, tuples, lists and dicts, and of callables
// only the three that tensors are described with, none of which is called: it notes what they would be given.
// Everything else is refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perilune {

// A tensor as the pickle describes it; nothing of it has been checked. Texts point into the pickle.
struct PickledTensor {
  std::string_view name;
  std::string_view storage_type;             // "FloatStorage"
  std::string_view storage;                  // its name in the archive: data/<storage>
  std::int64_t storage_size;                 // numbers in it
  std::int64_t offset;                       // of the first number in the storage
  std::vector<std::int64_t> shape, strides;  // in numbers
};

// The entries of the dict that the pickle makes, in its order. Throws Error that begins with `source` and says what is
// not allowed: anything but a dict of texts and tensors, and a name that is there twice.
std::vector<PickledTensor> read_torch_pickle(std::span<const std::byte> pickle, const std::string& source);

// The pickle of such a dict, as torch.save writes it.
std::string torch_pickle(std::span<const PickledTensor> tensors);

}  // namespace perilune
