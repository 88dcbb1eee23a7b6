// The test machine's Block: GPU execution order without a GPU. A lane is a fiber that runs until the next collective.
//
// Because a lane runs alone up to its collective, a missing sync() shows as a wrong number: the lane reads what others
// have not written yet. A warp runs on through its own collectives until it waits for the block, so that one which
// should have waited is far ahead of the others. Tests therefore run every body with lanes and warps in forward and in
// reverse order, over storage filled with a NaN pattern. Lanes of a warp that stand at different collectives, or warps
// that do when the block should meet (both undefined on a GPU), are an error that names both places. Not for
// production: a switch costs about 11 ns.
#pragma once

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "kernels/machine/dense_simt.hpp"
#include "kernels/machine/network_tensor.hpp"
#include "kernels/machine/simt_block.hpp"
#include "kernels/machine/tensor_core_emulation.hpp"

namespace perilune::inline PERILUNE_LEVEL {

enum class LaneOrder { kForward, kReverse };

/// Stacks of this thread's fibers, kept from one block to the next: new ones are new pages each time, which took
/// sanitizers most of a test's time.
class FiberStacks {
 public:
  boost::context::stack_context allocate() {
    std::vector<boost::context::stack_context>& free = kept();
    if (free.empty()) return boost::context::fixedsize_stack(kBytes).allocate();
    const boost::context::stack_context stack = free.back();
    free.pop_back();
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) {
#if defined(__SANITIZE_ADDRESS__)  // a fiber leaves its last frames without returning, and with them what was marked
                                   // there
    __asan_unpoison_memory_region(static_cast<char*>(stack.sp) - stack.size, stack.size);
#endif
    kept().push_back(stack);
  }

 private:
  static constexpr std::size_t kBytes = 128 * 1024;
  struct Kept {
    std::vector<boost::context::stack_context> stacks;
    ~Kept() {
      for (boost::context::stack_context& stack : stacks) boost::context::fixedsize_stack(kBytes).deallocate(stack);
    }
  };
  static std::vector<boost::context::stack_context>& kept() {
    thread_local Kept all;
    return all.stacks;
  }
};

/// The lanes of one block: runs each warp from one collective to the next, and warps in rounds between the block's.
class FiberGroup {
 public:
  FiberGroup(int lanes, std::size_t storage_floats, LaneOrder order)
      : lanes_(static_cast<std::size_t>(lanes)),
        exchange_(2 * kMaxSums * static_cast<std::size_t>(lanes)),
        operands_((lanes_.size() + kWarp - 1) / kWarp * 2),
        storage_(storage_floats + 16, as_float(0x7FB0DEADu)),
        order_(order) {}

  /// Runs body(lane) on every lane to its end. Throws std::logic_error when lanes diverge, and what a body throws.
  void run(const std::function<void(int)>& body) {
    namespace context = boost::context;
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
      lanes_[lane].fiber =
          context::fiber(std::allocator_arg, FiberStacks(), [this, lane, &body](context::fiber&& scheduler) {
            lanes_[lane].scheduler = std::move(scheduler);
            try {
              body(static_cast<int>(lane));
            } catch (const context::detail::forced_unwind&) {
              throw;
            } catch (...) {
              failure_ = std::current_exception();
            }
            lanes_[lane].done = true;
            return std::move(lanes_[lane].scheduler);
          });
    }
    while (!lanes_[0].done) {
      in_order(0, lanes_.size(), kWarp, [&](std::size_t first) { run_warp(first); });
      check_together(0, lanes_.size(), kWarp);
    }
  }

  enum class Scope { kBlock, kWarp };

  /// Called on a lane's fiber: waits until every lane of the block, or of its warp, has come here.
  void wait(int lane, Scope scope, const std::source_location& where) {
    LaneState& mine = lanes_[static_cast<std::size_t>(lane)];
    mine.where = where;
    mine.scope = scope;
    mine.scheduler = std::move(mine.scheduler).resume();
  }

  /// A slot for each lane, for value k of a sum. Sums take turns between two: a lane can be one ahead of another, not
  /// two.
  std::span<float> exchange(int k, bool odd) {
    return std::span(exchange_).subspan((static_cast<std::size_t>(k) + (odd ? kMaxSums : 0)) * lanes_.size(),
                                        lanes_.size());
  }
  /// For its warp's multiplies, which take turns between two: a lane can be one ahead of another, not two.
  EmulatedOperands& operands(int lane, bool odd) {
    return operands_[2 * (static_cast<std::size_t>(lane) / kWarp) + (odd ? 1 : 0)];
  }

