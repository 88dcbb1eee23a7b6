// The CPU machine's Block: one core works through the lanes a pack at a time, so every collective is a plain loop.
#pragma once

#include <atomic>

#include "kernels/machine/block.hpp"
#include "kernels/machine/pack.hpp"
#include "kernels/machine/thread_pool.hpp"

namespace perilune::inline PERILUNE_LEVEL {

template <int Lanes, Precision P = Precision::kFp32>
class CpuBlock {
 public:
  static_assert(Lanes % kPackLanes == 0);
  using Real = Pack;
  struct Lane {
    int first;  // number of the pack's first lane
  };
  static constexpr Precision kPrecision = P;
  static constexpr int kLanes = Lanes;
  static constexpr int kStride = Lanes;
  static constexpr bool kThreads = false;
  static constexpr int kTeams = 1;
  static constexpr int kOwned = Lanes / kPackLanes;
  static constexpr int kUnit = kPackLanes;
  static constexpr int kSplit = 1;
  static constexpr int kColumns = Lanes;
  static constexpr bool kCopiesAhead = false;

  static constexpr int kTransposedFloats = Lanes * kMaxFusedWidth;

  /// storage: kTransposedFloats and then what the body carves.
  CpuBlock(int index, int count, float* storage) : index_(index), count_(count), active_(Lanes), storage_(storage) {}

  int index() const { return index_; }
  int count() const { return count_; }
  float* storage() const { return storage_ + kTransposedFloats; }
  /// Where dense_backward_weights transposes its input: before the tiles, so that its place is the same in every body.
  float* transposed() const { return storage_; }
  void activate(int lanes) { active_ = lanes; }
  /// Packs that have an active lane.
  int packs() const { return (active_ + kPackLanes - 1) / kPackLanes; }

  PERILUNE_HD static int owned(Lane lane) { return lane.first / kPackLanes; }
  PERILUNE_HD PackUInt numbers(Lane lane) const { return lane_numbers(static_cast<std::uint32_t>(lane.first)); }
  PERILUNE_HD PackUInt repeated_numbers(Lane lane) const {
    const PackUInt own = numbers(lane);
    return full(lane) ? own : select(active(lane), own, PackUInt(static_cast<std::uint32_t>(active_ - 1)));
  }
  PERILUNE_HD PackMask active(Lane lane) const { return numbers(lane) < PackUInt(static_cast<std::uint32_t>(active_)); }

  template <class F>
  PERILUNE_HD void lanes(F&& f) const {
    for (int first = 0; first < active_; first += kPackLanes) f(Lane{first});
  }
  PERILUNE_HD void sync() const {}
  template <class F>
  PERILUNE_HD void one(F&& f) const {
    f();
  }

  PERILUNE_HD bool any(const PerLane<CpuBlock, PackMask>& mask) const {
    PackMask found(false);
    lanes([&](Lane lane) { found = found | (mask[lane] & active(lane)); });
    return perilune::any(found);
  }
  PERILUNE_HD float sum(const PerLane<CpuBlock, Pack>& x) const {
    Pack total(0.0f);
    lanes([&](Lane lane) { total += select(active(lane), x[lane], Pack(0.0f)); });
    return sum_lanes(total);
  }
  template <int N>
  PERILUNE_HD Sums<N> sums(const PerLane<CpuBlock, Pack> (&x)[N]) const {
    Sums<N> result;
    for (int k = 0; k < N; ++k) result[k] = sum(x[k]);
    return result;
  }

  PERILUNE_HD static Lane column(Lane lane) { return lane; }
  PERILUNE_HD static int part(Lane) { return 0; }
  bool last_of_grid(std::uint32_t& ticket) const {
    const std::atomic_ref<std::uint32_t> done(ticket);
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 != static_cast<std::uint32_t>(count_)) return false;
    done.store(0, std::memory_order_relaxed);
    return true;
  }

  PERILUNE_HD static Pack load_lane(const float* from, Lane lane) { return load_pack(from + lane.first); }
  PERILUNE_HD static void store_lane(float* to, Lane lane, Pack x) { store_pack(to + lane.first, x); }

