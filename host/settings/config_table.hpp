// The key table: what the files of the configuration know of its keys. Others ask config.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "host/settings/config.hpp"

namespace perilune {

// A value of a choice; `boolean`: what it is also written as.
struct ChoiceName {
  std::string_view name;
  std::optional<bool> boolean;
};

// A field of an enum type. Its values are counted in the order in which users see them.
struct ChoiceField {
  std::vector<ChoiceName> names;
  std::size_t (*get)(const Config&);
  void (*set)(Config&, std::size_t);
};

using Field = std::variant<std::string Config::*, bool Config::*, int Config::*, std::int64_t Config::*,
                           double Config::*, std::optional<double> Config::*, std::vector<int> Config::*, ChoiceField>;

// What a checkpoint's arrays and the episodes that go on depend on is fixed: shapes, networks, their arithmetic, random
// numbers, and the task (episodes are under way in it, and a run's curve and evaluations are of one task). What says
// how the next iterations learn, the discount included, or when the host looks, may change: nothing kept depends on it.
enum class OnResume { kMayChange, kFixed };

struct Key {
  std::string_view name;
  Field field;
  double min;  // min and max apply to numbers
  double max;
  std::string_view help;
  OnResume on_resume = OnResume::kMayChange;
};

// In the order in which they are listed and printed; environment parameters are not among them.
const std::vector<Key>& keys();

// What a key is called that is an environment parameter: this and its name.
inline constexpr std::string_view kParameterPrefix = "env.";

// Hidden layers of one size; hidden_sizes is the other way to say it.
inline constexpr std::array<std::string_view, 2> kUniformKeys = {"hidden_width", "hidden_layers"};
inline constexpr std::string_view kSizesKey = "hidden_sizes";
bool is_uniform_key(std::string_view name);

// "1 .. 4096", as people write limits: 4294967295, 1e-20, 0.99999.
std::string range_text(const Key& key);
// "tanh | relu".
std::string choices_text(const ChoiceField& field);

Value field_value(const Config& config, const Field& field);
Value parameter_value(const EnvironmentParameter& parameter, double value);

// For std::visit.
template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

}  // namespace perilune