  /// What the last call of last_of_grid drew.
  std::uint32_t& last_ticket() { return last_ticket_; }

  float* storage() {
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    return storage_.data() + (64 - address % 64) % 64 / sizeof(float);
  }

 private:
  static constexpr std::size_t kWarp = kWarpLanes;

  struct LaneState {
    boost::context::fiber fiber, scheduler;
    std::source_location where;
    Scope scope = Scope::kBlock;
    bool done = false;
  };

  /// f(first), f(first + step), ... below last, in the group's order.
  template <class F>
  void in_order(std::size_t first, std::size_t last, std::size_t step, F&& f) const {
    const std::size_t count = (last - first + step - 1) / step;
    for (std::size_t i = 0; i < count; ++i) {
      f(first + (order_ == LaneOrder::kForward ? i : count - 1 - i) * step);
    }
  }

  void run_warp(std::size_t first) {
    const std::size_t last = std::min(first + kWarp, lanes_.size());
    do {
      in_order(first, last, 1, [&](std::size_t lane) {
        lanes_[lane].fiber = std::move(lanes_[lane].fiber).resume();
        if (failure_) std::rethrow_exception(failure_);
      });
      check_together(first, last, 1);
    } while (!lanes_[first].done && lanes_[first].scope == Scope::kWarp);
  }

  static std::string place(const LaneState& lane) {
    return lane.done ? "the end" : std::string(lane.where.file_name()) + ":" + std::to_string(lane.where.line());
  }

  /// Compares every step-th lane with the first.
  void check_together(std::size_t begin, std::size_t end, std::size_t step) const {
    const LaneState& first = lanes_[begin];
    for (std::size_t lane = begin + step; lane < end; lane += step) {
      const LaneState& other = lanes_[lane];
      if (other.done != first.done ||
          (!first.done && (other.scope != first.scope || other.where.line() != first.where.line() ||
                           std::string(other.where.file_name()) != first.where.file_name()))) {
        throw std::logic_error("lane " + std::to_string(lane) + " is at " + place(other) + ", lane " +
                               std::to_string(begin) + " at " + place(first));
      }
    }
  }

  std::vector<LaneState> lanes_;
  std::vector<float> exchange_;
  std::vector<EmulatedOperands> operands_;
  std::vector<float> storage_;
  LaneOrder order_;
  std::uint32_t last_ticket_ = 0;
  std::exception_ptr failure_;
};

template <int Lanes, Precision P = Precision::kFp32, int Teams = 1>
class FiberBlock : public SimtBlockBase<FiberBlock<Lanes, P, Teams>, Lanes, P, Teams>, public EmulatedTensorCore {
 public:
  using Base = SimtBlockBase<FiberBlock<Lanes, P, Teams>, Lanes, P, Teams>;
  using Base::lane;
  using typename Base::Lane;

  FiberBlock(FiberGroup& group, int thread_number, int index_in_grid, int blocks)
      : group_(group), thread_(thread_number), index_(index_in_grid), count_(blocks) {}

  int index() const { return index_; }
  int count() const { return count_; }
  float* storage() const { return group_.storage(); }
  int thread() const { return thread_; }
  void sync(std::source_location where = std::source_location::current()) const {
    group_.wait(thread_, FiberGroup::Scope::kBlock, where);
  }
  void sync_warp(std::source_location where = std::source_location::current()) const {
    group_.wait(thread_, FiberGroup::Scope::kWarp, where);
  }

  /// d = A B + c over the lanes of the warp.
  template <class Fragment>
  void mma(Fragment, float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const float (&c)[4],
           std::source_location where = std::source_location::current()) {
    static_assert(Lanes % kWarpLanes == 0);
    EmulatedOperands& operands = next_operands();
    operands.template put<Fragment>(thread_ % kWarpLanes, a, b);
    group_.wait(thread_, FiberGroup::Scope::kWarp, where);
    operands.template add_product<Fragment>(thread_ % kWarpLanes, d, c);
  }
  /// As CudaTensorCore's. A row is read when its lane comes here: what others wrote to it just before may not be there
  /// yet.
  template <bool Transposed, int Matrices>
  void load_matrices(std::uint32_t (&words)[Matrices], const float* row,
                     std::source_location where = std::source_location::current()) {
    EmulatedOperands& operands = next_operands();
    for (int i = 0; i < 4; ++i) operands.rows[thread_ % kWarpLanes][i] = as_uint(row[i]);
    group_.wait(thread_, FiberGroup::Scope::kWarp, where);
    for (int i = 0; i < Matrices; ++i) words[i] = operands.template matrix_word<Transposed>(thread_ % kWarpLanes, i);
  }

