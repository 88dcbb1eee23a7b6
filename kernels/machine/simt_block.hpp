// What CudaBlock and FiberBlock have in common: one float per lane, and element-wise access to arrays.
#pragma once

#include "kernels/machine/block.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// What a lane reads or writes at once.
struct alignas(16) Float4 {
  float x[4];
};

/// Derived supplies thread(), sync(), any(), sum(), last_of_grid(), lower(), index(), count(), storage().
///
/// Teams of as many threads as there are lanes run networks side by side. The first team's threads are the lanes;
/// others take no part in lanes(), and values that each lane keeps mean nothing there.
template <class Derived, int Lanes, Precision P, int Teams = 1>
class SimtBlockBase {
 public:
  static_assert(Lanes % 4 == 0);
  using Real = float;
  struct Lane {
    int number;
  };
  static constexpr Precision kPrecision = P;
  static constexpr int kLanes = Lanes;
  static constexpr int kTeams = Teams;
  static constexpr int kThreadCount = Lanes * Teams;  // of all teams
  static constexpr int kStride = Lanes + 4;  // spreads the accesses of the matrix verbs (dense_simt.hpp) over the banks
  static constexpr bool kThreads = true;
  static constexpr int kOwned = 1;
  static constexpr int kUnit = Lanes;
  static constexpr int kSplit = Lanes % 32 == 0 ? 8 : 1;
  static constexpr int kColumns = Lanes / kSplit;
  // Blocks in fp32 run below compute capability 8.0 as well, where there is no such copy, and several share a
  // multiprocessor.
  static constexpr bool kCopiesAhead = P != Precision::kFp32;

  /// Of the thread's team.
  PERILUNE_DEVICE Lane lane() const { return {Teams == 1 ? self().thread() : self().thread() % Lanes}; }
  PERILUNE_DEVICE int team() const { return Teams == 1 ? 0 : self().thread() / Lanes; }

  PERILUNE_DEVICE void activate(int lanes) { active_ = lanes; }
  PERILUNE_DEVICE static int owned(Lane) { return 0; }
  PERILUNE_DEVICE std::uint32_t numbers(Lane lane) const { return static_cast<std::uint32_t>(lane.number); }
  PERILUNE_DEVICE bool active(Lane lane) const { return lane.number < active_; }
  PERILUNE_DEVICE std::uint32_t repeated_numbers(Lane lane) const { return static_cast<std::uint32_t>(repeated(lane)); }
  template <class F>
  PERILUNE_DEVICE void lanes(F&& f) const {
    if (team() == 0) f(lane());
  }
  template <class F>
  PERILUNE_DEVICE void one(F&& f) const {
    if (self().thread() == 0) f();
  }

  PERILUNE_DEVICE static Lane column(Lane lane) { return {lane.number % kColumns}; }
  PERILUNE_DEVICE static int part(Lane lane) { return lane.number / kColumns; }

  PERILUNE_DEVICE static float load_lane(const float* from, Lane lane) { return from[lane.number]; }
  PERILUNE_DEVICE static void store_lane(float* to, Lane lane, float x) { to[lane.number] = x; }

  PERILUNE_DEVICE float load(const float* from, Lane lane) const { return active(lane) ? from[lane.number] : 0.0f; }
  PERILUNE_DEVICE std::uint32_t load(const std::uint32_t* from, Lane lane) const {
    return active(lane) ? from[lane.number] : 0u;
  }
  PERILUNE_DEVICE bool load(const std::uint8_t* from, Lane lane) const {
    return active(lane) && from[lane.number] != 0;
  }
  PERILUNE_DEVICE float load_repeated(const float* from, Lane lane) const {
    return active_ > 0 ? from[repeated(lane)] : 0.0f;
  }
  PERILUNE_DEVICE std::uint32_t load_repeated(const std::uint32_t* from, Lane lane) const {
    return active_ > 0 ? from[repeated(lane)] : 0u;
  }
  PERILUNE_DEVICE bool load_repeated(const std::uint8_t* from, Lane lane) const {
    return active_ > 0 && from[repeated(lane)] != 0;
  }
  PERILUNE_DEVICE void store(float* to, Lane lane, float x) const {
    if (active(lane)) to[lane.number] = x;
  }
  PERILUNE_DEVICE void store(std::uint32_t* to, Lane lane, std::uint32_t x) const {
    if (active(lane)) to[lane.number] = x;
  }
  PERILUNE_DEVICE void store(std::uint8_t* to, Lane lane, bool x) const {
    if (active(lane)) to[lane.number] = x ? 1 : 0;
  }
  PERILUNE_DEVICE void store(std::int64_t* to, Lane lane, std::uint32_t x) const {
    if (active(lane)) to[lane.number] = x;
  }

