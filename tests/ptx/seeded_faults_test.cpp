// Faults are put into copies of the program's own kernels, one at a time, and whole iterations of training are run with
// each: every one is found, as a Fault that says where, or in the bits of the results.
#include <gmock/gmock.h>

#include <array>
#include <fstream>
#include <regex>

#include "tests/kernels/whole_iteration.hpp"
#include "tests/ptx/runtime.hpp"

namespace perilune::ptx {
namespace {

using test::Subject;
using test::WholeIteration;
using ::testing::HasSubstr;

const Subject& subject(const char* name) {
  for (const Subject& each : test::subjects()) {
    if (std::string(name) == each.name) return each;
  }
  throw std::logic_error("no such subject");
}

/// The only kernel whose mangled name has all these parts.
std::string kernel_named(const std::vector<std::string>& parts) {
  std::vector<std::string> found;
  for (const std::string& name : registered_kernels()) {
    const auto has = [&](const std::string& part) { return name.find(part) != std::string::npos; };
    if (std::all_of(parts.begin(), parts.end(), has)) found.push_back(name);
  }
  if (found.size() != 1)
    throw std::logic_error(std::to_string(found.size()) + " kernels have " + parts.front() + " in their names");
  return found.front();
}

class SeededFaults : public ::testing::Test {
 protected:
  void TearDown() override { restore_kernels(); }

  /// The bits that two iterations leave, or the text of the Fault.
  struct Outcome {
    std::string fault;
    std::vector<std::uint32_t> bits;
    SourceLine changed;  // the line whose instruction was
  };
  static Outcome run(const Subject& on) {
    restart_orders();
    WholeIteration iteration(on, on.machine(), 3);
    Queue& queue = on.queue();
    try {
      iteration.reset(queue);
      for (int i = 0; i < 2; ++i) iteration.launch(queue);
      on.finish();
    } catch (const std::runtime_error& error) {
      return {error.what(), {}, {}};
    }
    return {"", iteration.bits(), {}};
  }

