// See torch_file.hpp.
#include "host/runs/torch_file.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/files.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/base/zip.hpp"
#include "host/runs/torch_pickle.hpp"

namespace perilune {
namespace {

constexpr std::string_view kPickleName = "data.pkl", kStorageFolder = "data/";
constexpr std::string_view kByteOrderName = "byteorder", kByteOrder = "little";
constexpr std::string_view kProgramName = "/constants.pkl";  // what torch.jit.save adds
constexpr std::string_view kVersionName = "version", kVersion = "3\n";
constexpr std::string_view kFolder = "archive/";  // as torch.save calls it where it does not know the file's name
constexpr std::size_t kAlignment = 64;            // of numbers in the file, as torch.save has it
constexpr std::uintmax_t kMostBytes = std::uintmax_t{4} << 30;

struct TypeInfo {
  TorchType type;
  std::string_view storage;
  std::size_t size;
};
constexpr std::array<TypeInfo, 4> kTypes = {{{TorchType::kFloat, "FloatStorage", 4},
                                             {TorchType::kDouble, "DoubleStorage", 8},
                                             {TorchType::kHalf, "HalfStorage", 2},
                                             {TorchType::kBFloat16, "BFloat16Storage", 2}}};

const TypeInfo& type_info(TorchType type) {
  return *std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeInfo& info) { return info.type == type; });
}

[[noreturn]] void fail(const std::string& source, std::string_view problem) {
  throw Error(formatted("{} is damaged or no file of torch.save: {} - save it again", source, problem));
}

// The entries of the archive's folder by their names in it.
using Folder = std::map<std::string_view, std::span<const std::byte>>;

Folder folder_of(std::span<const ZipEntry> entries, const std::string& source) {
  const auto split = [](std::string_view name) {
    const std::size_t begin = std::min(name.find('/'), name.size() - 1) + 1;
    return std::pair(name.substr(0, begin), name.substr(begin));
  };
  std::optional<std::string_view> folder;
  for (const ZipEntry& entry : entries) {
    const auto [its_folder, name] = split(entry.name);
    if (name != kPickleName) continue;
    if (folder) fail(source, "its archive has more than one data.pkl");
    folder = its_folder;
  }
  if (!folder) fail(source, "its archive has no folder with data.pkl");
  Folder its_entries;
  for (const ZipEntry& entry : entries) {
    if (const auto [its_folder, name] = split(entry.name); its_folder == *folder) its_entries[name] = entry.data;
  }
  return its_entries;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The numbers a tensor needs in its storage: the place of its last one and one; nothing where that overflows, or
// something is negative. An empty tensor needs none.
std::optional<std::uint64_t> extent_of(const PickledTensor& tensor) {
  std::uint64_t last = 0;
  bool is_empty = false;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] < 0 || tensor.strides[i] < 0) return std::nullopt;
    is_empty = is_empty || tensor.shape[i] == 0;
    std::uint64_t step;
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(std::max<std::int64_t>(tensor.shape[i] - 1, 0)),
                               static_cast<std::uint64_t>(tensor.strides[i]), &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return std::nullopt;
    }
  }
  if (is_empty) return 0;
  if (__builtin_add_overflow(last, 1, &last)) return std::nullopt;
  return last;
}

// Numbers in a tensor, or nothing where they overflow.
std::optional<std::uint64_t> count_of(const Shape& shape) {
  if (std::find(shape.begin(), shape.end(), 0u) != shape.end()) return 0;
  std::uint64_t count = 1;
  for (const std::uint64_t size : shape) {
    if (__builtin_mul_overflow(count, size, &count)) return std::nullopt;
  }
  return count;
}