  bool any(const PerLane<FiberBlock, bool>& mask, std::source_location where = std::source_location::current()) {
    const float mine[1] = {this->team() == 0 && mask[lane()] ? 1.0f : 0.0f};
    return sums_of(mine, where)[0] > 0.0f;
  }
  float sum(const PerLane<FiberBlock, float>& x, std::source_location where = std::source_location::current()) {
    const float mine[1] = {x[lane()]};
    return sums_of(mine, where)[0];
  }
  template <int N>
  Sums<N> sums(const PerLane<FiberBlock, float> (&x)[N], std::source_location where = std::source_location::current()) {
    float mine[N];
    for (int k = 0; k < N; ++k) mine[k] = x[k][lane()];
    return sums_of(mine, where);
  }

  /// The copy is made at the wait, as late as it may be on a GPU.
  template <int Count>
  void copy_ahead(float* to, const float* from) {
    static_assert(Count == 4 || Count == 1);
    if (reinterpret_cast<std::uintptr_t>(to) % (Count * sizeof(float)) != 0 ||
        reinterpret_cast<std::uintptr_t>(from) % (Count * sizeof(float)) != 0) {
      throw std::logic_error("a copy to block storage is not aligned to its size");
    }
    std::fill_n(to, Count, as_float(0x7FB0DEADu));
    copies_.push_back({to, from, Count});
  }
  void wait_for_copies() {
    for (const Copy& copy : copies_) std::copy_n(copy.from, copy.count, copy.to);
    copies_.clear();
  }

  static void lower(std::uint64_t& x, std::uint64_t value) { x = std::min(x, value); }

  bool last_of_grid(std::uint32_t& ticket, std::source_location where = std::source_location::current()) const {
    group_.wait(thread_, FiberGroup::Scope::kBlock, where);
    std::uint32_t& done = group_.last_ticket();
    if (thread_ == 0) {
      done = ticket + 1;
      ticket = done == static_cast<std::uint32_t>(count_) ? 0 : done;
    }
    group_.wait(thread_, FiberGroup::Scope::kBlock, where);
    return done == static_cast<std::uint32_t>(count_);
  }

 private:
  template <int N>
  Sums<N> sums_of(const float (&mine)[N], const std::source_location& where) {
    static_assert(N <= kMaxSums);
    odd_sum_ = !odd_sum_;
    for (int k = 0; k < N; ++k) {
      group_.exchange(k, odd_sum_)[static_cast<std::size_t>(thread_)] =
          this->team() == 0 && this->active(lane()) ? mine[k] : 0.0f;
    }
    group_.wait(thread_, FiberGroup::Scope::kBlock, where);
    Sums<N> result;
    for (int k = 0; k < N; ++k) {
      // As CudaBlock's: lanes 16 apart, 8 apart and so on; then warps in their order.
      const std::span<const float> of_lanes = group_.exchange(k, odd_sum_);
      std::vector<float> x(of_lanes.begin(), of_lanes.end());
      result[k] = -0.0f;  // to which a number adds itself
      x.resize((x.size() + kWarpLanes - 1) / kWarpLanes * kWarpLanes, 0.0f);
      for (std::size_t warp = 0; warp < x.size(); warp += kWarpLanes) {
        for (std::size_t step = kWarpLanes / 2; step > 0; step /= 2) {
          for (std::size_t i = warp; i < warp + step; ++i) x[i] += x[i + step];
        }
        result[k] += x[warp];
      }
    }
    return result;
  }

  EmulatedOperands& next_operands() {
    odd_ = !odd_;
    return group_.operands(thread_, odd_);
  }

  struct Copy {
    float* to;
    const float* from;
    int count;
  };

  FiberGroup& group_;
  int thread_, index_, count_;
  std::vector<Copy> copies_;  // started, and not waited for
  bool odd_ = false;          // which of the warp's two operands its last collective used
  bool odd_sum_ = false;      // which of the block's two exchanges the last sum used
};

/// Runs kernel K over its grid, block after block, on the calling thread.
template <class K, int Lanes, Precision P = Precision::kFp32, int Teams = 1, class Args>
void launch_fibers(const Args& args, int blocks, std::size_t storage_floats, LaneOrder order) {
  for (int index = 0; index < blocks; ++index) {
    FiberGroup group(Lanes * Teams, storage_floats, order);
    group.run([&](int lane) {
      FiberBlock<Lanes, P, Teams> block(group, lane, index, blocks);
      K::run(block, args);
    });
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL
