// The test machine's Block: GPU execution order without a GPU. A lane is a fiber that runs until the next collective.
//
// Because a lane runs alone up to its collective, a missing sync() shows as a wrong number: the lane reads what others
// have not written yet. Tests therefore run every body with lanes in forward and in reverse order, over storage filled
// with a NaN pattern. Lanes that stand at different collectives (undefined on a GPU) are an error that names both.
// Not for production: a switch costs about 11 ns.
#pragma once

#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>

#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/machine/dense_simt.hpp"
#include "kernels/machine/simt_block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

enum class LaneOrder { kForward, kReverse };

/// The lanes of one block: runs them in rounds, each from one collective to the next.
class FiberGroup {
 public:
  FiberGroup(int lanes, std::size_t storage_floats, LaneOrder order)
      : lanes_(static_cast<std::size_t>(lanes)),
        exchange_(static_cast<std::size_t>(lanes)),
        storage_(storage_floats + 16, as_float(0x7FB0DEADu)),
        order_(order) {}

  /// Runs body(lane) on every lane to its end. Throws std::logic_error when lanes diverge, and what a body throws.
  void run(const std::function<void(int)>& body) {
    namespace context = boost::context;
    context::pooled_fixedsize_stack stacks(128 * 1024);
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
      lanes_[lane].fiber = context::fiber(
          std::allocator_arg, stacks, [this, lane, &body](context::fiber&& scheduler) {
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
      for (std::size_t i = 0; i < lanes_.size(); ++i) {
        const std::size_t lane = order_ == LaneOrder::kForward ? i : lanes_.size() - 1 - i;
        lanes_[lane].fiber = std::move(lanes_[lane].fiber).resume();
        if (failure_) std::rethrow_exception(failure_);
      }
      check_together();
    }
  }

  /// Called on a lane's fiber: waits until every lane has come here.
  void wait(int lane, const std::source_location& where) {
    LaneState& mine = lanes_[static_cast<std::size_t>(lane)];
    mine.where = where;
    mine.scheduler = std::move(mine.scheduler).resume();
  }

  /// One slot per lane, for the collectives.
  std::vector<float>& exchange() { return exchange_; }

  /// What the last call of last_of_grid drew.
  std::uint32_t& last_ticket() { return last_ticket_; }

  float* storage() {
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    return storage_.data() + (64 - address % 64) % 64 / sizeof(float);
  }

 private:
  struct LaneState {
    boost::context::fiber fiber, scheduler;
    std::source_location where;
    bool done = false;
  };

  static std::string place(const LaneState& lane) {
    return lane.done ? "the end"
                     : std::string(lane.where.file_name()) + ":" + std::to_string(lane.where.line());
  }

  void check_together() const {
    const LaneState& first = lanes_[0];
    for (std::size_t lane = 1; lane < lanes_.size(); ++lane) {
      const LaneState& other = lanes_[lane];
      if (other.done != first.done ||
          (!first.done && (other.where.line() != first.where.line() ||
                           std::string(other.where.file_name()) != first.where.file_name()))) {
        throw std::logic_error("lane " + std::to_string(lane) + " is at " + place(other) +
                               ", lane 0 at " + place(first));
      }
    }
  }

  std::vector<LaneState> lanes_;
  std::vector<float> exchange_;
  std::vector<float> storage_;
  LaneOrder order_;
  std::uint32_t last_ticket_ = 0;
  std::exception_ptr failure_;
};

template <int Lanes, Precision P = Precision::kFp32>
class FiberBlock : public SimtBlockBase<FiberBlock<Lanes, P>, Lanes, P> {
 public:
  using Base = SimtBlockBase<FiberBlock<Lanes, P>, Lanes, P>;
  using typename Base::Lane;

  FiberBlock(FiberGroup& group, int lane, int index, int count)
      : group_(group), lane_(lane), index_(index), count_(count) {}

  int index() const { return index_; }
  int count() const { return count_; }
  float* storage() const { return group_.storage(); }
  Lane lane() const { return Lane{lane_}; }
  void sync(std::source_location where = std::source_location::current()) const {
    group_.wait(lane_, where);
  }

  bool any(const PerLane<FiberBlock, bool>& mask,
           std::source_location where = std::source_location::current()) const {
    return sum_of(mask[lane()] && this->active(lane()) ? 1.0f : 0.0f, where) > 0.0f;
  }
  float sum(const PerLane<FiberBlock, float>& x,
            std::source_location where = std::source_location::current()) const {
    return sum_of(this->active(lane()) ? x[lane()] : 0.0f, where);
  }

  bool last_of_grid(std::uint32_t& ticket,
                    std::source_location where = std::source_location::current()) const {
    group_.wait(lane_, where);
    std::uint32_t& done = group_.last_ticket();
    if (lane_ == 0) {
      done = ticket + 1;
      ticket = done == static_cast<std::uint32_t>(count_) ? 0 : done;
    }
    group_.wait(lane_, where);
    return done == static_cast<std::uint32_t>(count_);
  }

 private:
  float sum_of(float mine, const std::source_location& where) const {
    group_.exchange()[static_cast<std::size_t>(lane_)] = mine;
    group_.wait(lane_, where);
    float total = 0.0f;
    for (float x : group_.exchange()) total += x;
    group_.wait(lane_, where);
    return total;
  }

  FiberGroup& group_;
  int lane_, index_, count_;
};

/// Runs kernel K over its grid, block after block, on the calling thread.
template <class K, int Lanes, Precision P = Precision::kFp32, class Args>
void launch_fibers(const Args& args, int blocks, std::size_t storage_floats, LaneOrder order) {
  for (int index = 0; index < blocks; ++index) {
    FiberGroup group(Lanes, storage_floats, order);
    group.run([&](int lane) {
      FiberBlock<Lanes, P> block(group, lane, index, blocks);
      K::run(block, args);
    });
  }
}

}  // namespace perilune::inline PERILUNE_LEVEL
