// What each instruction does. The table at the end is all that the machine knows.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>

#include "kernels/machine/tensor_core_emulation.hpp"
#include "tests/ptx/machine.hpp"
#include "tests/ptx/opcodes.hpp"

namespace perilune::ptx {

namespace {

using u16 = std::uint16_t;
using i16 = std::int16_t;
using u32 = std::uint32_t;
using i32 = std::int32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

/// A predicate register's lane: all bits of it or none.
enum class Predicate : u32 {};
constexpr Predicate predicate(bool value) { return static_cast<Predicate>(value ? ~0u : 0u); }
constexpr bool is_set(Predicate p) { return p != Predicate{0}; }

template <class T>
constexpr char kClass = std::is_same_v<T, Predicate> ? 'p'
                        : sizeof(T) == 2             ? 'h'
                        : sizeof(T) == 4             ? 'w'
                                                     : 'd';
template <class... T>
constexpr char kLetters[] = {kClass<T>..., 0};

/// d[lane] = f(sources[lane]...). All lanes are computed, and those that take part keep it.
template <class F, class D, class... S, std::size_t... I>
void map_lanes(Warp& warp, const Instruction& instruction, Mask mask, std::index_sequence<I...>) {
  D* d = warp.lanes<D>(instruction.operands[0]);
  const std::tuple<const S*...> sources{warp.lanes<S>(instruction.operands[I + 1])...};
  if (mask == kAllLanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) d[lane] = F{}(std::get<I>(sources)[lane]...);
  } else {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (mask >> lane & 1) d[lane] = F{}(std::get<I>(sources)[lane]...);
    }
  }
}
template <class F, class D, class... S>
void map(Warp& warp, const Instruction& instruction, Mask mask) {
  map_lanes<F, D, S...>(warp, instruction, mask, std::index_sequence_for<S...>{});
}
template <class D, class... S, class F>
Opcode plain(F) {
  return {map<F, D, S...>, kLetters<D, S...>};
}

// ---- arithmetic ----

