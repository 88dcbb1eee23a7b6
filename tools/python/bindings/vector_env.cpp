// Batches of environments for Python: host/environments/vector_env.hpp with arrays from pools, and Gymnasium's
// infos.

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>

#include "host/base/error.hpp"
#include "host/base/exclusive.hpp"
#include "host/base/format.hpp"
#include "host/environments/vector_env.hpp"
#include "tools/python/bindings/arrays.hpp"

namespace perilune::python {
namespace {

// Below this many environments a step is shorter than giving the interpreter lock away and taking
// it again.
constexpr int kUnlockFrom = 512;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Autoreset autoreset_of(const std::string& mode) {
  if (mode == "NextStep") return Autoreset::kNextStep;
  if (mode == "SameStep") return Autoreset::kSameStep;
  if (mode == "Disabled") return Autoreset::kDisabled;
  throw UsageError(formatted("autoreset_mode \"{}\" is unknown - allowed: NextStep, SameStep, Disabled", mode));
}

template <class T>
nb::object owned_array(std::vector<T> values, std::vector<std::size_t> shape) {
  auto* keep = new std::vector<T>(std::move(values));
  const nb::capsule owner(keep, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::cast(nb::ndarray<nb::numpy, T>(keep->data(), shape.size(), shape.data(), owner), nb::rv_policy::reference);
}

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class Array>
auto to_vector(const Array& array) {
  using T = std::remove_const_t<typename Array::Scalar>;
  return std::vector<T>(array.data(), array.data() + array.size());
}

// Releases the interpreter lock where asked.
class MaybeUnlocked {
 public:
  explicit MaybeUnlocked(bool unlock) : state_(unlock ? PyEval_SaveThread() : nullptr) {}
  ~MaybeUnlocked() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  MaybeUnlocked(const MaybeUnlocked&) = delete;
  MaybeUnlocked& operator=(const MaybeUnlocked&) = delete;

 private:
  PyThreadState* state_;
};

// The array a step writes: NumPy's of the CPU, or one of the device.
class OutputPool {
 public:
  OutputPool(const std::shared_ptr<SharedDevice>& device, bool as_numpy, std::vector<std::size_t> shape,
             ArrayType type) {
    if (as_numpy) {
      numpy_.emplace(std::move(shape), type);
    } else {
      device_.emplace(device, std::move(shape), type);
    }
  }

  // zeroed: on the CPU; what lies on a GPU keeps what an earlier step left.
  template <class T>
  nb::object take(T*& data, bool zeroed = false) {
    if (numpy_) {
      NumpyPool::Taken taken = numpy_->take(zeroed);
      data = static_cast<T*>(taken.data);
      return std::move(taken.array);
    }
    DevicePool::Taken taken = device_->take();
    data = static_cast<T*>(taken.data);
    return std::move(taken.array);
  }

 private:
  std::optional<NumpyPool> numpy_;
  std::optional<DevicePool> device_;
};

class PythonVectorEnv {
 public:
  PythonVectorEnv(const std::string& env_id, std::int64_t num_envs, Parameters parameters,
                  std::int64_t max_episode_steps, const std::string& autoreset, const std::string& device,
                  std::optional<int> threads, std::optional<bool> as_numpy, bool statistics)
      : device_(std::make_shared<SharedDevice>(open_device(device, threads).device)),
        options_{env_id, num_envs, std::move(parameters), max_episode_steps, autoreset_of(autoreset)},
        env_(std::make_shared<VectorEnv>(options_, *device_->device)),
        info_(env_->environment()),
        count_(static_cast<std::size_t>(env_->num_envs())),
        dim_(static_cast<std::size_t>(info_.observation_dim())),
        is_cuda_(device_->device->is_cuda()),
        as_numpy_(as_numpy.value_or(!is_cuda_)),
        statistics_(statistics),
        observations_(device_, as_numpy_, {count_, dim_}, ArrayType::kFloat32),
        final_observations_(observations_),
        rewards_(device_, as_numpy_, {count_}, ArrayType::kFloat32),
        returns_(rewards_),
        lengths_(device_, as_numpy_, {count_}, ArrayType::kInt32),
        flags_(device_, as_numpy_, {count_}, ArrayType::kBool),
        times_({count_}, ArrayType::kFloat64),
        started_(count_, 0.0) {
    if (as_numpy_ && is_cuda_) {
      throw UsageError(
          "arrays = \"numpy\" is not possible on a GPU - allowed: \"dlpack\" - use x.numpy() where "
          "a copy is wanted");
    }
  }

  nb::object reset(std::optional<std::int64_t> seed, std::vector<std::optional<std::int64_t>> seeds,
                   std::optional<Vector<std::uint8_t>> mask);
  nb::tuple step(nb::handle actions);
  nb::object observe();
  nb::tuple states(std::optional<std::vector<std::int64_t>> indices);
  void set_states(std::optional<std::vector<std::int64_t>> indices, Matrix<float> fields, Vector<std::uint32_t> episode,
                  Vector<std::uint32_t> elapsed, Vector<float> episode_return, Vector<std::uint8_t> ended,
                  Vector<std::uint32_t> seed, Vector<std::uint32_t> number, std::optional<Vector<double>> seconds);
  nb::object seconds() const;
  void check() {
    const std::shared_ptr<VectorEnv> env = this->env();
    const nb::gil_scoped_release unlocked;
    env->check();
  }
  void close() { env_.reset(); }

  bool is_closed() const { return env_ == nullptr; }
  bool was_reset() const { return env_ != nullptr && env_->was_reset(); }
  bool is_continuous() const { return info_.action_space.continuous; }
  int num_actions() const { return info_.action_space.size; }
  nb::dict observation() const { return observation_dict(info_); }
  std::int64_t max_episode_steps() { return env()->max_episode_steps(); }
  std::string env_id() { return std::string(env()->environment().id); }
  std::string device_text() const { return device_->device->description(); }
  bool is_cuda() const { return is_cuda_; }
  std::vector<std::string> field_names() {
    const auto names = env()->field_names();
    return {names.begin(), names.end()};
  }

 private:
  // Held by a call until it ends: another thread may close meanwhile.
  std::shared_ptr<VectorEnv> env() const {
    if (!env_) throw Error("the environments are closed - make new ones");
    return env_;
  }
  ActionType action_type(const InputArray& actions);
  const void* converted(const InputArray& actions, ActionType& type);
  const void* on_device(const void* actions, ActionType type);
  std::vector<std::uint32_t> mark_ended(const std::uint8_t* terminated, const std::uint8_t* truncated,
                                        std::uint8_t* ended) const;
  nb::dict infos(nb::object returns, nb::object lengths, nb::object final_observations, const std::uint8_t* terminated,
                 const std::uint8_t* truncated);

  std::shared_ptr<SharedDevice> device_;
  VectorEnvOptions options_;
  std::shared_ptr<VectorEnv> env_;
  const EnvironmentInfo& info_;  // lives as long as the program
  std::size_t count_, dim_;
  bool is_cuda_, as_numpy_, statistics_;
  std::atomic<bool> in_use_{false};
  OutputPool observations_, final_observations_, rewards_, returns_, lengths_, flags_;
  NumpyPool times_;
  std::vector<double> started_;         // [N]: when the running episode began
  std::vector<std::uint32_t> pending_;  // environments that the next step resets
  std::vector<std::int64_t> integers_;  // actions of a type that is converted first
  std::vector<double> numbers_;
  std::shared_ptr<DeviceMemory> staged_;  // actions on their way to a GPU
};

nb::object PythonVectorEnv::reset(std::optional<std::int64_t> seed, std::vector<std::optional<std::int64_t>> seeds,
                                  std::optional<Vector<std::uint8_t>> mask) {
  const std::shared_ptr<VectorEnv> env = this->env();
  const Exclusive use(in_use_, "this VectorEnv");
  ResetOptions options;
  options.seed = seed;
  options.seeds = std::move(seeds);
  if (mask) options.mask = {mask->data(), mask->size()};
  float* data = nullptr;
  nb::object observations = observations_.take(data);
  device_->wait_for_readers();
  {
    const MaybeUnlocked unlocked(count_ >= kUnlockFrom);
    env->reset(options, data);
  }
  const double time = now();
  for (std::size_t i = 0; i < count_; ++i) {
    if (!mask || mask->data()[i] != 0) started_[i] = time;
  }
  if (mask) {
    std::erase_if(pending_, [&](std::uint32_t i) { return mask->data()[i] != 0; });
  } else {
    pending_.clear();
  }
  return observations;
}

// What the actions lie in memory as, once their shape and type are seen to be right.
ActionType PythonVectorEnv::action_type(const InputArray& actions) {
  const ActionSpace& space = info_.action_space;
  const auto numbers = static_cast<std::size_t>(space.numbers());
  const bool is_number = actions.kind == 'f';
  const bool is_integer = actions.kind == 'i' || actions.kind == 'u' || actions.kind == 'b';
  if (!(is_integer || (space.continuous && is_number && actions.item >= 4 && actions.item <= 8))) {
    throw nb::type_error(space.continuous
                             ? "actions have a type that is no number - allowed: float32, float64"
                             : "actions have a type that is no integer - allowed: int64, int32 and other integers");
  }
  const bool fits = space.continuous
                        ? actions.shape.size() == 2 && actions.shape[0] == count_ && actions.shape[1] == numbers
                        : actions.shape.size() == 1 && actions.shape[0] == count_;
  if (!fits) {
    const std::string allowed = space.continuous ? formatted("({}, {})", count_, numbers) : formatted("({},)", count_);
    throw UsageError(formatted("actions have shape {} - allowed: {}, {} per environment", shape_text(actions.shape),
                               allowed, space.continuous ? "a row" : "one"));
  }
  if (space.continuous) return actions.item == 4 && is_number ? ActionType::kFloat32 : ActionType::kFloat64;
  return actions.kind == 'i' && actions.item == 4 ? ActionType::kInt32 : ActionType::kInt64;
}

template <class To>
void convert(const InputArray& from, std::size_t count, std::vector<To>& to) {
  to.resize(count);
  const auto copy = [&]<class T>(const T* values) {
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<To>(values[i]);
  };
  const bool is_signed = from.kind == 'i';
  switch (from.item) {
    case 1:
      return is_signed ? copy(static_cast<const std::int8_t*>(from.data))
                       : copy(static_cast<const std::uint8_t*>(from.data));
    case 2:
      return is_signed ? copy(static_cast<const std::int16_t*>(from.data))
                       : copy(static_cast<const std::uint16_t*>(from.data));
    case 4:
      return is_signed ? copy(static_cast<const std::int32_t*>(from.data))
                       : copy(static_cast<const std::uint32_t*>(from.data));
    default:
      return is_signed ? copy(static_cast<const std::int64_t*>(from.data))
                       : copy(static_cast<const std::uint64_t*>(from.data));
  }
}

// The actions as the step takes them: as they are, or converted.
const void* PythonVectorEnv::converted(const InputArray& actions, ActionType& type) {
  const bool is_direct = type == ActionType::kInt32 || type == ActionType::kFloat32 ||
                         (type == ActionType::kInt64 && actions.kind == 'i' && actions.item == 8) ||
                         (type == ActionType::kFloat64 && actions.kind == 'f');
  const std::size_t count = count_ * static_cast<std::size_t>(info_.action_space.numbers());
  if (actions.on_cuda) {
    if (!is_direct || type == ActionType::kFloat64) {
      throw nb::type_error("actions on a GPU must have the type int32 or int64 (choices) or float32 (numbers)");
    }
    return actions.data;
  }
  if (!is_direct && type == ActionType::kInt64) {
    convert(actions, count, integers_);
    return on_device(integers_.data(), type);
  }
  if (!is_direct) {
    convert(actions, count, numbers_);
    return on_device(numbers_.data(), type);
  }
  return on_device(actions.data, type);
}

// Host actions where the device reads them. On a GPU that waits for the copy.
const void* PythonVectorEnv::on_device(const void* actions, ActionType type) {
  if (!is_cuda_) return actions;
  if (type == ActionType::kFloat64) throw nb::type_error("actions for a GPU must have the type float32");
  const auto per_environment = static_cast<std::size_t>(info_.action_space.numbers());
  const std::size_t bytes = count_ * per_environment * (type == ActionType::kInt64 ? 8 : 4);
  if (!staged_ || staged_->bytes < bytes) staged_ = std::make_shared<DeviceMemory>(device_, bytes);
  device_->device->upload(staged_->data, actions, bytes);
  return staged_->data;
}

nb::tuple PythonVectorEnv::step(nb::handle given) {
  const std::shared_ptr<VectorEnv> env = this->env();
  const Exclusive use(in_use_, "this VectorEnv");
  const InputArray actions = read_array(given, *device_, "actions");
  ActionType type = action_type(actions);
  const void* data = converted(actions, type);

  StepOutputs outputs{};
  nb::object observations = observations_.take(outputs.observations);
  nb::object rewards = rewards_.take(outputs.rewards);
  nb::object terminated = flags_.take(outputs.terminated);
  nb::object truncated = flags_.take(outputs.truncated);
  nb::object returns, lengths, final_observations;
  if (statistics_) {
    returns = returns_.take(outputs.episode_returns, true);
    std::int32_t* length = nullptr;
    lengths = lengths_.take(length, true);
    outputs.episode_lengths = reinterpret_cast<std::uint32_t*>(length);  // the same bits, as Python wants them
  }
  if (env->autoreset() == Autoreset::kSameStep)
    final_observations = final_observations_.take(outputs.final_observations);
  device_->wait_for_readers();
  bool any_ended = false;
  {
    const MaybeUnlocked unlocked(count_ >= kUnlockFrom);
    any_ended = env->step(data, type, outputs);
  }
  finish_reading(actions, *device_);
  if (!pending_.empty()) {
    const double time = now();
    for (const std::uint32_t i : pending_) started_[i] = time;
    pending_.clear();
  }
  nb::dict infos = any_ended ? this->infos(std::move(returns), std::move(lengths), std::move(final_observations),
                                           outputs.terminated, outputs.truncated)
                             : nb::dict();
  PyObject* result = PyTuple_New(5);
  if (result == nullptr) throw nb::python_error();
  PyTuple_SET_ITEM(result, 0, observations.release().ptr());
  PyTuple_SET_ITEM(result, 1, rewards.release().ptr());
  PyTuple_SET_ITEM(result, 2, terminated.release().ptr());
  PyTuple_SET_ITEM(result, 3, truncated.release().ptr());
  PyTuple_SET_ITEM(result, 4, infos.release().ptr());
  return nb::steal<nb::tuple>(result);
}

// Writes terminated | truncated, 0 or 1 each; returns where that is 1. Eight at a time: few are.
std::vector<std::uint32_t> PythonVectorEnv::mark_ended(const std::uint8_t* terminated, const std::uint8_t* truncated,
                                                       std::uint8_t* ended) const {
  std::vector<std::uint32_t> indices;
  for (std::size_t begin = 0; begin < count_; begin += 8) {
    const std::size_t count = std::min<std::size_t>(8, count_ - begin);
    const auto load = [&](const std::uint8_t* from) {
      std::uint64_t word = 0;
      std::memcpy(&word, from + begin, count == 8 ? 8 : count);  // a constant where it can be
      return word;
    };
    std::uint64_t both = load(terminated) | load(truncated);
    std::memcpy(ended + begin, &both, count == 8 ? 8 : count);
    for (; both != 0; both &= both - 1) {
      indices.push_back(static_cast<std::uint32_t>(begin + static_cast<std::size_t>(std::countr_zero(both)) / 8));
    }
  }
  return indices;
}

// Of a step in which episodes ended. What lies on a device cannot be looked at without waiting for
// it: there the arrays are handed out as they are, valid where terminated or truncated.
nb::dict PythonVectorEnv::infos(nb::object returns, nb::object lengths, nb::object final_observations,
                                const std::uint8_t* terminated, const std::uint8_t* truncated) {
  nb::dict infos, episode;
  if (!as_numpy_) {
    if (statistics_) {
      episode["r"] = std::move(returns);
      episode["l"] = std::move(lengths);
      infos["episode"] = std::move(episode);
    }
    if (final_observations.is_valid()) infos["final_obs"] = std::move(final_observations);
    return infos;
  }
  std::uint8_t* ended = nullptr;
  const nb::object mask = flags_.take(ended);
  const std::vector<std::uint32_t> indices = mark_ended(terminated, truncated, ended);
  const bool same_step = final_observations.is_valid();
  if (statistics_) {
    const NumpyPool::Taken times = times_.take(true);
    const double time = now();
    for (const std::uint32_t i : indices) {
      static_cast<double*>(times.data)[i] = std::round((time - started_[i]) * 1e6) * 1e-6;
      if (same_step) started_[i] = time;
    }
    episode["r"] = std::move(returns);
    episode["l"] = std::move(lengths);
    episode["t"] = times.array;
    infos["episode"] = episode;
    infos["_episode"] = mask;
  }
  if (same_step) {
    // As SyncVectorEnv has it: an object per environment, none where no episode ended.
    const nb::object objects = nb::module_::import_("numpy").attr("empty")(count_, "O");
    for (const std::uint32_t i : indices) objects[i] = final_observations[i];
    nb::dict final_info;
    if (statistics_) {
      final_info["episode"] = episode;
      final_info["_episode"] = mask;
    }
    infos["final_obs"] = objects;
    infos["_final_obs"] = mask;
    infos["final_info"] = final_info;
    infos["_final_info"] = mask;
  } else {
    pending_ = indices;
  }
  return infos;
}

nb::object PythonVectorEnv::observe() {
  float* data = nullptr;
  nb::object observations = observations_.take(data);
  device_->wait_for_readers();
  env()->observe(data);
  return observations;
}

nb::tuple PythonVectorEnv::states(std::optional<std::vector<std::int64_t>> indices) {
  const std::shared_ptr<VectorEnv> env = this->env();
  EnvironmentStates states;
  {
    const nb::gil_scoped_release unlocked;
    states = indices ? env->states(*indices) : env->states();
  }
  const std::size_t count = states.episode.size();
  const std::size_t fields = env->field_names().size();
  return nb::make_tuple(
      owned_array(std::move(states.fields), {count, fields}), owned_array(std::move(states.episode), {count}),
      owned_array(std::move(states.elapsed), {count}), owned_array(std::move(states.episode_return), {count}),
      owned_array(std::move(states.ended), {count}), owned_array(std::move(states.seed), {count}),
      owned_array(std::move(states.number), {count}));
}

void PythonVectorEnv::set_states(std::optional<std::vector<std::int64_t>> indices, Matrix<float> fields,
                                 Vector<std::uint32_t> episode, Vector<std::uint32_t> elapsed,
                                 Vector<float> episode_return, Vector<std::uint8_t> ended, Vector<std::uint32_t> seed,
                                 Vector<std::uint32_t> number, std::optional<Vector<double>> seconds) {
  const std::shared_ptr<VectorEnv> env = this->env();
  const Exclusive use(in_use_, "this VectorEnv");
  const EnvironmentStates states = {to_vector(fields),         to_vector(episode), to_vector(elapsed),
                                    to_vector(episode_return), to_vector(ended),   to_vector(seed),
                                    to_vector(number)};
  {
    const nb::gil_scoped_release unlocked;
    if (indices) {
      env->set_states(states, *indices);
    } else {
      env->set_states(states);
    }
  }
  const double time = now();
  std::vector<bool> is_pending(count_);
  for (const std::uint32_t i : pending_) is_pending[i] = true;
  for (std::size_t row = 0; row < states.ended.size(); ++row) {
    const std::size_t i = indices ? static_cast<std::size_t>((*indices)[row]) : row;
    started_[i] = time - (seconds ? seconds->data()[row] : 0.0);
    is_pending[i] = states.ended[row] != 0;
  }
  pending_.clear();
  for (std::uint32_t i = 0; i < count_; ++i) {
    if (is_pending[i]) pending_.push_back(i);
  }
}

// [N]: how long the running episodes have taken until now.
nb::object PythonVectorEnv::seconds() const {
  std::vector<double> seconds(count_);
  const double time = now();
  for (std::size_t i = 0; i < count_; ++i) seconds[i] = time - started_[i];
  return owned_array(std::move(seconds), {count_});
}

}  // namespace

void bind_vector_env(nb::module_& module) {
  using namespace nb::literals;
  using Env = PythonVectorEnv;
  nb::class_<Env>(module, "VectorEnv", "What perilune.VectorEnv is written on.")
      .def(nb::init<const std::string&, std::int64_t, Parameters, std::int64_t, const std::string&, const std::string&,
                    std::optional<int>, std::optional<bool>, bool>(),
           "env_id"_a, "num_envs"_a, "parameters"_a, "max_episode_steps"_a, "autoreset"_a, "device"_a,
           "threads"_a.none(), "as_numpy"_a.none(), "statistics"_a)
      .def("reset", &Env::reset, "seed"_a.none(), "seeds"_a, "mask"_a.none(),
           nb::sig("def reset(self, seed: int | None, seeds: collections.abc.Sequence[int | None], "
                   "mask: numpy.ndarray | None) "
                   "-> typing.Any"))
      .def("step", &Env::step, "actions"_a.none(),
           nb::sig("def step(self, actions: typing.Any) -> tuple[typing.Any, typing.Any, "
                   "typing.Any, typing.Any, dict[str, typing.Any]]"))
      .def("observe", &Env::observe, nb::sig("def observe(self) -> typing.Any"))
      .def("states", &Env::states, "indices"_a.none(),
           nb::sig("def states(self, indices: collections.abc.Sequence[int] | None) -> "
                   "tuple[numpy.ndarray, ...]"))
      .def("set_states", &Env::set_states, "indices"_a.none(), "fields"_a, "episode"_a, "elapsed"_a, "episode_return"_a,
           "ended"_a, "seed"_a, "number"_a, "seconds"_a.none(),
           nb::sig("def set_states(self, indices: collections.abc.Sequence[int] | None, fields: "
                   "numpy.ndarray, episode: "
                   "numpy.ndarray, elapsed: numpy.ndarray, episode_return: numpy.ndarray, ended: "
                   "numpy.ndarray, seed: "
                   "numpy.ndarray, number: numpy.ndarray, seconds: numpy.ndarray | None) -> None"))
      .def("seconds", &Env::seconds, nb::sig("def seconds(self) -> numpy.ndarray"))
      .def("check", &Env::check)
      .def("close", &Env::close)
      .def_prop_ro("is_closed", &Env::is_closed)
      .def_prop_ro("was_reset", &Env::was_reset)
      .def_prop_ro("is_continuous", &Env::is_continuous)
      .def_prop_ro("num_actions", &Env::num_actions)
      .def_prop_ro("observation", &Env::observation, nb::sig("def observation(self) -> dict[str, tuple[float, float]]"))
      .def_prop_ro("max_episode_steps", &Env::max_episode_steps)
      .def_prop_ro("env_id", &Env::env_id)
      .def_prop_ro("device", &Env::device_text)
      .def_prop_ro("is_cuda", &Env::is_cuda)
      .def_prop_ro("field_names", &Env::field_names);
}

}  // namespace perilune::python
