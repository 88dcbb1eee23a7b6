// A GPU for tests: runs PTX on one CPU core, warp by warp, and checks what a sanitizer would check.
//
// A warp's instruction is carried out for all its lanes at once. Lanes that have parted run in the order of where they
// are in the code, the hindmost first, so that they meet again where their ways do. A warp runs until all its lanes
// wait for the block or have ended; blocks run one after the other. In which order warps and blocks take turns is an
// option: results must not depend on it. Arithmetic is IEEE's; tensor cores add products in fp32 one after the other,
// as on fibers.
//
// Errors are Faults, which name the kernel, the thread and both lines of source: accesses outside of what was allocated
// or unaligned, shared memory read before it was written, two threads that touch one word, one of them writing, with
// nothing that orders them (no barrier between two threads of a block; no fence, ticket and fence between two blocks),
// barriers that not all threads reach, shuffles that name lanes which do not come, copies (cp.async) that are touched,
// or whose source is, before their thread has waited for them, memory touched before the launches before have ended
// (griddepcontrol.wait), integers divided by nought, and kernels that do not end.
//
// One kind of race is no Fault: global memory that a thread reads while another of its block may write it. Idle lanes
// of a block read the last environment's numbers so, and lanes of the advantage scan what lies before their part;
// neither uses what it read. So that a result which hangs on such a read is wrong, what it gives is another number.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/ptx/memory.hpp"
#include "tests/ptx/module.hpp"

namespace perilune::ptx {

class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Order { kForward, kReverse, kShuffled };

/// What tanh.approx gives: the result that fibers have, or one that is off by as much as NVIDIA allows, this way or
/// that.
enum class Approximation { kExact, kWorst };

struct Options {
  Order warps = Order::kForward, blocks = Order::kForward;
  std::uint64_t seed = 0;  ///< of Order::kShuffled
  Approximation tanh = Approximation::kExact;
  std::uint64_t most_instructions = std::uint64_t{1} << 33;  ///< of a warp, in one launch: beyond it the kernel hangs
};

struct Launch {
  const Function* kernel = nullptr;
  std::uint32_t blocks = 1, threads = 32;
  std::size_t shared_bytes = 0;      ///< besides what the kernel declares
  std::vector<std::byte> arguments;  ///< [kernel->parameter_bytes]
  bool overlaps = false;             ///< may begin before the launches before it have ended
};

struct Block;
class Machine;

/// Where an access goes.
struct Range {
  Space space;
  std::uint64_t at;
  std::size_t bytes;
};

/// One that goes on beside its thread, of global memory into shared memory. It takes place when its thread waits for
/// it.
struct Copy {
  const Instruction* instruction;
  std::size_t bytes;
  const std::byte* source = nullptr;  ///< as it was read, it must still be; null: another thread writes there
  std::array<std::byte, 16> value{};
  std::byte* data = nullptr;  ///< where to
  Word* words = nullptr;
};

/// Registers of a function, in one depth of calls.
struct Frame {
  explicit Frame(const Function& of);
  const Function* function;
  std::vector<std::byte> memory;                       // [registers]
  std::byte* registers;                                // aligned
  std::vector<std::byte> call_parameters, parameters;  // [lane][bytes]
};

class Warp {
 public:
  Warp(Machine& machine, Block& block, int number, int threads);

  /// Runs until every lane waits for the block or has ended.
  void run();

  // ---- for handlers ----
  template <class T>
  T* lanes(Operand operand) {
    return reinterpret_cast<T*>(operand >= 0 ? frame_->registers + operand
                                             : const_cast<std::byte*>(frame_->function->constants.data()) + ~operand);
  }
  Machine& machine() { return machine_; }
  Block& block() { return block_; }
  Frame& frame() { return *frame_; }
  int number() const { return number_; }
  std::uint32_t thread(int lane) const { return static_cast<std::uint32_t>(number_ * kLanes + lane); }
  std::uint64_t local_stack(int lane) const { return stack_[lane]; }
  Mask predicate(Operand operand);
  /// For one lane.
  std::uint64_t address(const Address& address, int lane);
  /// Where a lane's access goes, checked and remembered.
  /// value: what will be written; null: it is a read, or atomic.
  std::byte* access(const Instruction& instruction, int lane, const Range& range, const void* value,
                    bool atomic = false);
  /// To an address in shared memory, which nobody may touch before the lane has waited.
  void begin_copy(int lane, std::uint64_t to, Copy copy);
  /// For all that these lanes have begun.
  void wait_for_copies(Mask mask);
  /// Whether an access since the last call was a read that raced with a write.
  bool take_uncertain() { return std::exchange(uncertain_, false); }
  [[noreturn]] void fault(const Instruction& instruction, int lane, const std::string& what);
  void fence(Mask mask);
  /// All lanes' accesses until now come before all those from now on.
  void order_lanes();

