// What is known of an environment beside how it moves: its names, sizes, limits, parameters and what a step costs.
//
// Each simulator says it once, as constants of its type; environment_info<E>() (sims/env.hpp) gathers them. Plain C
// structs outside the level namespace, so that all levels, the host and a library that was compiled elsewhere mean the
// same type. Their member functions are for the host; levels fill the structs at compile time and call none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>

namespace perilune {

/// An array that lives as long as the program, and its length.
template <class T>
struct List {
  const T* data;
  std::int32_t count;

  constexpr const T* begin() const { return data; }
  constexpr const T* end() const { return data + count; }
  constexpr std::size_t size() const { return static_cast<std::size_t>(count); }
  constexpr bool empty() const { return count == 0; }
  constexpr const T& operator[](std::size_t i) const { return data[i]; }
};

/// The list of an array's elements.
template <class Array>
consteval auto list_of(const Array& array) {
  return List<typename Array::value_type>{std::data(array), static_cast<std::int32_t>(std::size(array))};
}

/// Numbers from min to max; `open`: between them, without the two themselves.
struct Range {
  double min;
  double max;
  bool open = false;

  constexpr bool contains(double value) const {
    return open ? min < value && value < max : min <= value && value <= max;
  }
};

enum class ParameterType : std::int32_t { kBoolean, kNumber };

/// One tunable number of an environment, set with the key "env.<name>". Booleans are 0 and 1.
struct EnvironmentParameter {
  const char* name;
  ParameterType type;
  double default_value;
  Range allowed;
  const char* help;
  Range advised = allowed;  ///< others are allowed, with a warning
};

consteval EnvironmentParameter boolean_parameter(const char* name, bool default_value, const char* help) {
  return {name, ParameterType::kBoolean, default_value ? 1.0 : 0.0, {0.0, 1.0}, help};
}

/// One number of an observation, and the ends of its range in Gymnasium's observation space.
struct ObservationNumber {
  const char* name;
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

/// What actions there are. Gymnasium's Box: an action is `size` numbers, clipped to [-1, 1]; its Discrete: one of
/// `size` choices.
struct ActionSpace {
  bool continuous;
  std::int32_t size;

  /// How many numbers an action is.
  constexpr std::int32_t numbers() const { return continuous ? size : 1; }
};

/// What a step of the simulator alone costs, for the performance model.
struct StepCost {
  double cpu_flop;  ///< FLOP that take a CPU's core as long
  /// Instructions of a GPU's warp for one environment, and for each more that it has, as far as they diverge. 0: as the
  /// machine code of Simulate<CartPole> (host/planning/performance_model.cpp).
  double gpu_instructions = 0.0;
  double gpu_instructions_more = 0.0;
};

struct EnvironmentInfo {
  const char* id;             ///< Gymnasium's id
  List<const char*> aliases;  ///< also accepted, in any case
  List<ObservationNumber> observation;
  ActionSpace action_space;
  std::int32_t max_episode_steps;  ///< the time limit: truncation after this many steps
  double solved_return;            ///< Gymnasium's reward threshold
  List<EnvironmentParameter> parameters;
  List<const char*> field_names;  ///< of a state
  std::int32_t bodies;            ///< rigid bodies that can be asked for, 0 if it has none
  bool uneven;                    ///< some steps take much longer than others (UnevenEnv)
  /// Of a step with these parameters (in their order).
  StepCost (*step_cost)(const double* parameters);
  /// The most that an episode of so many steps can return, with these parameters. Null: not known simply.
  double (*highest_return)(const double* parameters, std::int64_t steps);

  constexpr std::int32_t observation_dim() const { return observation.count; }
};

}  // namespace perilune