  // Arrays may be read kPackLanes - 1 elements past their end (kTailPadding); a tail is never written.
  PERILUNE_HD Pack load(const float* from, Lane lane) const {
    const Pack x = load_pack(from + lane.first);
    return full(lane) ? x : select(active(lane), x, Pack(0.0f));
  }
  PERILUNE_HD PackUInt load(const std::uint32_t* from, Lane lane) const {
    PackUInt x;
    memcpy(&x.value, from + lane.first, sizeof x.value);
    return full(lane) ? x : select(active(lane), x, PackUInt(0u));
  }
  PERILUNE_HD PackMask load(const std::uint8_t* from, Lane lane) const {
    const PackMask mask = load_mask(from + lane.first);
    return full(lane) ? mask : mask & active(lane);
  }
  PERILUNE_HD Pack load_repeated(const float* from, Lane lane) const {
    const Pack x = load_pack(from + lane.first);
    return full(lane) ? x : select(active(lane), x, Pack(from[active_ - 1]));
  }
  PERILUNE_HD PackUInt load_repeated(const std::uint32_t* from, Lane lane) const {
    PackUInt x;
    memcpy(&x.value, from + lane.first, sizeof x.value);
    return full(lane) ? x : select(active(lane), x, PackUInt(from[active_ - 1]));
  }
  PERILUNE_HD PackMask load_repeated(const std::uint8_t* from, Lane lane) const {
    const PackMask mask = load_mask(from + lane.first);
    return full(lane) ? mask : (mask & active(lane)) | (PackMask(from[active_ - 1] != 0) & !active(lane));
  }
  PERILUNE_HD void store(float* to, Lane lane, Pack x) const {
    if (full(lane)) {
      store_pack(to + lane.first, x);
    } else {
      for (int i = 0; i < active_ - lane.first; ++i) to[lane.first + i] = x[i];
    }
  }
  PERILUNE_HD void store(std::uint32_t* to, Lane lane, PackUInt x) const {
    if (full(lane)) {
      memcpy(to + lane.first, &x.value, sizeof x.value);
    } else {
      for (int i = 0; i < active_ - lane.first; ++i) to[lane.first + i] = x[i];
    }
  }
  PERILUNE_HD void store(std::uint8_t* to, Lane lane, PackMask x) const {
    std::uint8_t bytes[kPackLanes];
    store_mask(full(lane) ? to + lane.first : bytes, x);
    if (!full(lane)) memcpy(to + lane.first, bytes, static_cast<std::size_t>(active_ - lane.first));
  }
  PERILUNE_HD void store(std::int64_t* to, Lane lane, PackUInt x) const {
    for (int i = 0; i < lanes_here(lane); ++i) to[lane.first + i] = x[i];
  }

  PERILUNE_HD PackUInt load_choice(const std::int32_t* from, Lane lane) const {
    std::int32_t x[kPackLanes];
    return load_choices(exact(x, from, lane));
  }
  PERILUNE_HD PackUInt load_choice(const std::int64_t* from, Lane lane) const {
    std::int64_t x[kPackLanes];
    return load_choices(exact(x, from, lane));
  }
  template <int Count>
  PERILUNE_HD void load_row(const float* from, Lane lane, Pack (&x)[Count]) const {
    const int last = lanes_here(lane) - 1;
    for (int i = 0; i < kPackLanes; ++i) {
      const int row = lane.first + (i < last ? i : last);
      for (int k = 0; k < Count; ++k) x[k].value[i] = from[row * Count + k];
    }
  }
  template <int Count>
  PERILUNE_HD void store_row(float* to, Lane lane, const Pack (&x)[Count]) const {
    float* first = to + static_cast<std::ptrdiff_t>(lane.first) * Count;
    if (full(lane)) return store_rows(first, x);
    float rows[kPackLanes * Count];
    store_rows(rows, x);
    memcpy(first, rows, static_cast<std::size_t>((active_ - lane.first) * Count) * sizeof(float));
  }
  template <int Count>
  PERILUNE_HD void store_row(float* to, Lane lane, const Pack (&x)[Count], PackMask mask) const {
    float rows[kPackLanes * Count];
    store_rows(rows, x);
    each(lane, mask, [&](int number) {
      memcpy(to + static_cast<std::ptrdiff_t>(number) * Count, rows + (number - lane.first) * Count,
             Count * sizeof(float));
    });
  }
  template <class T, class X>
  PERILUNE_HD void store_where(T* to, Lane lane, X x, PackMask mask) const {
    if (full(lane)) return store(to, lane, select(mask, x, load(to, lane)));
    each(lane, mask, [&](int number) { to[number] = x[number - lane.first]; });
  }
  template <class F>
  PERILUNE_HD void each(Lane lane, PackMask mask, F&& f) const {
    const IntVector bits = mask.lanes();
    for (int i = 0; i < lanes_here(lane); ++i) {
      if (bits[i] != 0) f(lane.first + i);
    }
  }
  static void lower(std::uint64_t& x, std::uint64_t value) {
    const std::atomic_ref<std::uint64_t> shared(x);
    std::uint64_t seen = shared.load(std::memory_order_relaxed);
    while (value < seen && !shared.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
    }
  }
  static void raise(std::uint32_t& flag) { std::atomic_ref<std::uint32_t>(flag).store(1, std::memory_order_relaxed); }

