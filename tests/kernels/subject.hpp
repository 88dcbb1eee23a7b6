// What the tests in every_machine/ run on: a machine's table of launchers, its queue and its
// memory.
//
// kernels_tests runs them on every CPU level this processor has and on the fiber machine in both
// lane orders (subjects.cpp); gpu_tests runs the same files on the GPU (gpu/subjects.cpp).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/api.hpp"

namespace perilune::test {

/// How long a test of a million steps takes: seconds, half a minute, or an hour.
enum class Speed { kNative, kFibers, kEmulated };

struct Subject {
  const char* name;
  const Machine& (*machine)();
  /// Widths beyond it are not tested here: fibers are slow.
  int max_width;
  /// Largest absolute error of the machine's network tanh, before it is rounded.
  double tanh_error;
  Queue& (*queue)();
  /// Why tests cannot run here, or an empty text.
  std::string (*missing)();
  /// Memory that both the host and the machine can use.
  void* (*allocate)(std::size_t bytes);
  void (*release)(void*);
  /// Waits for all that was launched.
  void (*finish)();
  /// Bytes of block storage that a kernel may have.
  std::size_t (*max_block_storage)();
  /// What its networks multiply in.
  Precision precision = Precision::kFp32;
  /// Largest relative error of a number that is rounded to be multiplied.
  double rounding = 0.0;
  /// The narrowest hidden layers it has.
  int min_width = 16;
  /// Whether it has networks for tasks of rigid bodies, or their simulators alone.
  bool rigid_body_networks = true;
  Speed speed = Speed::kNative;
  /// Why its queue cannot multiply matrices for networks without fused kernels, or an empty text.
  std::string (*missing_matrices)() = [] { return std::string(); };

  /// Significant bits of parameters and observations that every rounding of this subject leaves as they are.
  int input_bits() const { return rounding > 0.0 ? 8 : 24; }
};

using TaskParameters = std::array<float, kMaxEnvParameters>;

/// An environment that is tested on every machine, and the widths of its fused kernels, if it does not have all.
struct Task {
  const char* id;
  int observations, actions, state_fields;
  bool continuous;
  TaskParameters parameters;
  int min_width = 0, max_width = kMaxFusedWidth;
  bool rigid_bodies = false;

  int record_floats() const { return (observations + (continuous ? actions : 1) + 2 + 7) / 8 * 8; }
};
inline constexpr Task kCartPole{"CartPole-v1", 4, 2, 4, false, {}};
inline constexpr Task kPointMass{"PointMass", 5, 2, 5, true, {0.1f}, 32, 32};  // tests/kernels/point_mass.hpp
// With wind, which draws random numbers, and with either solver.
inline constexpr Task kLunarLander{"LunarLander-v3", 8, 4, 77, false, {-10, 1, 15, 1.5f, 0}, 64, 128, true};
inline constexpr Task kLunarLanderContinuous{"LunarLanderContinuous-v3", 8,  2,  77,  true,
                                             {-10, 1, 15, 1.5f, 1},      64, 64, true};
inline constexpr Task kBipedalWalker{"BipedalWalker-v3", 24, 4, 420, true, {}, 64, 64, true};
inline constexpr Task kLander{"Lander-v0", 8, 4, 29, false, {-10, 0, 15, 1.5f}, 64, 64, true};
inline constexpr Task kLanderContinuous{"LanderContinuous-v0", 8, 2, 29, true, {-10, 1, 15, 1.5f}, 64, 64, true};

/// width 0: layer by layer.
inline const Kernels& kernels_of(const Machine& machine, const Task& task, int width, Precision precision) {
  const Kernels* found =
      width == 0 ? find_layerwise_kernels(machine, task.id) : find_kernels(machine, task.id, width, precision);
  if (found == nullptr) throw std::runtime_error(std::string("no kernels for ") + task.id);
  return *found;
}

/// All subjects of this program.
const std::vector<Subject>& subjects();

/// Fails instead of skipping where PERILUNE_REQUIRE_GPU=1 says that a GPU is expected.
bool gpu_required();

/// A test that runs once for each subject.
class EveryMachine : public ::testing::TestWithParam<const Subject*> {
 protected:
  void SetUp() override {
    const std::string missing = subject().missing();
    if (missing.empty()) return;
    if (gpu_required()) FAIL() << missing << ", and PERILUNE_REQUIRE_GPU is set";
    GTEST_SKIP() << missing;
  }
  // A test of which nothing was run is seen as skipped, and so is one without its part that needs another library.
  void TearDown() override {
    if (IsSkipped() || HasFailure()) return;
    if (left_out_ > 0 && tested_ == 0) GTEST_SKIP() << why_left_out_;
    if (!missing_matrices_.empty())
      GTEST_SKIP() << "all but networks without fused kernels passed: " << missing_matrices_;
  }
  const Subject& subject() const { return *GetParam(); }
  const Machine& machine() const { return subject().machine(); }
  Queue& queue() const { return subject().queue(); }
  void finish() const { subject().finish(); }
  /// Whether networks with so many hidden layers of this width are tested here; width 0: layer by layer.
  bool tests(int width, int depth, const Task& task = kCartPole) {
    const std::string why_not = obstacle(width, depth, task);
    why_not.empty() ? ++tested_ : ++left_out_;
    if (!why_not.empty()) why_left_out_ = why_not;
    return why_not.empty();
  }
  /// The width where any will do.
  int small_width(const Task& task = kCartPole) const { return std::max(task.min_width, subject().min_width); }
  /// The same, and 0 where layer-by-layer kernels are tested. Of up to two layers.
  std::vector<int> small_widths(const Task& task = kCartPole) {
    std::vector<int> result;
    for (const int width : {small_width(task), 0}) {
      if (tests(width, 2, task)) result.push_back(width);
    }
    return result;
  }
  /// width 0: layer by layer.
  const Kernels& kernels_for(int width, const Task& task = kCartPole) const {
    return kernels_of(machine(), task, width, subject().precision);
  }

