// Any bytes as a safetensors file: either Error, or tensors that are written and read back as
// themselves. How to run it: toml_fuzz.cpp.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "host/base/error.hpp"
#include "host/runs/safetensors.hpp"

namespace {

using namespace perilune;

std::vector<std::byte> written(const SafetensorsFile& file) {
  const std::string header = safetensors_header(file.tensors(), file.metadata());
  std::vector<std::byte> bytes(header.size());
  std::memcpy(bytes.data(), header.data(), header.size());
  for (const Tensor& tensor : file.tensors()) bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size != 0) std::memcpy(bytes.data(), data, size);
  try {
    const SafetensorsFile file = SafetensorsFile::parse(std::move(bytes), "fuzz");
    const SafetensorsFile again = SafetensorsFile::parse(written(file), "written");
    if (again.metadata() != file.metadata() || again.tensors().size() != file.tensors().size()) std::abort();
    for (const Tensor& tensor : file.tensors()) {
      const Tensor* twin = again.find(tensor.name);
      if (twin == nullptr || twin->type != tensor.type || twin->shape != tensor.shape ||
          !std::equal(tensor.data.begin(), tensor.data.end(), twin->data.begin(), twin->data.end())) {
        std::abort();
      }
    }
  } catch (const Error& error) {
    if (std::string(error.what()).starts_with("written")) std::abort();
  }
  return 0;
}
