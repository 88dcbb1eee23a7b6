#include "tests/ptx/machine.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

namespace perilune::ptx {

namespace {

int first_lane(Mask lanes) { return std::countr_zero(lanes); }

template <class F>
void for_lanes(Mask lanes, F f) {
  for (; lanes != 0; lanes &= lanes - 1) f(first_lane(lanes));
}

std::vector<int> make_order(Order order, std::size_t count, std::mt19937_64& random) {
  std::vector<int> result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<int>(i);
  if (order == Order::kReverse) std::reverse(result.begin(), result.end());
  if (order == Order::kShuffled) std::shuffle(result.begin(), result.end(), random);
  return result;
}

}  // namespace

Frame::Frame(const Function& of)
    : function(&of),
      // What a register holds before it is written is no number.
      memory(of.frame_bytes + 64, std::byte{0xFB}),
      call_parameters(of.call_bytes * kLanes, std::byte{0xFB}),
      parameters(of.is_kernel ? 0 : of.parameter_bytes * kLanes) {
  registers = memory.data();
  registers += (64 - reinterpret_cast<std::uintptr_t>(registers) % 64) % 64;
}

// ---- a warp ----

Warp::Warp(Machine& machine, Block& block, int number, int threads)
    : machine_(machine), block_(block), number_(number) {
  const int lanes = std::min(kLanes, threads - number * kLanes);
  alive_ = lanes == kLanes ? kAllLanes : (Mask{1} << lanes) - 1;
  enter(alive_, *machine.launch->kernel);
}

void Warp::enter(Mask lanes, const Function& function) {
  for_lanes(lanes, [&](int lane) {
    std::uint64_t stack = 0;
    if (!calls_[lane].empty()) stack = (stack_[lane] + calls_[lane].back().function->local_bytes + 15) / 16 * 16;
    calls_[lane].push_back({&function, 0, stack});
    stack_[lane] = stack;
    if (function.local_bytes == 0) return;
    if (stack + function.local_bytes > kLocalBytes) throw Fault(function.name + ": local memory is used up");
    if (local_.empty()) local_.resize(kLocalBytes * kLanes);
    std::memset(&local_[static_cast<std::size_t>(lane) * kLocalBytes + stack], 0xFB, function.local_bytes);
  });
}

Frame& Warp::frame_of(int lane) {
  const std::size_t depth = calls_[lane].size();
  const Function& function = *calls_[lane].back().function;
  return frames_.try_emplace({depth, &function}, function).first->second;
}

Mask Warp::at_place_of(int lane, Mask among) const {
  const Call& here = calls_[lane].back();
  Mask result = 0;
  for_lanes(among, [&](int other) {
    const Call& there = calls_[other].back();
    if (calls_[other].size() == calls_[lane].size() && there.function == here.function && there.place == here.place) {
      result |= Mask{1} << other;
    }
  });
  return result;
}

void Warp::set_place(Mask lanes, std::uint32_t place) {
  for_lanes(lanes, [&](int lane) { calls_[lane].back().place = place; });
}

void Warp::run() {
  while (const Mask ready = alive_ & ~barrier_ & ~warp_sync_) {
    // The deepest call first, whose caller waits for it; in it, whoever is hindmost.
    int chosen = first_lane(ready);
    for_lanes(ready, [&](int lane) {
      const Call &best = calls_[chosen].back(), &mine = calls_[lane].back();
      const std::size_t best_depth = calls_[chosen].size(), depth = calls_[lane].size();
      if (depth != best_depth              ? depth > best_depth
          : mine.function == best.function ? mine.place < best.place
                                           : mine.function < best.function) {
        chosen = lane;
      }
    });
    run_group(at_place_of(chosen, ready));
  }
  if (warp_sync_ != 0) fault_of_stuck_lanes();
}

void Warp::run_group(Mask group) {
  const int first = first_lane(group);
  frame_ = &frame_of(first);
  const Function& function = *frame_->function;
  std::uint32_t place = calls_[first].back().place;
  // Where this group meets others.
  const Mask others = alive_ & ~barrier_ & ~warp_sync_ & ~group;
  std::uint32_t meeting = ~std::uint32_t{0};
  for_lanes(others, [&](int lane) {
    const Call& other = calls_[lane].back();
    if (calls_[lane].size() == calls_[first].size() && other.function == &function)
      meeting = std::min(meeting, other.place);
  });
  const auto count = static_cast<std::uint64_t>(std::popcount(group));
  const std::uint64_t last = machine_.launch_time + machine_.options.most_instructions;
  std::uint64_t& clock = machine_.clock;
  for (;;) {
    if (place == meeting) {
      set_place(group, place);
      return;
    }
    const Instruction& instruction = function.code.at(place);
    Mask lanes = group;
    if (instruction.guarded) {
      const Mask predicate_lanes = predicate(instruction.guard);
      lanes &= instruction.guard_negated ? ~predicate_lanes : predicate_lanes;
    }
    if (++clock > last) fault(instruction, first, "the kernel does not end");
    thread_instructions_ += count;
    ++instructions_;
    switch (instruction.kind) {
      case Kind::kPlain:
        if (lanes != 0) instruction.run(*this, instruction, lanes);
        ++place;
        break;
      case Kind::kBranch:
        if (lanes == group || lanes == 0) {
          place = lanes == 0 ? place + 1 : instruction.target;
          if (others == 0) break;
          set_place(group, place);
        } else {
          set_place(lanes, instruction.target);
          set_place(group & ~lanes, place + 1);
        }
        return;
      case Kind::kReturn:
        set_place(group & ~lanes, place + 1);
        leave(lanes);
        return;
      case Kind::kCall:
        ++place;
        if (lanes == 0) break;
        if (instruction.callee == nullptr) {
          instruction.run(*this, instruction, lanes);
          break;
        }
        set_place(group, place);
        call(instruction, lanes);
        return;
      case Kind::kWarpSync:
        set_place(group & ~lanes, place + 1);
        set_place(lanes, place);
        if (lanes == 0 || !meet(instruction, lanes) || lanes != group) return;
        ++place;
        if ((alive_ & ~barrier_ & ~warp_sync_) == group) break;
        return;
      case Kind::kBarrier:
        set_place(group & ~lanes, place + 1);
        set_place(lanes, place);
        barrier_ |= lanes;
        return;
    }
  }
}

bool Warp::meet(const Instruction& instruction, Mask group) {
  const int first = first_lane(group);
  const Mask arrived = at_place_of(first, warp_sync_ | group) | group;
  const Mask members = instruction.target == ~std::uint32_t{0}
                           ? kAllLanes
                           : lanes<std::uint32_t>(instruction.operands[instruction.target])[first];
  if ((members & ~alive_) != 0) {
    fault(instruction, first, "waits for lane " + std::to_string(first_lane(members & ~alive_)) + ", which has ended");
  }
  if ((group & ~members) != 0) {
    fault(instruction, first_lane(group & ~members),
          "its mask " + std::to_string(members) + " does not name the lane itself");
  }
  if ((arrived & members) != members) {
    warp_sync_ |= group;
    return false;
  }
  instruction.run(*this, instruction, members);
  warp_sync_ &= ~members;
  for_lanes(members, [&](int lane) { ++calls_[lane].back().place; });
  return true;
}

void Warp::call(const Instruction& instruction, Mask lanes) {
  const Function& callee = *instruction.callee;
  const Frame& caller = *frame_;
  enter(lanes, callee);
  Frame& frame = frame_of(first_lane(lanes));
  for_lanes(lanes, [&](int lane) {
    const auto at = static_cast<std::size_t>(lane);
    for (std::size_t i = 0; i < callee.parameters.size(); ++i) {
      const Function::Parameter& parameter = callee.parameters[i];
      std::memcpy(
          &frame.parameters[at * callee.parameter_bytes + static_cast<std::size_t>(parameter.byte)],
          &caller
               .call_parameters[at * caller.function->call_bytes + static_cast<std::size_t>(instruction.arguments[i])],
          static_cast<std::size_t>(parameter.size));
    }
  });
}

void Warp::leave(Mask lanes) {
  for_lanes(lanes, [&](int lane) {
    const Frame& frame = *frame_;
    calls_[lane].pop_back();
    if (calls_[lane].empty()) {
      alive_ &= ~(Mask{1} << lane);
      return;
    }
    const Call& caller = calls_[lane].back();
    stack_[lane] = caller.stack;
    Frame& to = frame_of(lane);
    const Instruction& instruction = caller.function->code[caller.place - 1];
    const auto at = static_cast<std::size_t>(lane);
    for (std::size_t i = 0; i < frame.function->results.size(); ++i) {
      const Function::Parameter& result = frame.function->results[i];
      std::memcpy(&to.call_parameters[at * to.function->call_bytes + static_cast<std::size_t>(instruction.results[i])],
                  &frame.parameters[at * frame.function->parameter_bytes + static_cast<std::size_t>(result.byte)],
                  static_cast<std::size_t>(result.size));
    }
  });
}

const Instruction& Warp::instruction_of(int lane) {
  frame_ = &frame_of(lane);
  return frame_->function->code.at(calls_[lane].back().place);
}

void Warp::leave_barrier() {
  for_lanes(barrier_, [&](int lane) { ++calls_[lane].back().place; });
  barrier_ = 0;
}

Mask Warp::predicate(Operand operand) {
  const std::uint32_t* values = lanes<std::uint32_t>(operand);
  Mask result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result |= (values[lane] & 1u) << lane;
  return result;
}

void Warp::order_lanes() { sync_time_ = machine_.clock; }

void Warp::fence(Mask mask) {
  for_lanes(mask, [&](int lane) { block_.fence_time[thread(lane)] = machine_.clock; });
}

void Warp::fault(const Instruction& instruction, int lane, const std::string& what) {
  throw Fault(machine_.launch->kernel->name + ", block " + std::to_string(block_.index) + ", thread " +
              std::to_string(thread(lane)) + ": " + what + " at " + frame_->function->where(instruction));
}

void Warp::fault_of_stuck_lanes() {
  const int lane = first_lane(warp_sync_);
  const Instruction& here = instruction_of(lane);
  const Mask elsewhere = (barrier_ | warp_sync_) & ~at_place_of(lane, warp_sync_);
  std::string others;
  if (elsewhere != 0) {
    const int other = first_lane(elsewhere);
    const Instruction& there = instruction_of(other);
    others = "; thread " + std::to_string(thread(other)) + " waits at " + frame_->function->where(there);
    instruction_of(lane);
  }
  fault(here, lane, "waits for lanes that do not come" + others + "; it waits");
}

std::uint64_t Warp::address(const Address& address, int lane) {
  std::uint64_t base = 0;
  if (address.base == 'd') base = lanes<std::uint64_t>(address.reg)[lane];
  if (address.base == 'w') base = lanes<std::uint32_t>(address.reg)[lane];
  return base + static_cast<std::uint64_t>(address.offset);
}

Warp::Place Warp::locate(const Instruction& instruction, int lane, const Range& range, bool write) {
  const auto [space, at, bytes] = range;
  const auto outside = [&](const std::string& of) {
    fault(instruction, lane, (write ? "writes " : "reads ") + std::to_string(range.bytes) + " bytes " + of);
  };
  if (at % bytes != 0)
    outside("at an address that is no multiple of it (" + std::to_string(at % 4096) + " in its page)");
  const auto row = static_cast<std::size_t>(lane);
  const Function& function = *frame_->function;
  switch (space) {
    case Space::kLocal:
      if (at >= stack_[lane] + function.local_bytes || at + bytes > kLocalBytes) outside("outside of its local memory");
      return {&local_[row * kLocalBytes + at], nullptr, 0};
    case Space::kParameter:
      if (at + bytes > function.parameter_bytes) outside("outside of its parameters");
      if (!function.is_kernel) return {&frame_->parameters[row * function.parameter_bytes + at], nullptr, 0};
      if (write) outside("into a kernel's arguments");
      return {const_cast<std::byte*>(&machine_.launch->arguments[at]), nullptr, 0};
    case Space::kCallParameter:
      if (at + bytes > function.call_bytes) outside("outside of a call's parameters");
      return {&frame_->call_parameters[row * function.call_bytes + at], nullptr, 0};
    case Space::kShared: {
      const bool dynamic = at >= static_cast<std::uint64_t>(kDynamicShared);
      const std::uint64_t from = dynamic ? at - static_cast<std::uint64_t>(kDynamicShared) : at;
      std::vector<std::byte>& memory = dynamic ? block_.dynamic_shared : block_.static_shared;
      if (from + bytes > memory.size())
        outside("at " + std::to_string(from) + " of " + std::to_string(memory.size()) + " of shared memory");
      return {&memory[from], &(dynamic ? block_.dynamic_words : block_.static_words)[from / 4], block_.start_time};
    }
    case Space::kGlobal:
      break;
  }
  if (machine_.launch->overlaps && block_.has_waited[thread(lane)] == 0) {
    outside("of global memory before the launches before have ended (griddepcontrol.wait)");
  }
  Allocation* allocation = machine_.memory.find(at);
  if (allocation == nullptr) outside(machine_.memory.describe(at));
  if (at + bytes > allocation->begin + allocation->bytes) outside("across the end of an allocation");
  return {allocation->data + (at - allocation->begin), &allocation->word(at), machine_.launch_time};
}

std::byte* Warp::access(const Instruction& instruction, int lane, const Range& range, const void* value, bool atomic) {
  const auto [space, at, bytes] = range;
  const Place place = locate(instruction, lane, range, value != nullptr);
  if (place.words == nullptr) return place.data;
  const bool same = value != nullptr && std::memcmp(place.data, value, bytes) == 0;
  const auto mask = static_cast<std::uint8_t>(bytes >= 4 ? 0xF : ((1u << bytes) - 1) << (at % 4));
  for (std::size_t i = 0; i < (bytes + 3) / 4; ++i) {
    if (space == Space::kShared && value == nullptr && place.words[i].write.time < place.since) {
      fault(instruction, lane, "reads " + std::to_string(bytes) + " bytes of shared memory that nobody has written");
    }
    const Machine::Touch touch{.instruction = instruction,
                               .lane = lane,
                               .space = space,
                               .bytes = mask,
                               .write = value != nullptr || atomic,
                               .atomic = atomic,
                               .same_value = same};
    uncertain_ |= machine_.touch(*this, place.words[i], touch, place.since);
  }
  return place.data;
}

void Warp::begin_copy(int lane, std::uint64_t to, Copy copy) {
  const Place place = locate(*copy.instruction, lane, {Space::kShared, to, copy.bytes}, true);
  copy.data = place.data;
  copy.words = place.words;
  for (std::size_t i = 0; i < copy.bytes / 4; ++i) {
    const Machine::Touch touch{.instruction = *copy.instruction,
                               .lane = lane,
                               .space = Space::kShared,
                               .bytes = 0xF,
                               .write = true,
                               .copy = true};
    machine_.touch(*this, place.words[i], touch, place.since);
  }
  copies_[lane].push_back(copy);
}

void Warp::wait_for_copies(Mask mask) {
  for_lanes(mask, [&](int lane) {
    for (const Copy& copy : copies_[lane]) {
      if (copy.source != nullptr && std::memcmp(copy.source, copy.value.data(), copy.bytes) != 0) {
        fault(*copy.instruction, lane, "copies what was written before it had waited for it,");
      }
      std::memcpy(copy.data, copy.value.data(), copy.bytes);
      for (std::size_t i = 0; i < copy.bytes / 4; ++i) {
        copy.words[i].write.time = machine_.clock;
        copy.words[i].write.under_way = false;
      }
    }
    copies_[lane].clear();
  });
}

// ---- the machine ----

bool Machine::ordered(const Access& before, const Warp& warp, const Block& block, std::uint32_t thread) const {
  if (before.thread / block.threads == block.index) {
    if (before.thread == thread || before.time < block.barrier_time) return true;
    return static_cast<int>(before.thread % block.threads) / kLanes == warp.number() && before.time < warp.sync_time();
  }
  const Published& there = published_[before.thread / block.threads];
  const std::uint32_t mine = thread % block.threads;
  return there.time != 0 && before.time < there.fences[before.thread % block.threads] &&
         there.time <= block.acquire_time &&
         (mine == block.acquiring_thread || block.barrier_time > block.acquire_time) &&
         block.fence_time[mine] > block.acquire_time;
}

bool Machine::touch(Warp& warp, Word& word, const Touch& touch, std::uint64_t since) {
  const Block& block = warp.block();
  const std::uint32_t thread = block.index * block.threads + warp.thread(touch.lane);
  const bool shared = touch.space == Space::kShared;
  const auto races = [&](const Access& before) {
    if (before.time < since || (before.bytes & touch.bytes) == 0 || (before.atomic && touch.atomic)) return false;
    return !(touch.write && touch.same_value) && !ordered(before, warp, block, thread);
  };
  const auto refuse = [&](const Access& before, const char* what) {
    const auto other = before.thread % block.threads, other_block = before.thread / block.threads;
    warp.fault(touch.instruction, touch.lane,
               std::string(touch.write ? "writes" : "reads") + " what thread " + std::to_string(other) +
                   (other_block == block.index ? "" : " of block " + std::to_string(other_block)) + " " + what + " (" +
                   launch->kernel->where(*before.instruction) + "),");
  };
  // Whether the two threads are of one block, and the word is global.
  const auto excused = [&](const Access& before) { return !shared && before.thread / block.threads == block.index; };
  bool uncertain = false;
  if (word.write.under_way && word.write.time >= since && (word.write.bytes & touch.bytes) != 0) {
    refuse(word.write, "copies and has not waited for");
  }
  if (races(word.write)) {
    if (touch.write || !excused(word.write)) refuse(word.write, "wrote, and nothing orders the two");
    uncertain = true;
  }
  const Access now{clock, &touch.instruction, thread, touch.bytes, touch.atomic, touch.copy};
  if (touch.write) {
    for (const Access* read : {&word.read, &word.other_read}) {
      if (races(*read) && !excused(*read)) refuse(*read, "read, and nothing orders the two");
    }
    word.write = now;
  } else {
    if (word.read.thread != thread) word.other_read = word.read;
    word.read = now;
  }
  return uncertain;
}

void Machine::publish(Block& block, std::uint32_t thread) {
  // What others of the block wrote before their fences is seen if a barrier came after these.
  std::vector<std::uint64_t> fences = block.fence_time;
  for (std::uint32_t i = 0; i < block.threads; ++i) {
    if (i != thread && fences[i] > block.barrier_time) fences[i] = 0;
  }
  published_[block.index] = {std::move(fences), clock};
  block.acquire_time = clock;
  block.acquiring_thread = thread;
}

void Machine::run(const Launch& given) {
  launch = &given;
  const Function& kernel = *given.kernel;
  if (given.overlaps && !kernel.waits) {
    throw Fault(kernel.name + " is launched to overlap with what was launched before, and never waits for it");
  }
  launch_time = ++clock;
  published_.assign(given.blocks, {});
  std::mt19937_64 random(options.seed);
  Block block;
  block.threads = given.threads;
  block.static_shared.resize(kernel.static_shared_bytes);
  block.dynamic_shared.resize(given.shared_bytes);
  block.static_words.resize(block.static_shared.size() / 4 + 1);
  block.dynamic_words.resize(block.dynamic_shared.size() / 4 + 1);
  const std::size_t warps = (given.threads + kLanes - 1) / kLanes;
  for (const int index : make_order(options.blocks, given.blocks, random)) {
    block.index = static_cast<std::uint32_t>(index);
    std::fill(block.static_shared.begin(), block.static_shared.end(), std::byte{0xFD});
    std::fill(block.dynamic_shared.begin(), block.dynamic_shared.end(), std::byte{0xFD});
    block.start_time = block.barrier_time = ++clock;
    block.acquire_time = 0;
    block.fence_time.assign(given.threads, 0);
    block.has_waited.assign(given.threads, 0);
    block.warps.clear();
    block.warps.reserve(warps);
    for (std::size_t i = 0; i < warps; ++i)
      block.warps.emplace_back(*this, block, static_cast<int>(i), static_cast<int>(given.threads));
    std::uint64_t count = 0;
    do {
      run_block(block, make_order(options.warps, warps, random));
      count = 0;
      for (const Warp& warp : block.warps) count += warp.thread_instructions();
    } while (block.warps.front().alive() != 0);
    instructions[kernel.name] += count;
    for (const Warp& warp : block.warps) warp_instructions[kernel.name] += warp.instructions();
  }
  launch = nullptr;
}

/// Up to a barrier, or to the end.
void Machine::run_block(Block& block, const std::vector<int>& order) {
  for (const int warp : order) block.warps[static_cast<std::size_t>(warp)].run();
  Warp* waiting = nullptr;
  std::uint32_t waits = 0;
  for (Warp& warp : block.warps) {
    waits += static_cast<std::uint32_t>(std::popcount(warp.at_barrier()));
    if (waiting == nullptr && warp.at_barrier() != 0) waiting = &warp;
  }
  if (waiting == nullptr) return;
  const int first = first_lane(waiting->at_barrier());
  const Instruction& barrier = waiting->instruction_of(first);
  if (waits != block.threads) {
    waiting->fault(barrier, first,
                   std::to_string(block.threads - waits) + " of " + std::to_string(block.threads) +
                       " threads have ended, and this one waits for them");
  }
  bool any = false;
  for (Warp& warp : block.warps) {
    for_lanes(warp.at_barrier(), [&](int lane) {
      const Instruction& other = warp.instruction_of(lane);
      if (&other != &barrier) {
        const std::string there = warp.frame().function->where(other);
        waiting->instruction_of(first);
        waiting->fault(barrier, first,
                       "waits here, and thread " + std::to_string(warp.thread(lane)) + " at " + there + "; this one");
      }
    });
    if (barrier.run != nullptr) any = any || (warp.predicate(barrier.operands[1]) & warp.at_barrier()) != 0;
  }
  ++clock;
  for (Warp& warp : block.warps) {
    if (barrier.run != nullptr) {  // bar.red.or
      std::uint32_t* results = warp.lanes<std::uint32_t>(barrier.operands[0]);
      for (int lane = 0; lane < kLanes; ++lane) results[lane] = any ? ~0u : 0u;
    }
    warp.leave_barrier();
  }
  block.barrier_time = ++clock;
}

}  // namespace perilune::ptx