  Mask alive() const { return alive_; }
  std::uint64_t sync_time() const { return sync_time_; }
  /// Which lanes wait for the block, and where.
  Mask at_barrier() const { return barrier_; }
  const Instruction& instruction_of(int lane);
  void leave_barrier();
  /// How many instructions its lanes have carried out.
  std::uint64_t thread_instructions() const { return thread_instructions_; }
  std::uint64_t instructions() const { return instructions_; }

 private:
  struct Call {
    const Function* function;
    std::uint32_t place;  // of the next instruction
    std::uint64_t stack;  // first byte of its local memory
  };
  struct Place {
    std::byte* data;
    Word* words;          // null: others cannot get there
    std::uint64_t since;  // when what was there before has no meaning any more
  };
  Place locate(const Instruction& instruction, int lane, const Range& range, bool write);
  void enter(Mask lanes, const Function& function);
  Frame& frame_of(int lane);
  void run_group(Mask group);
  void call(const Instruction& instruction, Mask lanes);
  void leave(Mask lanes);
  /// Whether it was carried out: all lanes that it names have come.
  bool meet(const Instruction& instruction, Mask group);
  Mask at_place_of(int lane, Mask among) const;
  void set_place(Mask lanes, std::uint32_t place);
  [[noreturn]] void fault_of_stuck_lanes();

  Machine& machine_;
  Block& block_;
  int number_;
  Mask alive_ = 0, barrier_ = 0, warp_sync_ = 0;
  std::vector<Call> calls_[kLanes];   // the running function last
  std::uint64_t stack_[kLanes] = {};  // of the running function
  std::map<std::pair<std::size_t, const Function*>, Frame> frames_;
  Frame* frame_ = nullptr;
  std::vector<std::byte> local_;      // [lane][kLocalBytes], from the first use on
  std::vector<Copy> copies_[kLanes];  // that it has not waited for
  std::uint64_t sync_time_ = 0, thread_instructions_ = 0, instructions_ = 0;
  bool uncertain_ = false;
};

inline constexpr std::uint64_t kLocalBytes = 1 << 14;
/// Generic addresses of local and shared memory, as cvta.local and cvta.shared make them.
inline constexpr std::uint64_t kLocalWindow = std::uint64_t{1} << 40, kSharedWindow = std::uint64_t{1} << 41;

/// The block that runs.
struct Block {
  std::uint32_t index = 0, threads = 0;
  std::vector<std::byte> static_shared, dynamic_shared;
  std::vector<Word> static_words, dynamic_words;
  std::uint64_t start_time = 0, barrier_time = 0;
  std::uint64_t acquire_time = 0;  // of its last atomic access
  std::uint32_t acquiring_thread = 0;
  std::vector<std::uint64_t> fence_time;  // of each thread
  std::vector<std::uint8_t> has_waited;   // of each thread: griddepcontrol.wait
  std::vector<Warp> warps;
};

class Machine {
 public:
  explicit Machine(Options given = {}) : options(given) {}

  /// Runs it to its end. Throws Fault.
  void run(const Launch& launch);

  Options options;
  Memory memory;
  std::unordered_map<std::uint64_t, std::uint32_t> conditions;  ///< of graphs: set by kernels
  std::map<std::string, std::uint64_t> instructions;            ///< of threads, for each kernel that ran
  std::map<std::string, std::uint64_t> warp_instructions;       ///< the same, of lanes that are together counted once

  // ---- for warps ----
  const Launch* launch = nullptr;
  std::uint64_t clock = 1, launch_time = 0;
  struct Touch {
    const Instruction& instruction;
    int lane;
    Space space;
    std::uint8_t bytes;  // of the word
    bool write = false, atomic = false, same_value = false, copy = false;
  };
  /// Remembers it. Throws Fault where it is not ordered with what another thread did to the word; true: a read that is
  /// not, and may be, if what it gives is not used.
  bool touch(Warp& warp, Word& word, const Touch& touch, std::uint64_t since);
  void publish(Block& block, std::uint32_t thread);

 private:
  void run_block(Block& block, const std::vector<int>& order);
  bool ordered(const Access& before, const Warp& warp, const Block& block, std::uint32_t thread) const;

  struct Published {
    std::vector<std::uint64_t>
        fences;              // of each thread: what it did before is seen by who reads the ticket after `time`
    std::uint64_t time = 0;  // 0: never
  };
  std::vector<Published> published_;  // of each block of the launch
};

}  // namespace perilune::ptx
