// Values of keys: from text, into a Config under the rules of the key table, and back. See config.hpp.
#include <algorithm>
#include <cmath>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"
#include "host/settings/config_table.hpp"
#include "kernels/api.hpp"

namespace perilune {
namespace {

// A value for a key, and how the user wrote it.
struct Given {
  std::string_view key;
  Value value;
  std::string written;

  [[noreturn]] void fail(std::string_view problem, std::string_view allowed) const {
    throw UsageError(formatted("{} = {} {} - allowed: {}", key, in_quotes(written), problem, allowed));
  }
};

// ---- text to values ----

// "2048,1536", with or without blanks and brackets; nothing if it is no list of whole numbers.
std::optional<std::vector<std::int64_t>> read_list(std::string_view text) {
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  std::vector<std::int64_t> list;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    const std::optional<std::int64_t> number = read_integer(item);
    if (!number) return std::nullopt;
    list.push_back(*number);
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);
  }
  return list;
}

// Text that is a value of this type as that value; other text as it is.
Value read_value(KeyType type, const std::string& text) {
  switch (type) {
    case KeyType::kInteger:
      if (const auto integer = read_integer(text)) return *integer;
      if (const auto number = read_number(text)) return *number;
      break;
    case KeyType::kNumber:
      if (text == "none") return {};
      if (const auto number = read_number(text)) return *number;
      break;
    case KeyType::kBoolean:
      if (text == "true" || text == "1") return true;
      if (text == "false" || text == "0") return false;
      break;
    case KeyType::kList:
      if (text == "none") return {};
      if (auto list = read_list(text)) return std::move(*list);
      break;
    case KeyType::kText:
    case KeyType::kChoice:
      break;
  }
  return text;
}

// ---- values to what fields hold ----

bool boolean_of(const Given& given) {
  if (const bool* boolean = std::get_if<bool>(&given.value)) return *boolean;
  const std::int64_t* integer = std::get_if<std::int64_t>(&given.value);
  if (integer != nullptr && (*integer == 0 || *integer == 1)) return *integer == 1;
  given.fail("is not a boolean", "true | false");
}

// Nothing if it is no number, or not finite.
std::optional<double> finite_number(const Value& value) {
  if (const std::int64_t* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  const double* number = std::get_if<double>(&value);
  return number != nullptr && std::isfinite(*number) ? std::optional(*number) : std::nullopt;
}

double number_of(const Given& given, const Range& range, std::string_view allowed) {
  const std::optional<double> number = finite_number(given.value);
  if (!number) given.fail("is not a number", allowed);
  if (!range.contains(*number)) given.fail("is out of range", allowed);
  return *number;
}

double number_of(const Given& given, const Key& key) { return number_of(given, {key.min, key.max}, range_text(key)); }

// Also takes whole numbers among floating-point ones (1e6), as people write step counts.
std::int64_t integer_of(const Given& given, const Key& key) {
  const std::string allowed = "a whole number, " + range_text(key);
  const std::optional<double> number = finite_number(given.value);
  if (!number || *number != std::floor(*number)) given.fail("is not an integer", allowed);
  if (*number < key.min || *number > key.max) given.fail("is out of range", allowed);
  const std::int64_t* integer = std::get_if<std::int64_t>(&given.value);
  return integer != nullptr ? *integer : static_cast<std::int64_t>(*number);
}

std::vector<int> list_of(const Given& given, const Key& key) {
  const std::string allowed =
      formatted("1 to {} whole numbers separated by commas, each {}", kMaxHiddenLayers, range_text(key));
  std::vector<std::int64_t> numbers;
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&given.value)) numbers = *list;
  if (const std::int64_t* one = std::get_if<std::int64_t>(&given.value)) numbers = {*one};
  if (numbers.empty()) given.fail("is not a list of whole numbers", allowed);
  std::vector<int> sizes;
  for (const std::int64_t number : numbers) {
    const auto size = static_cast<double>(number);
    if (size < key.min || size > key.max) given.fail("is out of range", allowed);
    sizes.push_back(static_cast<int>(number));
  }
  if (sizes.size() > kMaxHiddenLayers) given.fail("has too many layers", allowed);
  return sizes;
}

// Run names become part of a directory's name.
std::string name_of(const Given& given) {
  const std::string& name = given.written;
  const auto is_allowed = [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           letter == '.' || letter == '_' || letter == '-';
  };
  if (name.empty() || name.size() > 64 || name[0] == '.' || !std::all_of(name.begin(), name.end(), is_allowed)) {
    given.fail("cannot be part of a directory name", "1 to 64 letters, digits and . _ - (not . at the start)");
  }
  return name;
}

std::size_t choice_of(const Given& given, const ChoiceField& field) {
  const auto is_meant = [&](const ChoiceName& choice) {
    return choice.name == given.written || (choice.boolean && given.written == (*choice.boolean ? "true" : "false"));
  };
  const auto found = std::find_if(field.names.begin(), field.names.end(), is_meant);
  if (found == field.names.end()) given.fail("is unknown", choices_text(field));
  return static_cast<std::size_t>(found - field.names.begin());
}

void set_field(Config& config, const Key& key, const Given& given) {
  const bool is_none = std::holds_alternative<std::monostate>(given.value);
  std::visit(Overloaded{
                 [&](std::string Config::*field) {
                   config.*field =
                       field == &Config::env_id ? std::string(find_environment(given.written).id) : name_of(given);
                 },
                 [&](bool Config::*field) { config.*field = boolean_of(given); },
                 [&](int Config::*field) {
                   config.*field = static_cast<int>(integer_of(given, key));
                   if (is_uniform_key(key.name)) config.hidden_sizes.clear();
                 },
                 [&](std::int64_t Config::*field) { config.*field = integer_of(given, key); },
                 [&](double Config::*field) { config.*field = number_of(given, key); },
                 [&](std::optional<double> Config::*field) {
                   config.*field = is_none ? std::nullopt : std::optional(number_of(given, key));
                 },
                 [&](std::vector<int> Config::*field) {
                   if (is_none) return (config.*field).clear();
                   config.*field = list_of(given, key);
                   config.hidden_width = Config().hidden_width;
                   config.hidden_layers = Config().hidden_layers;
                 },
                 [&](const ChoiceField& field) { field.set(config, choice_of(given, field)); },
             },
             key.field);
}

void set_parameter(Config& config, const Given& given) {
  const std::string_view name = given.key.substr(kParameterPrefix.size());
  for (const EnvironmentInfo& environment : environments()) {
    if (const EnvironmentParameter* parameter = find_parameter(environment, name)) {
      const bool is_boolean = parameter->type == ParameterType::kBoolean;
      config.env_parameters[std::string(name)] =
          is_boolean ? (boolean_of(given) ? 1.0 : 0.0)
                     : number_of(given, parameter->allowed, range_text(parameter->allowed));
      return;
    }
  }
}

}  // namespace

void set_key(Config& config, std::string_view key, const Value& value) {
  const KeyInfo& info = find_key(key);
  Given given{key, value, value_text(value)};
  if (const std::string* text = std::get_if<std::string>(&value)) given.value = read_value(info.type, *text);
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) {
    given.written = formatted("[{}]", joined(*list, ","));
  }
  if (key.starts_with(kParameterPrefix)) return set_parameter(config, given);
  for (const Key& row : keys()) {
    if (row.name == key) set_field(config, row, given);
  }
}

// ---- and back ----

std::string value_text(const Value& value) {
  return std::visit(Overloaded{
                        [](std::monostate) { return std::string("none"); },
                        [](bool boolean) { return std::string(boolean ? "true" : "false"); },
                        [](std::int64_t integer) { return std::to_string(integer); },
                        [](double number) { return shortest_text(number); },
                        [](const std::string& text) { return text; },
                        [](const std::vector<std::int64_t>& list) { return joined(list); },
                    },
                    value);
}

Value field_value(const Config& config, const Field& field) {
  return std::visit(
      Overloaded{
          [&](std::optional<double> Config::*member) { return config.*member ? Value(*(config.*member)) : Value(); },
          [&](std::vector<int> Config::*member) {
            const std::vector<int>& list = config.*member;
            return list.empty() ? Value() : Value(std::vector<std::int64_t>(list.begin(), list.end()));
          },
          [&](const ChoiceField& choice) {
            const std::string_view name = choice.names[choice.get(config)].name;
            return name == "none" ? Value() : Value(std::string(name));
          },
          [&](auto member) { return Value(config.*member); },
      },
      field);
}

Value parameter_value(const EnvironmentParameter& parameter, double value) {
  return parameter.type == ParameterType::kBoolean ? Value(value != 0.0) : Value(value);
}

std::optional<Value> value_of(const Config& config, std::string_view key) {
  if (key.starts_with(kParameterPrefix)) {
    const EnvironmentParameter* parameter =
        find_parameter(find_environment(config.env_id), key.substr(kParameterPrefix.size()));
    if (parameter == nullptr) return std::nullopt;
    return parameter_value(*parameter, env_parameter(config, *parameter));
  }
  for (const Key& row : keys()) {
    if (row.name == key) return field_value(config, row.field);
  }
  find_key(key);  // throws
  return std::nullopt;
}

std::string value_text(const Config& config, std::string_view key) {
  const std::optional<Value> value = value_of(config, key);
  return value ? value_text(*value) : "";
}

}  // namespace perilune