TorchTensor checked(const PickledTensor& pickled, const Folder& folder, const std::string& source) {
  const std::string name = "tensor " + in_quotes(pickled.name);
  const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](const TypeInfo& info) { return info.storage == pickled.storage_type; });
  if (type == kTypes.end()) {
    throw Error(
        formatted("{}: {} is of {} - allowed: FloatStorage, DoubleStorage, HalfStorage, BFloat16Storage - "
                  "save model.float().state_dict()",
                  source, name, in_quotes(pickled.storage_type)));
  }
  const auto found = folder.find(std::string(kStorageFolder) + std::string(pickled.storage));
  if (found == folder.end())
    fail(source, formatted("{} has no storage {} in the archive", name, in_quotes(pickled.storage)));
  const std::span<const std::byte> data = found->second;
  const std::uint64_t numbers = data.size() / type->size;
  if (pickled.storage_size < 0 || static_cast<std::uint64_t>(pickled.storage_size) != numbers ||
      data.size() % type->size != 0) {
    fail(source, formatted("{} says that its storage has {} numbers, but that has {} bytes", name, pickled.storage_size,
                           data.size()));
  }
  const auto extent = pickled.shape.size() == pickled.strides.size() ? extent_of(pickled) : std::nullopt;
  if (!extent || pickled.offset < 0 || static_cast<std::uint64_t>(pickled.offset) > numbers ||
      *extent > numbers - static_cast<std::uint64_t>(pickled.offset)) {
    fail(source, formatted("{} of shape [{}], strides [{}] and offset {} does not fit its storage of {} numbers", name,
                           joined(pickled.shape), joined(pickled.strides), pickled.offset, numbers));
  }
  TorchTensor tensor{std::string(pickled.name), type->type, Shape(pickled.shape.begin(), pickled.shape.end()),
                     Shape(pickled.strides.begin(), pickled.strides.end()),
                     data.subspan(static_cast<std::size_t>(pickled.offset) * type->size)};
  const std::optional<std::uint64_t> count = count_of(tensor.shape);
  if (!count || *count > numbers) {
    throw Error(
        formatted("{}: {} of shape [{}] repeats the {} numbers of its storage - allowed: each number for itself "
                  "- save it with .contiguous()",
                  source, name, joined(pickled.shape), numbers));
  }
  return tensor;
}

template <class Number>
Number number_at(std::span<const std::byte> data, std::size_t index) {
  Number number;
  std::memcpy(&number, data.subspan(index * sizeof number, sizeof number).data(), sizeof number);
  return number;
}

// IEEE 754's binary16.
double half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1F, fraction = bits & 0x3FF;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 0x1F) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

double value_at(const TorchTensor& tensor, std::size_t index) {
  switch (tensor.type) {
    case TorchType::kFloat:
      return static_cast<double>(number_at<float>(tensor.data, index));
    case TorchType::kDouble:
      return number_at<double>(tensor.data, index);
    case TorchType::kHalf:
      return half(number_at<std::uint16_t>(tensor.data, index));
    case TorchType::kBFloat16:
      break;
  }
  const auto bits = static_cast<std::uint32_t>(number_at<std::uint16_t>(tensor.data, index)) << 16;
  return static_cast<double>(std::bit_cast<float>(bits));
}

// 40 digits that are another file's only if its tensors are the same, as torch.save gives its files.
std::string serialization_id(std::span<const ZipEntry> entries) {
  std::uint32_t names = 0, data = 0;
  for (const ZipEntry& entry : entries) {
    names = crc32(std::as_bytes(std::span(entry.name)), names);
    data = crc32(entry.data, data);
  }
  return formatted("{:020}{:020}", names, data);
}

}  // namespace

TorchFile TorchFile::load(const std::filesystem::path& path) {
  std::error_code error;  // shows when it is read
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (!error && size >= kMostBytes) {
    throw Error(
        formatted("{} has {} bytes - allowed: less than {}, which archives of this form hold - give a state "
                  "dictionary",
                  path.string(), size, kMostBytes));
  }
  return parse(read_file(path, "read state dictionary"), path.string());
}

