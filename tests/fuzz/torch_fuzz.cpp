// Any bytes as a file of torch.save: either Error, or tensors whose numbers are written and read back as themselves.
// The bytes are taken for an archive, and for the pickle in one, whose checksum a mutation does not break then. How to
// run it: toml_fuzz.cpp.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "host/base/error.hpp"
#include "host/base/zip.hpp"
#include "host/runs/torch_file.hpp"

namespace {

using namespace perilune;

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void check(std::vector<std::byte> bytes) {
  try {
    const TorchFile file = TorchFile::parse(std::move(bytes), "fuzz");
    std::vector<std::vector<float>> numbers;
    std::vector<Tensor> tensors;
    for (const TorchTensor& tensor : file.tensors()) {
      if (numbers.size() == 64) return;  // of one storage each may be as large as the file
      numbers.push_back(file.numbers(tensor));
      tensors.push_back(make_tensor<float>(tensor.name, tensor.shape, numbers.back()));
    }
    const TorchFile again = TorchFile::parse(bytes_of(torch_file(tensors)), "written");
    if (again.tensors().size() != tensors.size()) std::abort();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const TorchTensor& twin = again.tensors()[i];
      const std::vector<float> read = again.numbers(twin);
      const bool same = twin.name == tensors[i].name && twin.shape == tensors[i].shape &&
                        read.size() == numbers[i].size() && std::equal(read.begin(), read.end(), numbers[i].begin());
      if (!same) std::abort();
    }
  } catch (const Error& error) {
    if (std::string(error.what()).starts_with("written")) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check(bytes_of(text));
  constexpr std::array<float, 6> kNumbers = {1, -2, 3, -4, 5, -6};
  const std::array<ZipEntry, 2> entries = {
      {{"f/data.pkl", std::as_bytes(std::span(text))}, {"f/data/0", std::as_bytes(std::span(kNumbers))}}};
  check(bytes_of(zip_archive(entries, 1)));
  return 0;
}
