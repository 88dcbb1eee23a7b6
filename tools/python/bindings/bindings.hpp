// The parts of the native module, and what they share. nanobind is included here and nowhere in the
// host.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "host/planning/device_choice.hpp"
#include "host/settings/config.hpp"
#include "host/training/evaluation.hpp"

namespace perilune::python {

namespace nb = nanobind;

// Environment parameters by name, without "env."; a boolean is 0 or 1.
using Parameters = std::map<std::string, double, std::less<>>;

// device: "auto", "cpu" or "cuda". threads: CPU threads, none for one per core; _arguments.py has checked the range.
SelectedDevice open_device(const std::string& device, std::optional<int> threads);
// The same, with "auto" for this work; without it that is a GPU if there is one.
SelectedDevice open_device(const std::string& device, std::optional<int> threads, const Work& work);

// Keys and values in order, as Python passes them: a str is what the command line takes.
using PythonSettings = std::vector<std::pair<std::string, Value>>;
std::vector<Setting> settings_of(const PythonSettings& settings);

// The numbers of an observation by name, in order: (low, high) of each.
nb::dict observation_dict(const EnvironmentInfo& environment);
nb::dict evaluation_dict(const EvaluationResult& result);
// Every key by name, with Python's values (None for none); environment parameters as "env.<name>".
nb::dict config_dict(const Config& config);

void bind_tables(nb::module_& module);
void bind_arrays(nb::module_& module);
void bind_vector_env(nb::module_& module);
void bind_policy(nb::module_& module);
void bind_training(nb::module_& module);

}  // namespace perilune::python
