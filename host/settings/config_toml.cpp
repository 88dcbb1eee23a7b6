// Reading TOML into a Config: the only file that includes toml++, which takes seconds to compile.
// See config.hpp.
#define TOML_ENABLE_FORMATTERS 0

// toml++ 3.3 asserts what input can break (a table header "[.a]"), and without assertions tells the
// compiler that it cannot happen. Here a broken assertion is an exception in every build;
// apply_toml reports it.
#include <stdexcept>
[[noreturn]] static void fail_toml_assertion() { throw std::invalid_argument("unexpected character"); }
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? void() : fail_toml_assertion())
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/settings/config.hpp"

namespace perilune {
namespace {

// A configuration is some kilobytes; anything this large is another file given by mistake.
constexpr std::size_t kMaxTomlBytes = 1 << 20;

// Text of an array that is no list of whole numbers, for the error that set_key makes of it.
std::string array_text(const toml::array& array) {
  std::string text;
  for (const toml::node& item : array) {
    const auto* integer = item.as_integer();
    text += text.empty() ? "" : ",";
    text += integer != nullptr ? std::to_string(integer->get()) : "?";
  }
  return formatted("[{}]", text);
}

// The value of a node. Text is refused where another type is meant, and the reverse: set_key would read it as that
// type.
Value node_value(const toml::node& node, const KeyInfo& key) {
  const bool takes_numbers = key.type == KeyType::kInteger || key.type == KeyType::kNumber;
  const auto require = [&](bool fits, std::string_view found, std::string_view value) {
    if (fits) return;
    throw UsageError(formatted("{} = {} is {}, not {} {} - allowed: {}", key.name, value, found,
                               key.type == KeyType::kInteger ? "an" : "a", type_name(key.type), key.allowed));
  };
  if (const auto* text = node.as_string()) {
    const bool may_be_none = key.type == KeyType::kNumber || key.type == KeyType::kList;
    require(key.type == KeyType::kText || key.type == KeyType::kChoice || (may_be_none && text->get() == "none"),
            "text", in_quotes(text->get()));
    return text->get();
  }
  if (const auto* boolean = node.as_boolean()) {
    const Value value = boolean->get();
    require(key.type == KeyType::kBoolean || key.type == KeyType::kChoice, "a boolean", value_text(value));
    return value;
  }
  if (const auto* integer = node.as_integer()) {
    const Value value = integer->get();
    require(takes_numbers || key.type == KeyType::kList, "a number", value_text(value));
    return value;
  }
  if (const auto* number = node.as_floating_point()) {
    const Value value = number->get();
    require(takes_numbers, "a number", value_text(value));
    return value;
  }
  if (const auto* array = node.as_array(); array != nullptr && key.type == KeyType::kList) {
    std::vector<std::int64_t> list;
    for (const toml::node& item : *array) {
      const auto* integer = item.as_integer();
      if (integer == nullptr) return array_text(*array);
      list.push_back(integer->get());
    }
    return list;
  }
  throw UsageError(formatted("{} is an array or a date, not one value - allowed: {}", key.name, key.allowed));
}

// Keys and values are ASCII; anything else is in a comment or wrong. It is hidden from the parser,
// which has undefined behaviour for some letters outside strings (toml++ 3.3,
// is_non_ascii_horizontal_whitespace). Lines stay the same.
std::string as_ascii(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::string ascii(text);
  std::replace_if(
      ascii.begin(), ascii.end(), [](char letter) { return (letter & 0x80) != 0; }, '?');
  return ascii;
}

// Appends the keys that it sets to `all_names`.
void apply_table(Config& config, const toml::table& table, const std::string& prefix, std::string_view source_name,
                 std::vector<std::string>& all_names) {
  std::vector<std::string> names;
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    names.push_back(name);
    if (const toml::table* inner = node.as_table()) {
      names.pop_back();
      apply_table(config, *inner, name + ".", source_name, all_names);
      continue;
    }
    try {
      require_no_rivals(names);
      set_key(config, name, node_value(node, find_key(name)));
    } catch (const UsageError& error) {
      throw UsageError(formatted("{}:{}: {}", source_name, key.source().begin.line, error.what()));
    }
  }
  all_names.insert(all_names.end(), names.begin(), names.end());
}

}  // namespace

std::vector<std::string> apply_toml(Config& config, std::string_view text, std::string_view source_name) {
  if (text.size() > kMaxTomlBytes) {
    throw UsageError(formatted("{} has {} bytes - a configuration has at most {} - is it the right file?", source_name,
                               text.size(), kMaxTomlBytes));
  }
  toml::table table;
  try {
    table = toml::parse(as_ascii(text), source_name);
  } catch (const toml::parse_error& error) {
    throw UsageError(
        formatted("{}:{}: not valid TOML: {}", source_name, error.source().begin.line, error.description()));
  } catch (const std::invalid_argument& error) {
    throw UsageError(formatted("{}: not valid TOML: {}", source_name, error.what()));
  }
  Config changed = config;
  std::vector<std::string> names;
  apply_table(changed, table, "", source_name, names);
  config = std::move(changed);
  return names;
}

std::vector<std::string> apply_toml_file(Config& config, const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_io("read configuration", path, errno);
  std::string text(kMaxTomlBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || std::filesystem::is_directory(path)) fail_io("read configuration", path, EISDIR);
  text.resize(static_cast<std::size_t>(file.gcount()));
  return apply_toml(config, text, path.string());
}

}  // namespace perilune