/// A number of which one is a NaN: the other; -0 is less than +0.
float minimum(float a, float b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
float maximum(float a, float b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
float without_sign(float x) { return std::bit_cast<float>(std::bit_cast<u32>(x) & 0x7FFFFFFFu); }
float other_sign(float x) { return std::bit_cast<float>(std::bit_cast<u32>(x) ^ 0x80000000u); }

template <class T>
T truncate(float x) {
  if (x != x) return 0;
  if (x >= static_cast<float>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  if (x <= static_cast<float>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  return static_cast<T>(x);
}

template <class T>
T shift_left(T x, u32 by) {
  return by < sizeof(T) * 8 ? static_cast<T>(x << by) : T{0};
}
template <class T>
T shift_right(T x, u32 by) {
  constexpr u32 kBits = sizeof(T) * 8;
  if (by < kBits) return static_cast<T>(x >> by);
  return static_cast<T>(x >> (kBits - 1) >> (std::is_signed_v<T> ? 0 : 1));
}
template <class T>
T insert_bits(T a, T b, u32 position, u32 length) {
  constexpr u32 kBits = sizeof(T) * 8;
  position &= 0xFFu;
  length &= 0xFFu;
  if (position >= kBits || length == 0) return b;
  const T ones = length >= kBits ? ~T{0} : static_cast<T>((T{1} << length) - 1);
  const T mask = static_cast<T>(ones << position);
  return static_cast<T>((b & ~mask) | (static_cast<T>(a << position) & mask));
}

/// Integers divided: nobody says what becomes of x / 0.
template <class T, bool Remainder>
void divide(Warp& warp, const Instruction& instruction, Mask mask) {
  T* d = warp.lanes<T>(instruction.operands[0]);
  const T *a = warp.lanes<T>(instruction.operands[1]), *b = warp.lanes<T>(instruction.operands[2]);
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    if (b[lane] == 0) warp.fault(instruction, lane, "divides by nought");
    if constexpr (std::is_signed_v<T>) {
      if (b[lane] == -1) {
        d[lane] = Remainder
                      ? T{0}
                      : static_cast<T>(std::make_unsigned_t<T>{0} - static_cast<std::make_unsigned_t<T>>(a[lane]));
        continue;
      }
    }
    d[lane] = Remainder ? static_cast<T>(a[lane] % b[lane]) : static_cast<T>(a[lane] / b[lane]);
  }
}
template <class T, bool Remainder>
Opcode division() {
  return {divide<T, Remainder>, kLetters<T, T, T>};
}

/// tanh.approx: at most 2^-10.987 off, relatively. The worst is pseudo-random in sign, so that errors cannot cancel by
/// design.
void approximate_tanh(Warp& warp, const Instruction& instruction, Mask mask) {
  float* d = warp.lanes<float>(instruction.operands[0]);
  const float* a = warp.lanes<float>(instruction.operands[1]);
  const bool worst = warp.machine().options.tanh == Approximation::kWorst;
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const float x = a[lane];
    float y = EmulatedTensorCore::network_tanh(x);
    if (worst) {
      const bool up = (std::bit_cast<u32>(x) * 0x9E3779B9u >> 31) != 0;
      y *= up ? 1.0f + 4.9e-4f : 1.0f - 4.9e-4f;
      y = std::fmin(std::fmax(y, -1.0f), 1.0f);
    }
    d[lane] = y;
  }
}

// ---- what lanes do together ----

void shuffle_butterfly(Warp& warp, const Instruction& instruction, Mask mask) {
  const auto& o = instruction.operands;
  u32 *d = warp.lanes<u32>(o[0]), *valid = warp.lanes<u32>(o[1]);
  u32 a[kLanes];
  std::memcpy(a, warp.lanes<u32>(o[2]), sizeof a);
  const u32 *by = warp.lanes<u32>(o[3]), *bounds = warp.lanes<u32>(o[4]);
  u32 result[kLanes], in_range[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const u32 me = static_cast<u32>(lane), segment = bounds[lane] >> 8 & 31u, clamp = bounds[lane] & 31u;
    const u32 last = (me & segment) | (clamp & ~segment);
    const u32 from = me ^ (by[lane] & 31u);
    in_range[lane] = from <= last ? ~0u : 0u;
    result[lane] = a[from <= last ? from : me];
    if ((mask >> lane & 1) != 0 && from <= last && (mask >> from & 1) == 0) {
      warp.fault(instruction, lane, "takes a number of lane " + std::to_string(from) + ", which is not in its mask");
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    d[lane] = result[lane];
    valid[lane] = in_range[lane];
  }
}

// ---- memory ----

/// Register: what the registers hold, in which an element narrower than they is extended.
template <class Element, class Register>
void load(Warp& warp, const Instruction& instruction, Mask mask) {
  const Space space = instruction.address.space;
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const u64 at = warp.address(instruction.address, lane);
    if (at % (sizeof(Element) * instruction.elements) != 0)
      warp.fault(instruction, lane, "reads a vector at an address that is no multiple of its size");
    Register values[4];
    for (std::size_t i = 0; i < instruction.elements; ++i) {
      Element value;
      const Range range{space, at + i * sizeof(Element), sizeof(Element)};
      std::memcpy(&value, warp.access(instruction, lane, range, nullptr), sizeof value);
      if (warp.take_uncertain()) value = another(value);
      values[i] = static_cast<Register>(value);
    }
    for (std::size_t i = 0; i < instruction.elements; ++i)
      warp.lanes<Register>(instruction.operands[i])[lane] = values[i];
  }
}
template <class Element, class Register>
void store(Warp& warp, const Instruction& instruction, Mask mask) {
  const Space space = instruction.address.space;
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const u64 at = warp.address(instruction.address, lane);
    if (at % (sizeof(Element) * instruction.elements) != 0)
      warp.fault(instruction, lane, "writes a vector at an address that is no multiple of its size");
    for (std::size_t i = 0; i < instruction.elements; ++i) {
      const auto value = static_cast<Element>(warp.lanes<Register>(instruction.operands[i])[lane]);
      const Range range{space, at + i * sizeof(Element), sizeof(Element)};
      std::memcpy(warp.access(instruction, lane, range, &value), &value, sizeof value);
    }
  }
}

/// d = old; memory = f(old, b).
template <class T, class F>
void atomic(Warp& warp, const Instruction& instruction, Mask mask) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const u64 address = warp.address(instruction.address, lane);
    std::byte* at = warp.access(instruction, lane, {instruction.address.space, address, sizeof(T)}, nullptr, true);
    T old;
    std::memcpy(&old, at, sizeof old);
    const T next = F{}(old, warp.lanes<T>(instruction.operands[1])[lane]);
    std::memcpy(at, &next, sizeof next);
    warp.lanes<T>(instruction.operands[0])[lane] = old;
    warp.machine().publish(warp.block(), warp.thread(lane));
  }
}
template <class T, class F>
Opcode atomic_opcode(F) {
  return {atomic<T, F>, sizeof(T) == 8 ? "d@d" : "w@w"};
}