TorchFile TorchFile::parse(std::vector<std::byte> bytes, const std::string& source) {
  TorchFile file;
  file.source_ = source;
  file.bytes_ = std::move(bytes);
  // What torch.save wrote before it wrote archives: a pickle, of a long number to know it by.
  if (text_of(file.bytes_).starts_with("\x80\x02\x8a\x0a")) {
    throw Error(
        formatted("{} is in the form of PyTorch before 1.6 - allowed: a zip archive, as torch.save writes since - "
                  "load it with PyTorch and save it again",
                  source));
  }
  // Looked for before the archive is read, as code in it is compressed.
  if (text_of(file.bytes_).find(kProgramName) != std::string_view::npos) {
    throw Error(
        formatted("{} is a TorchScript program - allowed: a state dictionary - save model.state_dict() with "
                  "torch.save",
                  source));
  }
  const std::vector<ZipEntry> entries = read_zip(file.bytes_, source);
  const Folder folder = folder_of(entries, source);
  if (const auto order = folder.find(kByteOrderName); order != folder.end() && text_of(order->second) != kByteOrder) {
    throw Error(formatted("{} has the byte order {} - allowed: {} - save it on another machine", source,
                          in_quotes(text_of(order->second)), kByteOrder));
  }
  for (const PickledTensor& tensor : read_torch_pickle(folder.at(kPickleName), source)) {
    file.tensors_.push_back(checked(tensor, folder, source));
  }
  return file;
}

const TorchTensor* TorchFile::find(std::string_view name) const {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const TorchTensor& tensor) { return tensor.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

std::vector<float> TorchFile::numbers(const TorchTensor& tensor) const {
  const std::size_t count = count_of(tensor.shape).value();
  std::vector<float> numbers(count);
  Shape index(tensor.shape.size());
  std::size_t place = 0;
  for (float& number : numbers) {
    const double value = value_at(tensor, place);
    number = static_cast<float>(value);
    if (!std::isfinite(number)) {
      throw Error(formatted("{}: tensor {} has {} at [{}] - allowed: finite numbers of float32", source_,
                            in_quotes(tensor.name), shortest_text(value), joined(index)));
    }
    for (std::size_t i = index.size(); i-- > 0;) {
      place += tensor.strides[i];
      if (++index[i] < tensor.shape[i]) break;
      place -= index[i] * tensor.strides[i];
      index[i] = 0;
    }
  }
  return numbers;
}

std::string torch_file(std::span<const Tensor> tensors) {
  std::vector<PickledTensor> pickled;
  std::vector<std::string> storages;
  for (std::size_t i = 0; i < tensors.size(); ++i) storages.push_back(std::to_string(i));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& tensor = tensors[i];
    if (tensor.type != TensorType::kF32) throw Error(formatted("tensor {} is not of float32", in_quotes(tensor.name)));
    PickledTensor entry{tensor.name, type_info(TorchType::kFloat).storage,       storages[i], 1,
                        0,           {tensor.shape.begin(), tensor.shape.end()}, {}};
    for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
      entry.strides.insert(entry.strides.begin(), entry.storage_size);
      entry.storage_size *= entry.shape[axis];
    }
    pickled.push_back(std::move(entry));
  }
  const std::string pickle = torch_pickle(pickled);

  std::vector<std::string> names;
  std::vector<std::span<const std::byte>> data;
  const auto add = [&](std::string_view name, std::span<const std::byte> bytes) {
    names.push_back(formatted("{}{}", kFolder, name));
    data.push_back(bytes);
  };
  add(kPickleName, std::as_bytes(std::span(pickle)));
  add(kByteOrderName, std::as_bytes(std::span(kByteOrder)));
  for (std::size_t i = 0; i < tensors.size(); ++i) add(std::string(kStorageFolder) + storages[i], tensors[i].data);
  add(kVersionName, std::as_bytes(std::span(kVersion)));
  std::vector<ZipEntry> entries;
  for (std::size_t i = 0; i < names.size(); ++i) entries.push_back({names[i], data[i]});
  const std::string id = serialization_id(entries), id_name = formatted("{}.data/serialization_id", kFolder);
  entries.push_back({id_name, std::as_bytes(std::span(id))});
  return zip_archive(entries, kAlignment);
}

}  // namespace perilune