  void fill_zero(float* to, int n) const { memset(to, 0, static_cast<std::size_t>(n) * 4); }

  PERILUNE_HD Pack gather(const float* from, PackUInt index, Lane lane) const {
    const PackUInt safe = full(lane) ? index : select(active(lane), index, PackUInt(0u));
    Pack x;
    for (int i = 0; i < kPackLanes; ++i) x.value[i] = from[safe[i]];
    return x;
  }
  /// Writes rows [index][count] of an array of structures: element (index, k) = x[k].
  template <int Count>
  PERILUNE_HD void scatter_rows(float* to, PackUInt index, Lane lane, const Pack (&x)[Count]) const {
    float rows[Count][kPackLanes];
    std::uint32_t indices[kPackLanes];
    memcpy(indices, &index.value, sizeof indices);
    for (int k = 0; k < Count; ++k) store_pack(rows[k], x[k]);
    const int here = lanes_here(lane);
    for (int i = 0; i < here; ++i) {
      float* row = to + static_cast<std::size_t>(indices[i]) * Count;
      for (int k = 0; k < Count; ++k) row[k] = rows[k][i];
    }
  }
  /// Asks for rows [index][Count] to be brought into the L2 cache: L3 misses of a random gather take longer than its
  /// work. Into L1, which a tile's work fills several times, training measured 5% slower.
  template <int Count>
  PERILUNE_HD void prefetch_rows(const float* from, PackUInt index, Lane lane) const {
    const PackUInt safe = full(lane) ? index : select(active(lane), index, PackUInt(0u));
    std::uint32_t indices[kPackLanes];
    memcpy(indices, &safe.value, sizeof indices);
    for (int i = 0; i < kPackLanes; ++i) {
      __builtin_prefetch(from + static_cast<std::size_t>(indices[i]) * Count, 0, 2);
    }
  }
  template <int Count>
  requires(Count % 4 == 0) PERILUNE_HD
      void gather_rows(const float* from, PackUInt index, Lane lane, Pack (&x)[Count]) const {
    const PackUInt safe = full(lane) ? index : select(active(lane), index, PackUInt(0u));
    std::uint32_t indices[kPackLanes];
    memcpy(indices, &safe.value, sizeof indices);
    for (int k = 0; k < Count; k += 4) {
      Pack four[4];
      load_quads([&](int l) { return from + static_cast<std::size_t>(indices[l]) * Count + k; }, four);
      PERILUNE_UNROLL
      for (int i = 0; i < 4; ++i) x[k + i] = four[i];
    }
  }

 private:
  PERILUNE_HD bool full(Lane lane) const { return lane.first + kPackLanes <= active_; }
  /// The lanes' elements of an array without padding: where they are, or copied to x if it ends among them, and the
  /// last of them repeated.
  template <class T>
  PERILUNE_HD const T* exact(T (&x)[kPackLanes], const T* from, Lane lane) const {
    if (full(lane)) return from + lane.first;
    const int here = active_ - lane.first;
    for (int i = 0; i < kPackLanes; ++i) x[i] = from[lane.first + (i < here ? i : here - 1)];
    return x;
  }
  PERILUNE_HD int lanes_here(Lane lane) const { return full(lane) ? kPackLanes : active_ - lane.first; }

  int index_, count_, active_;
  float* storage_;
};

/// Runs kernel K over its grid: K::run(block, args) for every block.
template <class K, class B, class Args>
void launch_cpu(const Args& args, int blocks, Queue& queue) {
  queue.pool->run(
      blocks,
      [](const void* context, int index, int count, float* storage) {
        B block(index, count, storage);
        K::run(block, *static_cast<const Args*>(context));
      },
      &args);
}

}  // namespace perilune::inline PERILUNE_LEVEL