  /// What becomes of the runs in which the `which`th match of a pattern in the kernel is replaced, for each of some.
  static std::vector<Outcome> with_each(const Subject& on, const std::string& kernel, const std::string& pattern,
                                        const std::string& by, std::size_t most) {
    Module& original = module_of(kernel);
    const auto [open, close] = original.body(kernel);
    const std::string body = original.text().substr(open, close - open);
    const std::regex regex(pattern);
    std::vector<std::smatch> matches;
    for (std::sregex_iterator it(body.begin(), body.end(), regex), end; it != end; ++it) matches.push_back(*it);
    EXPECT_FALSE(matches.empty()) << pattern << " is not in " << kernel;
    std::vector<Outcome> outcomes;
    const std::size_t count = std::min(most, matches.size());
    for (std::size_t k = 0; k < count; ++k) {
      const std::smatch& match = matches[k * matches.size() / count];  // spread over the kernel
      std::string text = original.text();
      text.replace(open + static_cast<std::size_t>(match.position()), static_cast<std::size_t>(match.length()),
                   match.format(by));
      Module changed("with a fault", text);
      replace_kernel(kernel, changed);
      outcomes.push_back(run(on));
      for (const Instruction& instruction : original.function(kernel).code) {
        const auto at = static_cast<std::size_t>(instruction.text.data() - original.text().data());
        if (at == open + static_cast<std::size_t>(match.position())) outcomes.back().changed = instruction.source;
      }
      restore_kernels();
    }
    return outcomes;
  }
  /// Of those matches alone that these iterations come to, which a division by nought in their places shows.
  static std::vector<Outcome> with_each_that_runs(const Subject& on, const std::string& kernel,
                                                  const std::string& pattern, const std::string& by, std::size_t most) {
    const std::vector<Outcome> marked = with_each(on, kernel, pattern, "div.u32 %r1, 1, 0; $&", most);
    const std::vector<Outcome> all = with_each(on, kernel, pattern, by, most);
    std::vector<Outcome> outcomes;
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (marked[k].fault.find("divides by nought") != std::string::npos) outcomes.push_back(all[k]);
    }
    EXPECT_FALSE(outcomes.empty());
    return outcomes;
  }
};

TEST_F(SeededFaults, NoneIsFoundWhereThereIsNone) {
  for (const char* name : {"Cuda", "CudaTf32", "CudaBf16"}) {
    const Outcome first = run(subject(name));
    EXPECT_EQ(first.fault, "");
    EXPECT_EQ(run(subject(name)).bits, first.bits);
  }
}

std::string gae() { return kernel_named({"run_kernelINS0_3GaeE"}); }
std::string reduce() { return kernel_named({"run_kernelINS0_15ReduceGradients"}); }
std::string rollout() { return kernel_named({"7RolloutINS0_8CartPoleELi16", "PrecisionE0"}); }
std::string update(const char* precision) { return kernel_named({"6UpdateINS0_9InterfaceILi4", "ELi16E", precision}); }

/// A line of a file that a kernel was made of, with the one before it and the one after it.
std::array<std::string, 3> source_lines(const std::string& kernel, std::uint16_t file, std::uint32_t line) {
  const std::string path = module_of(kernel).function(kernel).files->at(file);
  std::ifstream text(PERILUNE_SOURCE_DIR "/" + path);
  std::vector<std::string> lines(1);
  for (std::string each; std::getline(text, each);) lines.push_back(each);
  return {lines.at(line - 1), lines.at(line), lines.at(line + 1)};
}

/// Whether nothing else orders what lies before a barrier and after it: in a sum, and between a network's layers.
/// Others are there for what may come before or after them elsewhere.
bool is_needed(const std::string& kernel, SourceLine at) {
  const auto [before, line, after] = source_lines(kernel, at.file, at.line);
  if (before.find("parts[which]") != std::string::npos) return true;
  if (line.find("void sync()") == std::string::npos) return false;
  const auto caller = source_lines(kernel, at.caller_file, at.caller_line);
  return caller[0].find("activation);") != std::string::npos && caller[2] != "  }";
}

/// What is found is a race, and every barrier that is needed is found.
TEST_F(SeededFaults, ARemovedBarrier) {
  for (const auto& [name, kernel] : {std::pair{"Cuda", gae()},
                                     {"Cuda", reduce()},
                                     {"Cuda", rollout()},
                                     {"CudaTf32", update("PrecisionE1")},
                                     {"CudaBf16", update("PrecisionE2")}}) {
    SCOPED_TRACE(kernel);
    int needed = 0;
    for (const Outcome& outcome : with_each_that_runs(subject(name), kernel, R"(bar\.sync\s+0;)", "", 24)) {
      if (is_needed(kernel, outcome.changed)) {
        ++needed;
        EXPECT_NE(outcome.fault, "") << "line " << outcome.changed.line << ", called in "
                                     << outcome.changed.caller_line;
      }
      if (outcome.fault.empty()) continue;
      EXPECT_THAT(outcome.fault,
                  ::testing::AnyOf(HasSubstr("nothing orders the two"), HasSubstr("nobody has written")));
      EXPECT_THAT(outcome.fault, ::testing::ContainsRegex("kernels/[a-z_/]+\\.(hpp|cuh):[0-9]+"));
    }
    EXPECT_GE(needed, 2);
  }
}

TEST_F(SeededFaults, ARemovedWaitForCopies) {
  for (const auto& [name, kernel] :
       {std::pair{"CudaTf32", update("PrecisionE1")}, {"CudaBf16", update("PrecisionE2")}}) {
    const std::vector<Outcome> outcomes = with_each_that_runs(subject(name), kernel, R"(cp\.async\.wait_all;)", "", 9);
    EXPECT_EQ(outcomes.size(), 2u) << "the actor's and the critic's";
    for (const Outcome& outcome : outcomes) EXPECT_THAT(outcome.fault, HasSubstr("copies and has not waited for"));
  }
}

TEST_F(SeededFaults, ARemovedFence) {
  for (const std::string& kernel : {gae(), reduce()}) {
    const std::vector<Outcome> outcomes = with_each(subject("Cuda"), kernel, R"(membar\.gl;)", "", 9);
    EXPECT_EQ(outcomes.size(), 2u);  // one before the ticket, one after it
    for (const Outcome& outcome : outcomes)
      EXPECT_THAT(outcome.fault,
                  ::testing::ContainsRegex("what thread [0-9]+ of block [0-9]+ wrote, and nothing orders"));
  }
}

TEST_F(SeededFaults, ARemovedWaitForTheKernelBefore) {
  for (const Outcome& outcome : with_each(subject("Cuda"), gae(), R"(griddepcontrol\.wait;)", "", 1)) {
    EXPECT_THAT(outcome.fault, HasSubstr("overlap with what was launched before, and never waits for it"));
  }
}

TEST_F(SeededFaults, SwappedFragmentRows) {
  for (const auto& [name, kernel] :
       {std::pair{"CudaTf32", update("PrecisionE1")}, {"CudaBf16", update("PrecisionE2")}}) {
    const std::vector<std::uint32_t> right = run(subject(name)).bits;
    for (const Outcome& outcome : with_each_that_runs(
             subject(name), kernel, R"((mma\.sync[^{]*\{[^}]*\},\s*\{)(%r\d+), (%r\d+))", "$1$3, $2", 6)) {
      EXPECT_EQ(outcome.fault, "");
      EXPECT_NE(outcome.bits, right) << kernel;
    }
  }
}

TEST_F(SeededFaults, AWrongStride) {
  for (const auto& [name, kernel] : {std::pair{"Cuda", rollout()}, {"Cuda", gae()}}) {
    const std::vector<std::uint32_t> right = run(subject(name)).bits;
    for (const Outcome& outcome :
         with_each_that_runs(subject(name), kernel, R"((mul\.wide\.[us]32\s+%rd\d+, %r\d+, )4;)", "$012;", 6)) {
      EXPECT_TRUE(!outcome.fault.empty() || outcome.bits != right) << kernel;
    }
  }
}

TEST_F(SeededFaults, ALaneThatAShuffleDoesNotName) {
  for (const Outcome& outcome :
       with_each(subject("Cuda"), gae(), R"((shfl\.sync\.bfly\.b32 [^;]*, )%r\d+;)", "$012147483647;", 3)) {
    EXPECT_THAT(outcome.fault, HasSubstr("does not name the lane itself"));
    EXPECT_THAT(outcome.fault, HasSubstr("shfl.sync"));
  }
}

/// By one element, each array of an iteration.
TEST_F(SeededFaults, AShrunkAllocation) {
  const Subject& on = subject("Cuda");
  int count = 0;
  for (int shrunk = 0; shrunk == 0 || shrunk < count; ++shrunk) {
    WholeIteration iteration(on, on.machine(), 3);
    count = 0;
    for_each_array(iteration.plan.sizes(), iteration.plan.arrays, [&](const ArrayInfo& info, const auto* array) {
      const std::size_t elements = iteration.copy(array).size();
      if (count++ != shrunk || elements == 0) return;  // 0: the workspace of layer-by-layer networks
      Allocation* allocation = runtime_machine().memory.find(reinterpret_cast<std::uintptr_t>(array));
      const std::size_t bytes = allocation->bytes;
      allocation->bytes = (elements - 1) * sizeof(*array);
      std::string fault = "none";
      try {
        iteration.reset(on.queue());
        iteration.launch(on.queue());
      } catch (const std::runtime_error& error) {
        fault = error.what();
      }
      allocation->bytes = bytes;
      EXPECT_THAT(fault, ::testing::AnyOf(HasSubstr("bytes into an allocation of"),
                                          HasSubstr("across the end of an allocation")))
          << info.name;
    });
  }
  EXPECT_GT(count, 20);
}

}  // namespace
}  // namespace perilune::ptx
