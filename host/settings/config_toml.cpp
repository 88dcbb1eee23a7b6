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

// The value as set_key takes it. A string is refused where a number or boolean is meant, and the
// reverse: what set_key cannot see, because on the command line everything is text.
std::string scalar_text(const toml::node& node, const KeyInfo& key) {
  const auto require = [&](bool fits, std::string_view found, std::string_view value) {
    if (fits) return;
    throw UsageError(formatted("{} = {} is {}, not {} {} - allowed: {}", key.name, value, found,
                               key.type == "integer" ? "an" : "a", key.type, key.allowed));
  };
  const bool takes_numbers = key.type == "integer" || key.type == "number";
  if (const auto* text = node.as_string()) {
    require(key.type == "text" || key.type == "choice" ||
                ((key.type == "number" || key.type == "list") && text->get() == "none"),
            "text", in_quotes(text->get()));
    return text->get();
  }
  if (const auto* boolean = node.as_boolean()) {
    const std::string text = boolean->get() ? "true" : "false";
    require(key.type == "boolean" || key.type == "choice", "a boolean", text);
    return text;
  }
  if (const auto* integer = node.as_integer()) {
    const std::string text = std::to_string(integer->get());
    require(takes_numbers || key.type == "list", "a number", text);
    return text;
  }
  if (const auto* number = node.as_floating_point()) {
    const std::string text = shortest_text(number->get());
    require(takes_numbers, "a number", text);
    return text;
  }
  if (const auto* array = node.as_array(); array != nullptr && key.type == "list") {
    std::string text;
    for (const toml::node& item : *array) {
      const auto* integer = item.as_integer();
      text += text.empty() ? "" : ",";
      text += integer != nullptr ? std::to_string(integer->get()) : "?";
    }
    return "[" + text + "]";
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
      set_key(config, name, scalar_text(node, find_key(name)));
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