// ---- the table ----

template <class T>
void add_comparisons(OpcodeTable& table, const std::string& type) {
  const auto add = [&](const char* name, Opcode opcode) { table["setp." + std::string(name) + "." + type] = opcode; };
  add("eq", plain<Predicate, T, T>([](T a, T b) { return predicate(a == b); }));
  // ne is false for a NaN, as all comparisons but those that end in u.
  add("ne", plain<Predicate, T, T>([](T a, T b) { return predicate(a < b || a > b); }));
  add("lt", plain<Predicate, T, T>([](T a, T b) { return predicate(a < b); }));
  add("le", plain<Predicate, T, T>([](T a, T b) { return predicate(a <= b); }));
  add("gt", plain<Predicate, T, T>([](T a, T b) { return predicate(a > b); }));
  add("ge", plain<Predicate, T, T>([](T a, T b) { return predicate(a >= b); }));
}

template <class T>
void add_bits(OpcodeTable& table, const std::string& type) {
  table["and." + type] = plain<T, T, T>([](T a, T b) { return static_cast<T>(a & b); });
  table["or." + type] = plain<T, T, T>([](T a, T b) { return static_cast<T>(a | b); });
  table["xor." + type] = plain<T, T, T>([](T a, T b) { return static_cast<T>(a ^ b); });
  table["not." + type] = plain<T, T>([](T a) { return static_cast<T>(~a); });
  table["shl." + type] = plain<T, T, u32>([](T a, u32 by) { return shift_left(a, by); });
}

/// What every type of this width has, whatever it is called.
template <class T>
void add_moves(OpcodeTable& table, std::initializer_list<const char*> types) {
  for (const std::string type : types) {
    table["mov." + type] = plain<T, T>([](T a) { return a; });
    table["selp." + type] = plain<T, T, T, Predicate>([](T a, T b, Predicate p) { return is_set(p) ? a : b; });
  }
}

template <class T>
void add_integers(OpcodeTable& table, const std::string& type) {
  using U = std::make_unsigned_t<T>;  // in which nothing overflows
  table["add." + type] = plain<T, T, T>([](T a, T b) { return static_cast<T>(static_cast<U>(a) + static_cast<U>(b)); });
  table["sub." + type] = plain<T, T, T>([](T a, T b) { return static_cast<T>(static_cast<U>(a) - static_cast<U>(b)); });
  table["mul.lo." + type] =
      plain<T, T, T>([](T a, T b) { return static_cast<T>(static_cast<U>(a) * static_cast<U>(b)); });
  table["mad.lo." + type] = plain<T, T, T, T>(
      [](T a, T b, T c) { return static_cast<T>(static_cast<U>(a) * static_cast<U>(b) + static_cast<U>(c)); });
  table["neg." + type] = plain<T, T>([](T a) { return static_cast<T>(U{0} - static_cast<U>(a)); });
  table["min." + type] = plain<T, T, T>([](T a, T b) { return a < b ? a : b; });
  table["max." + type] = plain<T, T, T>([](T a, T b) { return a > b ? a : b; });
  table["div." + type] = division<T, false>();
  table["rem." + type] = division<T, true>();
  table["shr." + type] = plain<T, T, u32>([](T a, u32 by) { return shift_right(a, by); });
  add_comparisons<T>(table, type);
}

/// A special register: a number of each lane.
template <class F>
Opcode special(F) {
  return {[](Warp& warp, const Instruction& instruction, Mask mask) {
            u32* d = warp.lanes<u32>(instruction.operands[0]);
            for (int lane = 0; lane < kLanes; ++lane) {
              if (mask >> lane & 1) d[lane] = F{}(warp, lane);
            }
          },
          "w"};
}

OpcodeTable make_table() {
  OpcodeTable table;
  add_moves<u16>(table, {"b16", "u16", "s16"});
  add_moves<u32>(table, {"b32", "u32", "s32", "f32"});
  add_moves<u64>(table, {"b64", "u64", "s64"});
  add_bits<u16>(table, "b16");
  add_bits<u32>(table, "b32");
  add_bits<u64>(table, "b64");
  add_integers<i16>(table, "s16");
  add_integers<u16>(table, "u16");
  add_integers<i32>(table, "s32");
  add_integers<u32>(table, "u32");
  add_integers<i64>(table, "s64");
  add_integers<u64>(table, "u64");
  add_comparisons<u32>(table, "b32");
  add_comparisons<float>(table, "f32");
  table["mul.hi.s32"] = plain<i32, i32, i32>([](i32 a, i32 b) { return static_cast<i32>(i64{a} * b >> 32); });
  table["mul.hi.u32"] = plain<u32, u32, u32>([](u32 a, u32 b) { return static_cast<u32>(u64{a} * b >> 32); });
  table["mul.wide.s32"] = plain<i64, i32, i32>([](i32 a, i32 b) { return i64{a} * b; });
  table["mul.wide.u32"] = plain<u64, u32, u32>([](u32 a, u32 b) { return u64{a} * b; });
  table["bfi.b32"] = plain<u32, u32, u32, u32, u32>([](u32 a, u32 b, u32 p, u32 l) { return insert_bits(a, b, p, l); });
  table["bfi.b64"] = plain<u64, u64, u64, u32, u32>([](u64 a, u64 b, u32 p, u32 l) { return insert_bits(a, b, p, l); });

  // What is true of a NaN too.
  table["setp.equ.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(!(a < b || a > b)); });
  table["setp.neu.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(a != b); });
  table["setp.ltu.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(!(a >= b)); });
  table["setp.leu.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(!(a > b)); });
  table["setp.gtu.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(!(a <= b)); });
  table["setp.geu.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(!(a < b)); });
  table["setp.num.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(a == a && b == b); });
  table["setp.nan.f32"] = plain<Predicate, float, float>([](float a, float b) { return predicate(a != a || b != b); });
  table["mov.pred"] = plain<Predicate, Predicate>([](Predicate a) { return a; });
  table["not.pred"] = plain<Predicate, Predicate>([](Predicate a) { return predicate(!is_set(a)); });
  table["and.pred"] = plain<Predicate, Predicate, Predicate>(
      [](Predicate a, Predicate b) { return predicate(is_set(a) && is_set(b)); });
  table["or.pred"] = plain<Predicate, Predicate, Predicate>(
      [](Predicate a, Predicate b) { return predicate(is_set(a) || is_set(b)); });
  table["xor.pred"] = plain<Predicate, Predicate, Predicate>(
      [](Predicate a, Predicate b) { return predicate(is_set(a) != is_set(b)); });

  table["add.rn.f32"] = table["add.f32"] = plain<float, float, float>([](float a, float b) { return a + b; });
  table["sub.rn.f32"] = table["sub.f32"] = plain<float, float, float>([](float a, float b) { return a - b; });
  table["mul.rn.f32"] = table["mul.f32"] = plain<float, float, float>([](float a, float b) { return a * b; });
  table["div.rn.f32"] = plain<float, float, float>([](float a, float b) { return a / b; });
  table["fma.rn.f32"] = plain<float, float, float, float>([](float a, float b, float c) { return std::fma(a, b, c); });
  table["rcp.rn.f32"] = plain<float, float>([](float a) { return 1.0f / a; });
  table["sqrt.rn.f32"] = plain<float, float>([](float a) { return std::sqrt(a); });
  table["abs.f32"] = plain<float, float>([](float a) { return without_sign(a); });
  table["neg.f32"] = plain<float, float>([](float a) { return other_sign(a); });
  table["min.f32"] = plain<float, float, float>([](float a, float b) { return minimum(a, b); });
  table["max.f32"] = plain<float, float, float>([](float a, float b) { return maximum(a, b); });
  table["tanh.approx.f32"] = {approximate_tanh, "ww"};

  table["cvt.u64.u32"] = plain<u64, u32>([](u32 a) { return u64{a}; });
  table["cvt.s64.s32"] = plain<i64, i32>([](i32 a) { return i64{a}; });
  table["cvt.s64.s32 of d"] = plain<i64, u64>([](u64 a) { return i64{static_cast<i32>(a)}; });
  table["cvt.u32.u64"] = plain<u32, u64>([](u64 a) { return static_cast<u32>(a); });
  table["cvt.u32.u16"] = plain<u32, u16>([](u16 a) { return u32{a}; });
  table["cvt.s32.s16"] = plain<i32, i16>([](i16 a) { return i32{a}; });
  table["cvt.u16.u32"] = plain<u16, u32>([](u32 a) { return static_cast<u16>(a); });
  table["cvt.rn.f32.s32"] = plain<float, i32>([](i32 a) { return static_cast<float>(a); });
  table["cvt.rn.f32.u32"] = plain<float, u32>([](u32 a) { return static_cast<float>(a); });
  table["cvt.rn.f32.u64"] = plain<float, u64>([](u64 a) { return static_cast<float>(a); });
  table["cvt.rzi.s32.f32"] = plain<i32, float>([](float a) { return truncate<i32>(a); });
  table["cvt.rzi.u32.f32"] = plain<u32, float>([](float a) { return truncate<u32>(a); });
  table["cvt.rna.tf32.f32"] =
      plain<u32, float>([](float a) { return std::bit_cast<u32>(EmulatedTensorCore::round_tf32(a)); });
  table["cvt.rn.bf16x2.f32"] =
      plain<u32, float, float>([](float high, float low) { return EmulatedTensorCore::pack_bf16(low, high); });

  table["mov.u32 %tid.x"] = special([](Warp& warp, int lane) { return warp.thread(lane); });
  table["mov.u32 %laneid"] = special([](Warp&, int lane) { return static_cast<u32>(lane); });
  table["mov.u32 %ctaid.x"] = special([](Warp& warp, int) { return warp.block().index; });
  table["mov.u32 %ntid.x"] = special([](Warp& warp, int) { return warp.block().threads; });
  table["mov.u32 %nctaid.x"] = special([](Warp& warp, int) { return warp.machine().launch->blocks; });
  table["mov.u64 local"] =
      table["mov.b64 local"] = {[](Warp& warp, const Instruction& instruction, Mask mask) {
                                  u64* d = warp.lanes<u64>(instruction.operands[0]);
                                  for (int lane = 0; lane < kLanes; ++lane) {
                                    if (mask >> lane & 1)
                                      d[lane] = warp.local_stack(lane) + static_cast<u64>(instruction.address.offset);
                                  }
                                },
                                "d"};
  table["cvta.to.global.u64"] = plain<u64, u64>([](u64 a) { return a; });
  table["cvta.shared.u64"] = plain<u64, u64>([](u64 a) { return a + kSharedWindow; });
  table["cvta.to.shared.u64"] = plain<u64, u64>([](u64 a) { return a - kSharedWindow; });
  table["cvta.local.u64"] = plain<u64, u64>([](u64 a) { return a + kLocalWindow; });
  table["cvta.to.local.u64"] = plain<u64, u64>([](u64 a) { return a - kLocalWindow; });

  table["bar.sync"] = {nullptr, "0", Kind::kBarrier};
  table["bar.red.or.pred"] = {[](Warp&, const Instruction&, Mask) {}, "p0p", Kind::kBarrier};  // see Machine::run_block
  table["bar.warp.sync"] = {[](Warp& warp, const Instruction&, Mask) { warp.order_lanes(); }, "w", Kind::kWarpSync, 0};
  table["shfl.sync.bfly.b32"] = {shuffle_butterfly, "wpwwww", Kind::kWarpSync, 5};
  table["membar.gl"] = {[](Warp& warp, const Instruction&, Mask mask) { warp.fence(mask); }, ""};
  table["atom.global.min.u64"] = atomic_opcode<u64>([](u64 old, u64 value) { return old < value ? old : value; });
  table["atom.global.inc.u32"] = atomic_opcode<u32>([](u32 old, u32 last) { return old >= last ? 0u : old + 1; });
  table["griddepcontrol.launch_dependents"] = {[](Warp&, const Instruction&, Mask) {}, ""};
  table["griddepcontrol.wait"] = {[](Warp& warp, const Instruction&, Mask mask) {
                                    for (int lane = 0; lane < kLanes; ++lane) {
                                      if (mask >> lane & 1) warp.block().has_waited[warp.thread(lane)] = 1;
                                    }
                                  },
                                  ""};
  add_matrix_opcodes(table);
  add_copy_opcodes(table);
  return table;
}

template <class Element, class Register>
constexpr Handler access_of(bool is_store) {
  return is_store ? store<Element, Register> : load<Element, Register>;
}
template <class Register>
Handler access_with(bool is_store, std::string_view type) {
  const bool is_signed = type[0] == 's';
  const std::string_view bits = type.substr(1);
  if (bits == "8")
    return is_signed ? access_of<std::int8_t, Register>(is_store) : access_of<std::uint8_t, Register>(is_store);
  if (bits == "16") return is_signed ? access_of<i16, Register>(is_store) : access_of<u16, Register>(is_store);
  if constexpr (sizeof(Register) >= 4) {
    if (bits == "32") return is_signed ? access_of<i32, Register>(is_store) : access_of<u32, Register>(is_store);
  }
  if constexpr (sizeof(Register) >= 8) {
    if (bits == "64") return access_of<u64, Register>(is_store);
  }
  return nullptr;
}

/// Of two 32-bit words, as cudaGraphSetConditional(handle, value) is called.
void set_condition(Warp& warp, const Instruction& instruction, Mask mask) {
  const Frame& frame = warp.frame();
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const std::byte* row = &frame.call_parameters[static_cast<std::size_t>(lane) * frame.function->call_bytes];
    u64 handle;
    u32 value;
    std::memcpy(&handle, row + instruction.arguments.at(0), sizeof handle);
    std::memcpy(&value, row + instruction.arguments.at(1), sizeof value);
    warp.machine().conditions[handle] = value;
  }
}

}  // namespace

const Opcode* find_opcode(std::string_view name) {
  static const OpcodeTable table = make_table();
  const auto found = table.find(std::string(name));
  return found == table.end() ? nullptr : &found->second;
}

Handler find_access(bool is_store, std::string_view type, char register_class) {
  switch (register_class) {
    case 'd':
      return access_with<u64>(is_store, type);
    case 'w':
      return access_with<u32>(is_store, type);
    case 'h':
      return access_with<u16>(is_store, type);
    default:
      return nullptr;
  }
}

Handler find_external(std::string_view function) {
  return function == "cudaGraphSetConditional" ? set_condition : nullptr;
}

}  // namespace perilune::ptx
