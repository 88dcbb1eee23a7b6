// The fiber machine itself: it must catch what it is for.
#include "kernels/machine/fiber_block.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

namespace perilune::test {
namespace {

constexpr int kLanes = 16;

struct Args {
  float* out;  // [kLanes]
  bool synchronise;
};

/// Every lane writes its number to storage and reads its right (or left) neighbour's.
template <int Step>
struct ReadNeighbour {
  template <class B>
  static void run(B& block, const Args& args) {
    block.lanes([&](typename B::Lane lane) { block.storage()[lane.number] = static_cast<float>(lane.number); });
    if (args.synchronise) block.sync();
    block.lanes([&](typename B::Lane lane) {
      const int neighbour = (lane.number + Step + B::kLanes) % B::kLanes;
      args.out[lane.number] = block.storage()[neighbour];
    });
  }
};

template <class K>
std::vector<float> run(bool synchronise, LaneOrder order) {
  std::vector<float> out(kLanes);
  launch_fibers<K, kLanes>(Args{out.data(), synchronise}, 1, kLanes, order);
  return out;
}

bool right(const std::vector<float>& out, int step) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const float expected = static_cast<float>((lane + step + kLanes) % kLanes);
    if (out[static_cast<std::size_t>(lane)] != expected) return false;
  }
  return true;
}

TEST(FiberBlock, MissingSyncIsSeen) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    EXPECT_TRUE(right(run<ReadNeighbour<1>>(true, order), 1));
    EXPECT_TRUE(right(run<ReadNeighbour<-1>>(true, order), -1));
    EXPECT_FALSE(right(run<ReadNeighbour<1>>(false, order), 1));
    EXPECT_FALSE(right(run<ReadNeighbour<-1>>(false, order), -1));
  }
}

TEST(FiberBlock, ReadsBeforeWritesArePoison) {
  EXPECT_TRUE(std::isnan(run<ReadNeighbour<1>>(false, LaneOrder::kForward)[0]));
  EXPECT_TRUE(std::isnan(run<ReadNeighbour<-1>>(false, LaneOrder::kReverse)[kLanes - 1]));
}

struct SyncInOneBranch {
  template <class B>
  static void run(B& block, const Args&) {
    if (block.lane().number != 3) block.sync();
  }
};

struct DifferentSyncs {
  template <class B>
  static void run(B& block, const Args&) {
    if (block.lane().number == 5) {
      block.sync();
    } else {
      block.sync();
    }
  }
};

struct Throws {
  template <class B>
  static void run(B& block, const Args&) {
    block.sync();
    if (block.lane().number == 2) throw std::runtime_error("from lane 2");
    block.sync();
  }
};

template <class K>
void launch() {
  launch_fibers<K, kLanes>(Args{nullptr, true}, 1, 0, LaneOrder::kForward);
}

// A throw makes the address sanitizer clear the marks of the stack it takes for the current one, which with Debian's
// Boost.Context (not built for the sanitizer) is not the fiber's.
#ifdef __SANITIZE_ADDRESS__
#define SKIP_WITH_ADDRESS_SANITIZER() GTEST_SKIP() << "the address sanitizer does not know a fiber's stack"
#else
#define SKIP_WITH_ADDRESS_SANITIZER() static_cast<void>(0)
#endif

TEST(FiberBlock, DivergedLanesThrow) {
  SKIP_WITH_ADDRESS_SANITIZER();
  using ::testing::HasSubstr;
  EXPECT_THAT(launch<SyncInOneBranch>, ::testing::ThrowsMessage<std::logic_error>(HasSubstr("lane 3 is at the end")));
  EXPECT_THAT(launch<DifferentSyncs>, ::testing::ThrowsMessage<std::logic_error>(HasSubstr("lane 5 is at")));
}

constexpr int kTwoWarps = 64;

/// Each warp meets as often as its number says, and then with the other.
struct WarpsOnTheirOwn {
  template <class B>
  static void run(B& block, const Args& args) {
    const int lane = block.lane().number, warp = lane / 32;
    float* slots = block.storage();
    for (int i = 0; i <= warp; ++i) {
      slots[lane] = static_cast<float>(lane + i);
      block.sync_warp();
      args.out[lane] = slots[warp * 32 + (lane + 1) % 32] - static_cast<float>(i);
      block.sync_warp();
    }
    block.sync();
    args.out[lane] += 1000.0f * slots[(lane + 32) % kTwoWarps];
  }
};

/// The last lane of the second warp is missing from its warp's collective.
struct OneLaneMissing {
  template <class B>
  static void run(B& block, const Args&) {
    if (block.lane().number != 63) block.sync_warp();
    block.sync();
  }
};

/// Whole warps at different places of the block's collective.
struct WarpsApart {
  template <class B>
  static void run(B& block, const Args&) {
    if (block.lane().number >= 32) {
      block.sync();
    } else {
      block.sync();
    }
  }
};

/// The second team writes what the first reads; lanes(), one() and any() are the first one's.
struct TwoTeams {
  template <class B>
  static void run(B& block, const Args& args) {
    float* slots = block.storage();
    const int lane = block.lane().number;
    if (block.team() == 1) slots[lane] = static_cast<float>(2 * lane);
    PerLane<B, bool> mask;
    mask[block.lane()] = block.team() == 1;  // means nothing there
    const bool any = block.any(mask);
    block.lanes([&](typename B::Lane mine) { args.out[mine.number] += slots[mine.number] + (any ? 1000.0f : 0.0f); });
    block.one([&] { args.out[0] += 0.5f; });
  }
};

template <class K>
void launch_two_warps() {
  launch_fibers<K, kTwoWarps>(Args{nullptr, true}, 1, 0, LaneOrder::kForward);
}