  PERILUNE_DEVICE std::uint32_t load_choice(const std::int32_t* from, Lane lane) const {
    return active_ > 0 ? static_cast<std::uint32_t>(from[repeated(lane)]) : 0u;
  }
  PERILUNE_DEVICE std::uint32_t load_choice(const std::int64_t* from, Lane lane) const {
    const auto x = active_ > 0 ? static_cast<std::uint64_t>(from[repeated(lane)]) : 0u;
    return x < ~std::uint32_t{0} ? static_cast<std::uint32_t>(x) : ~std::uint32_t{0};
  }
  template <int Count>
  PERILUNE_DEVICE void load_row(const float* from, Lane lane, float (&x)[Count]) const {
    const float* row = from + static_cast<std::ptrdiff_t>(repeated(lane)) * Count;
    PERILUNE_UNROLL
    for (int k = 0; k < Count; ++k) x[k] = active_ > 0 ? row[k] : 0.0f;
  }
  template <int Count>
  PERILUNE_DEVICE void store_row(float* to, Lane lane, const float (&x)[Count], bool mask = true) const {
    if (!mask || !active(lane)) return;
    float* row = to + static_cast<std::ptrdiff_t>(lane.number) * Count;
    PERILUNE_UNROLL
    for (int k = 0; k < Count; ++k) row[k] = x[k];
  }
  template <class T>
  PERILUNE_DEVICE void store_where(T* to, Lane lane, T x, bool mask) const {
    if (mask && active(lane)) to[lane.number] = x;
  }
  template <class F>
  PERILUNE_DEVICE void each(Lane lane, bool mask, F&& f) const {
    if (mask && active(lane)) f(lane.number);
  }
  PERILUNE_DEVICE static void raise(std::uint32_t& flag) { flag = 1; }
  PERILUNE_DEVICE void fill_zero(float* to, int n) const {
    for (int i = self().thread(); i < n; i += kThreadCount) to[i] = 0.0f;
  }
  PERILUNE_DEVICE float gather(const float* from, std::uint32_t index, Lane lane) const {
    return from[active(lane) ? index : 0u];
  }
  template <int Count>
  PERILUNE_DEVICE void scatter_rows(float* to, std::uint32_t index, Lane lane, const float (&x)[Count]) const {
    if (!active(lane)) return;
    float* row = to + static_cast<std::size_t>(index) * Count;
    if constexpr (Count % 4 == 0) {
      PERILUNE_UNROLL
      for (int k = 0; k < Count; k += 4) {
        *reinterpret_cast<Float4*>(row + k) = {{x[k], x[k + 1], x[k + 2], x[k + 3]}};
      }
    } else {
      PERILUNE_UNROLL
      for (int k = 0; k < Count; ++k) row[k] = x[k];
    }
  }
  template <int Count>
  PERILUNE_DEVICE void prefetch_rows(const float*, std::uint32_t, Lane) const {}
  template <int Count>
  requires(Count % 4 == 0) PERILUNE_DEVICE
      void gather_rows(const float* from, std::uint32_t index, Lane lane, float (&x)[Count]) const {
    const float* row = from + static_cast<std::size_t>(active(lane) ? index : 0u) * Count;
    PERILUNE_UNROLL
    for (int k = 0; k < Count; k += 4) load_four(row + k, x + k);
  }
  /// to[0..3] from an address that is aligned to 16 bytes.
  PERILUNE_DEVICE static void load_four(const float* from, float* to) {
    const Float4 four = *reinterpret_cast<const Float4*>(from);
    PERILUNE_UNROLL
    for (int i = 0; i < 4; ++i) to[i] = four.x[i];
  }

 protected:
  int active_ = Lanes;

 private:
  /// The lane, or the last active one where it is not.
  PERILUNE_DEVICE int repeated(Lane lane) const { return active(lane) || active_ == 0 ? lane.number : active_ - 1; }
  PERILUNE_DEVICE const Derived& self() const { return static_cast<const Derived&>(*this); }
};

}  // namespace perilune::inline PERILUNE_LEVEL