 private:
  std::string obstacle(int width, int depth, const Task& task) {
    const Subject& on = subject();
    if (task.rigid_bodies && !on.rigid_body_networks) {
      return std::string("no networks of landers and walkers on this machine");
    }
    if (width == 0) {
      if (on.precision != Precision::kFp32) return "a matter of the matrix library's precision";
      const std::string missing = on.missing_matrices();
      if (!missing.empty()) missing_matrices_ = missing;
      return missing;
    }
    if (width < task.min_width || width > task.max_width || width < on.min_width || width > on.max_width) {
      return "hidden layers of " + std::to_string(width) + " units are not tested on this machine";
    }
    const std::size_t needed = largest_block_storage(kernels_for(width, task), depth), most = on.max_block_storage();
    if (needed <= most) return "";
    return std::to_string(depth) + " hidden layers of " + std::to_string(width) + " units need " +
           std::to_string(needed) + " bytes of block storage, and this machine has " + std::to_string(most);
  }

  int tested_ = 0, left_out_ = 0;
  std::string why_left_out_, missing_matrices_;
};

/// Those of every precision, or one for each machine.
inline std::vector<const Subject*> all_subjects(bool every_precision) {
  std::vector<const Subject*> result;
  for (const Subject& subject : subjects()) {
    if (every_precision || subject.precision == Precision::kFp32) result.push_back(&subject);
  }
  return result;
}

inline std::string subject_name(const ::testing::TestParamInfo<const Subject*>& info) { return info.param->name; }

#define PERILUNE_ON_EVERY_MACHINE(fixture)                                                          \
  INSTANTIATE_TEST_SUITE_P(On, fixture, ::testing::ValuesIn(::perilune::test::all_subjects(false)), \
                           ::perilune::test::subject_name)
/// For what networks take part in.
#define PERILUNE_IN_EVERY_PRECISION(fixture)                                                       \
  INSTANTIATE_TEST_SUITE_P(On, fixture, ::testing::ValuesIn(::perilune::test::all_subjects(true)), \
                           ::perilune::test::subject_name)

/// An array in the subject's memory, with the tail that kernels may read: NaN, and checked to be
/// left alone.
template <class T>
class Buffer {
 public:
  /// Filled with NaN (integers: all ones).
  Buffer(const Subject& subject, std::size_t size)
      : subject_(&subject), size_(size), data_(static_cast<T*>(subject.allocate((size + kTailPadding) * sizeof(T)))) {
    std::memset(static_cast<void*>(data_), 0xFF, (size + kTailPadding) * sizeof(T));
  }
  template <class U>
  Buffer(const Subject& subject, const std::vector<U>& values) : Buffer(subject, values.size()) {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = static_cast<T>(values[i]);
  }
  ~Buffer() {
    std::vector<unsigned char> tail(kTailPadding * sizeof(T), 0xFF);
    EXPECT_EQ(std::memcmp(data_ + size_, tail.data(), tail.size()), 0)
        << "a kernel wrote beyond the end of an array of " << size_;
    subject_->release(data_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  void fill(T value) {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = value;
  }
  std::vector<T> copy() const { return std::vector<T>(data_, data_ + size_); }

 private:
  const Subject* subject_;
  std::size_t size_;
  T* data_;
};

/// Gives a layer-by-layer launch the memory it asks for; does nothing for a fused one, which asks for none.
template <class Args>
void add_workspace(const Subject& on, std::size_t (*floats)(const Args&), int columns, Args& args,
                   std::optional<Buffer<float>>& memory) {
  if (floats == nullptr) return;
  args.workspace.columns = columns;
  memory.emplace(on, floats(args));
  args.workspace.data = memory->data();
}

struct Tolerance {
  double absolute, relative;
};

/// How far `actual` is from `reference`: 1 is exactly the tolerance.
inline double share_of(Tolerance tolerance, double actual, double reference) {
  if (actual == reference) return 0.0;
  const double allowed = tolerance.absolute + tolerance.relative * std::abs(reference);
  const double share = std::abs(actual - reference) / allowed;
  return std::isnan(share) ? std::numeric_limits<double>::infinity() : share;
}

/// |actual - reference| <= absolute + relative * |reference| for every element; tells the worst
/// one.
template <class Actual, class Reference>
requires requires(const Actual& a, const Reference& r) { a.size() == r.size(); }
void expect_close(const std::string& what, const Actual& actual, const Reference& reference, Tolerance tolerance) {
  ASSERT_EQ(actual.size(), reference.size()) << what;
  std::size_t worst = 0;
  double worst_share = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double share = share_of(tolerance, static_cast<double>(actual[i]), static_cast<double>(reference[i]));
    if (share > worst_share) {
      worst_share = share;
      worst = i;
    }
  }
  if (worst_share > 1.0) {
    ADD_FAILURE() << what << " [" << worst << "]: " << actual[worst] << " for " << reference[worst] << ", "
                  << 100.0 * worst_share << "% of tolerance";
  }
}

inline void expect_close(const std::string& what, double actual, double reference, Tolerance tolerance) {
  expect_close(what, std::vector<double>{actual}, std::vector<double>{reference}, tolerance);
}

/// Equal bits.
template <class T>
void expect_same_bits(const std::string& what, const std::vector<T>& actual, const std::vector<T>& reference) {
  ASSERT_EQ(actual.size(), reference.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::memcmp(&actual[i], &reference[i], sizeof(T)) == 0) continue;
    ADD_FAILURE() << what << " [" << i << "]: " << +actual[i] << " for " << +reference[i];
    return;
  }
}

/// Counters and learning rates as at the start of a run.
inline Control fresh_control(float actor_learning_rate = 1e-3f, float critic_learning_rate = 2e-3f,
                             float clip_coef = 0.2f) {
  Control control{};
  control.actor_learning_rate = actor_learning_rate;
  control.critic_learning_rate = critic_learning_rate;
  control.clip_coef = control.clip_vloss_coef = clip_coef;
  control.ent_coef = 0.01f;
  return control;
}

/// Usual hyper-parameters: no annealing, no KL stop, no normalisation, no gradient clipping.
inline Hyperparameters plain_hyperparameters() {
  return rounded({.learning_rate = 1e-3, .critic_learning_rate = 2e-3, .max_grad_norm = 0.0, .clip_vloss_coef = 0.2},
                 {.anneal_lr = Anneal::kNone, .norm_adv = Normalization::kNone, .clip_vloss = false}, 10);
}

}  // namespace perilune::test