TEST(FiberBlock, WarpsRunOnTheirOwnUntilTheBlockMeets) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    std::vector<float> out(kTwoWarps);
    launch_fibers<WarpsOnTheirOwn, kTwoWarps>(Args{out.data(), true}, 1, kTwoWarps, order);
    for (int lane = 0; lane < kTwoWarps; ++lane) {
      const int warp = lane / 32, other = (lane + 32) % kTwoWarps;
      const int neighbour = warp * 32 + (lane + 1) % 32;
      EXPECT_EQ(out[static_cast<std::size_t>(lane)], static_cast<float>(neighbour + 1000 * (other + other / 32)));
    }
  }
}

TEST(FiberBlock, TeamsShareABlock) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    std::vector<float> out(32, 0.0f);
    launch_fibers<TwoTeams, 32, Precision::kFp32, 2>(Args{out.data(), true}, 1, 32, order);
    for (int lane = 0; lane < 32; ++lane) {
      EXPECT_EQ(out[static_cast<std::size_t>(lane)], static_cast<float>(2 * lane) + (lane == 0 ? 0.5f : 0.0f));
    }
  }
}

TEST(FiberBlock, DivergedWarpsThrow) {
  SKIP_WITH_ADDRESS_SANITIZER();
  using ::testing::HasSubstr;
  EXPECT_THAT(launch_two_warps<OneLaneMissing>, ::testing::ThrowsMessage<std::logic_error>(HasSubstr("lane 63 is at")));
  EXPECT_THAT(launch_two_warps<WarpsApart>, ::testing::ThrowsMessage<std::logic_error>(HasSubstr("lane 32 is at")));
}

TEST(FiberBlock, ExceptionsReachTheCaller) {
  SKIP_WITH_ADDRESS_SANITIZER();
  EXPECT_THROW(launch<Throws>(), std::runtime_error);
}

struct Collectives {
  template <class B>
  static void run(B& block, const Args& args) {
    using Lane = typename B::Lane;
    PerLane<B, float> x;
    PerLane<B, bool> last;
    block.activate(11);
    block.lanes([&](Lane lane) {
      x[lane] = static_cast<float>(lane.number);
      last[lane] = lane.number == 15;
    });
    const float sum = block.sum(x);
    const bool inactive = block.any(last);
    block.activate(16);
    const bool active = block.any(last);
    block.lanes([&](Lane lane) { args.out[lane.number] = sum + (inactive ? 1000.0f : 0.0f) + (active ? 0.5f : 0.0f); });
  }
};

TEST(FiberBlock, CollectivesCountActiveLanesAndAnswerEveryLane) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    EXPECT_THAT(run<Collectives>(true, order), ::testing::Each(55.5f));
  }
}

/// Sums of several values, one after the other: a lane may begin the next while others still read the last.
struct SumAfterSum {
  template <class B>
  static void run(B& block, const Args& args) {
    using Lane = typename B::Lane;
    float total = 0.0f;
    block.activate(11);
    for (int round = 1; round <= 3; ++round) {
      PerLane<B, float> x[3];
      block.lanes([&](Lane lane) {
        for (int k = 0; k < 3; ++k) x[k][lane] = static_cast<float>(round * (lane.number + k));
      });
      const Sums<3> sums = block.sums(x);
      total += sums[0] + 10.0f * sums[1] + 100.0f * sums[2];
    }
    block.activate(16);
    block.lanes([&](Lane lane) { args.out[lane.number] = total; });
  }
};

TEST(FiberBlock, SumsOfSeveralValues) {
  // Of lanes 0..10: 55, 66 and 77, times 1 + 2 + 3.
  const float expected = 6.0f * (55.0f + 660.0f + 7700.0f);
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    EXPECT_THAT(run<SumAfterSum>(true, order), ::testing::Each(expected));
  }
}

/// Each lane copies four floats and one, and reads them before or after it has waited.
template <bool Waits, int Misaligned = 0>
struct CopyAhead {
  template <class B>
  static void run(B& block, const Args& args) {
    alignas(16) static constexpr std::array<float, 8> kSource = {1, 2, 3, 4, 5, 6, 7, 8};
    block.lanes([&](typename B::Lane lane) {
      float* const to = block.storage() + lane.number * 8;
      block.template copy_ahead<4>(to + Misaligned, kSource.data() + 4);
      block.template copy_ahead<1>(to + 4, kSource.data() + 2);
      if (Waits) block.wait_for_copies();
      args.out[lane.number] = to[0] + to[3] + 100.0f * to[4];
    });
  }
};

TEST(FiberBlock, CopiesAreThereAfterTheWait) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse}) {
    std::vector<float> out(kLanes);
    launch_fibers<CopyAhead<true>, kLanes>(Args{out.data(), true}, 1, 8 * kLanes, order);
    EXPECT_THAT(out, ::testing::Each(5.0f + 8.0f + 300.0f));
    launch_fibers<CopyAhead<false>, kLanes>(Args{out.data(), true}, 1, 8 * kLanes, order);
    EXPECT_THAT(out, ::testing::Each(::testing::IsNan()));
  }
}

TEST(FiberBlock, MisalignedCopiesThrow) {
  SKIP_WITH_ADDRESS_SANITIZER();
  using ::testing::HasSubstr;
  std::vector<float> out(kLanes);
  const auto copy = [&] {
    launch_fibers<CopyAhead<true, 2>, kLanes>(Args{out.data(), true}, 1, 8 * kLanes, LaneOrder::kForward);
  };
  EXPECT_THAT(copy, ::testing::ThrowsMessage<std::logic_error>(HasSubstr("not aligned")));
}

}  // namespace
}  // namespace perilune::test
