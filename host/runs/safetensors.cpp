// See safetensors.hpp.
#include "host/runs/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "host/base/error.hpp"
#include "host/base/files.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 16 << 20;
constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
constexpr std::string_view kMetadataName = "__metadata__";

struct TypeInfo {
  TensorType type;
  std::string_view name;
  std::uint64_t size;
};
constexpr std::array<TypeInfo, 7> kTypes = {{{TensorType::kU8, "U8", 1},
                                             {TensorType::kI32, "I32", 4},
                                             {TensorType::kU32, "U32", 4},
                                             {TensorType::kF32, "F32", 4},
                                             {TensorType::kI64, "I64", 8},
                                             {TensorType::kU64, "U64", 8},
                                             {TensorType::kF64, "F64", 8}}};

const TypeInfo& type_info(TensorType type) {
  return *std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeInfo& info) { return info.type == type; });
}

std::string shape_text(const Shape& shape) { return formatted("[{}]", joined(shape)); }

// Bytes of a tensor, or nothing when the product overflows.
std::optional<std::uint64_t> byte_count(TensorType type, const Shape& shape) {
  std::uint64_t count = type_info(type).size;
  for (std::uint64_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count)) return std::nullopt;
  }
  return count;
}

[[noreturn]] void fail_format(const std::string& source, std::string_view problem) {
  throw Error(formatted("{} is damaged or not a safetensors file: {} - use another checkpoint", source, problem));
}

// The header as JSON. The parser itself keeps the last of two equal keys, so they are looked for
// while it runs; the deepest value a header holds is a number in an array in a tensor in the
// header, so nothing may be deeper.
json parse_header(std::string_view text, const std::string& source) {
  constexpr int kMaxDepth = 3;
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth) fail_format(source, "its header is nested too deeply");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      fail_format(source, formatted("the name {} appears twice", in_quotes(value.get<std::string>())));
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) {
    fail_format(source, formatted("its header is not JSON ({})", error.what()));
  }
  if (!header.is_object()) fail_format(source, "its header is not a JSON object");
  return header;
}

Metadata parse_metadata(const json& value, const std::string& source) {
  if (!value.is_object()) fail_format(source, "its metadata is not an object of strings");
  Metadata metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) fail_format(source, formatted("its metadata {} is not a string", in_quotes(key)));
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

std::vector<std::uint64_t> parse_numbers(const json& tensor, const char* field, const std::string& fault,
                                         const std::string& source) {
  const auto found = tensor.find(field);
  if (found == tensor.end() || !found->is_array()) fail_format(source, fault + " has no array " + field);
  std::vector<std::uint64_t> numbers;
  for (const json& number : *found) {
    if (!number.is_number_unsigned()) fail_format(source, fault + " has something but whole numbers in " + field);
    numbers.push_back(number.get<std::uint64_t>());
  }
  return numbers;
}

// One entry of the header: the tensor, whose data is not set yet, and its offsets.
struct Entry {
  Tensor tensor;
  std::uint64_t begin;
  std::uint64_t end;
};

Entry parse_entry(const std::string& name, const json& value, std::uint64_t data_bytes, const std::string& source) {
  const std::string tensor_name = "tensor " + in_quotes(name);
  if (!value.is_object() || value.size() != 3) {
    fail_format(source, tensor_name + " has something but dtype, shape and data_offsets");
  }
  const auto type_name = value.find("dtype");
  if (type_name == value.end() || !type_name->is_string()) fail_format(source, tensor_name + " has no dtype");
  const auto type = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeInfo& info) {
    return info.name == type_name->get_ref<const std::string&>();
  });
  if (type == kTypes.end()) {
    throw Error(formatted("{}: {} has dtype {} - allowed: U8, I32, U32, F32, I64, U64, F64 - convert the file", source,
                          tensor_name, in_quotes(type_name->get<std::string>())));
  }
  Shape shape = parse_numbers(value, "shape", tensor_name, source);
  const std::vector<std::uint64_t> offsets = parse_numbers(value, "data_offsets", tensor_name, source);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) fail_format(source, tensor_name + " has impossible data_offsets");
  if (offsets[1] > data_bytes) {
    throw Error(formatted("{} is truncated: {} ends at byte {} of the data, which has {} - use another checkpoint",
                          source, tensor_name, offsets[1], data_bytes));
  }
  if (byte_count(type->type, shape) != offsets[1] - offsets[0]) {
    fail_format(source, formatted("{} has {} bytes, which is not {} of shape {}", tensor_name, offsets[1] - offsets[0],
                                  type->name, shape_text(shape)));
  }
  return {{name, type->type, std::move(shape), {}}, offsets[0], offsets[1]};
}

}  // namespace

SafetensorsFile SafetensorsFile::load(const std::filesystem::path& path) {
  return parse(read_file(path, "read checkpoint"), path.string());
}

SafetensorsFile SafetensorsFile::parse(std::vector<std::byte> bytes, const std::string& source) {
  SafetensorsFile file;
  file.source_ = source;
  file.bytes_ = std::move(bytes);
  const std::span<const std::byte> all = file.bytes_;

  std::uint64_t header_bytes = 0;
  if (all.size() < kLengthBytes) {
    fail_format(source, formatted("it has {} bytes, too few for a header", all.size()));
  }
  std::memcpy(&header_bytes, all.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes) {
    fail_format(source, formatted("its header length {} is over {}", header_bytes, kMaxHeaderBytes));
  }
  if (header_bytes > all.size() - kLengthBytes) {
    throw Error(
        formatted("{} is truncated or not a safetensors file: its header has {} bytes, the file {} - use "
                  "another checkpoint",
                  source, header_bytes, all.size()));
  }
  const std::span<const std::byte> header_text = all.subspan(kLengthBytes, header_bytes);
  const std::span<const std::byte> data = all.subspan(kLengthBytes + header_bytes);

  const json header = parse_header({reinterpret_cast<const char*>(header_text.data()), header_text.size()}, source);
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataName) {
      file.metadata_ = parse_metadata(value, source);
    } else {
      entries.push_back(parse_entry(name, value, data.size(), source));
    }
  }

  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t covered = 0;
  for (Entry& entry : entries) {
    if (entry.begin != covered) {
      fail_format(source, formatted("tensor {} begins at byte {} of the data, the one before it ends at {}",
                                    in_quotes(entry.tensor.name), entry.begin, covered));
    }
    covered = entry.end;
    entry.tensor.data = data.subspan(entry.begin, entry.end - entry.begin);
    file.tensors_.push_back(std::move(entry.tensor));
  }
  if (covered != data.size()) {
    fail_format(source, formatted("{} bytes at its end belong to no tensor", data.size() - covered));
  }
  return file;
}

const Tensor* SafetensorsFile::find(std::string_view name) const {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const Tensor& tensor) { return tensor.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

void SafetensorsFile::copy_bytes(std::string_view name, TensorType type, const Shape& shape,
                                 std::span<std::byte> out) const {
  const Tensor* tensor = find(name);
  if (tensor == nullptr) {
    throw Error(formatted("{} has no tensor {} - it is a checkpoint of something else", source_, in_quotes(name)));
  }
  if (tensor->type != type || tensor->shape != shape) {
    throw Error(formatted("{}: tensor {} is {} {}, expected {} {} - it is a checkpoint of another shape", source_,
                          in_quotes(name), type_info(tensor->type).name, shape_text(tensor->shape),
                          type_info(type).name, shape_text(shape)));
  }
  if (tensor->data.size() != out.size()) {
    throw Error(formatted("{}: tensor {} has {} bytes, the place for it {}", source_, in_quotes(name),
                          tensor->data.size(), out.size()));
  }
  if (!out.empty()) std::memcpy(out.data(), tensor->data.data(), out.size());
}

std::string safetensors_header(std::span<const Tensor> tensors, const Metadata& metadata) {
  json header = json::object();
  if (!metadata.empty()) header[std::string(kMetadataName)] = metadata;
  std::uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    if (header.contains(tensor.name) || tensor.name == kMetadataName) {
      throw Error(formatted("tensor name {} is used twice or reserved", in_quotes(tensor.name)));
    }
    if (byte_count(tensor.type, tensor.shape) != tensor.data.size()) {
      throw Error(formatted("tensor {} has {} bytes, which is not {} of shape {}", in_quotes(tensor.name),
                            tensor.data.size(), type_info(tensor.type).name, shape_text(tensor.shape)));
    }
    header[tensor.name] = {{"dtype", type_info(tensor.type).name},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.data.size()}}};
    offset += tensor.data.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string out(kLengthBytes, '\0');
  std::memcpy(out.data(), &length, kLengthBytes);
  return out + text;
}

void write_safetensors(const std::filesystem::path& path, std::span<const Tensor> tensors, const Metadata& metadata,
                       const std::filesystem::path& previous) {
  const std::string header = safetensors_header(tensors, metadata);
  std::vector<std::span<const std::byte>> pieces = {std::as_bytes(std::span(header))};
  for (const Tensor& tensor : tensors) pieces.push_back(tensor.data);
  replace_file(path, pieces, previous);
}

}  // namespace perilune
