// PTX as nvcc writes it, read into a form that machine.hpp runs: a kernel or function is a list of instructions whose
// operands are places in a frame of registers.
//
// Read is what kernels/*.cu use, no more: an instruction, a directive or an operand that is not known is an error that
// names it. Text is read function by function, when one is asked for: a file of kernels has some hundred thousand
// lines.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace perilune::ptx {

inline constexpr int kLanes = 32;
using Mask = std::uint32_t;
inline constexpr Mask kAllLanes = 0xFFFFFFFFu;
/// Where a launch's own shared memory begins in the shared address space, after what kernels declare.
inline constexpr std::int64_t kDynamicShared = std::int64_t{1} << 20;

/// What is wrong with a PTX text, with its file and line.
class ReadError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A register or a constant: 32 values, one for each lane, at this byte of the frame (from 0 up) or of the function's
/// constants (from ~0 down).
using Operand = std::int32_t;

enum class Space : std::uint8_t { kGlobal, kShared, kLocal, kParameter, kCallParameter };

class Warp;
struct Function;
struct Instruction;
using Handler = void (*)(Warp&, const Instruction&, Mask);

/// What the scheduler has to know of an instruction; all that kPlain ones do is in their handler.
enum class Kind : std::uint8_t { kPlain, kBranch, kCall, kReturn, kWarpSync, kBarrier };

struct SourceLine {
  std::uint16_t file = 0, caller_file = 0;  ///< 0: not known; the caller is where the line was inlined
  std::uint32_t line = 0, caller_line = 0;
};

struct Address {
  Space space = Space::kGlobal;
  char base = 0;  ///< the class of its register; 0: it has none
  Operand reg = 0;
  std::int64_t offset = 0;  ///< in bytes
};

struct Instruction {
  Handler run = nullptr;
  Kind kind = Kind::kPlain;
  bool guarded = false, guard_negated = false;
  std::uint8_t elements = 1;           ///< of a load or store
  std::int32_t guard = 0;              ///< its predicate
  std::array<Operand, 14> operands{};  ///< those that are no addresses
  Address address, from;               ///< from: the second one, of a copy
  std::uint32_t target = 0;  ///< of a branch: an index of Function::code; of kWarpSync: see Opcode::mask_operand
  const Function* callee = nullptr;              ///< of a call; null: a function of CUDA's own, which `run` stands for
  std::vector<std::int32_t> arguments, results;  ///< of a call: bytes of the caller's call parameters
  SourceLine source;
  std::string_view text;
};

struct Function {
  std::string name;
  bool is_kernel = false;
  std::vector<Instruction> code;
  std::size_t frame_bytes = 0;
  std::vector<std::byte> constants;
  struct Parameter {
    std::int32_t byte, size;
  };
  std::size_t parameter_bytes = 0;
  std::vector<Parameter> results, parameters;
  std::size_t call_bytes = 0;  ///< what this function needs to pass arguments to others
  std::size_t local_bytes = 0;
  std::size_t static_shared_bytes = 0;
  int max_threads = 0;  ///< .maxntid; 0: not said
  bool waits = false;   ///< has griddepcontrol.wait
  const std::vector<std::string>* files = nullptr;

  /// "kernels/gae.hpp:83: `st.shared.f32 [%r1], %f2`".
  std::string where(const Instruction& instruction) const;
};

class Module {
 public:
  /// Finds the functions of a text. Throws ReadError where it is not PTX of a known version, or ends in the middle.
  Module(std::string name, std::string text);
  /// Of a file. Throws ReadError where it cannot be read.
  static std::unique_ptr<Module> open(const std::string& path);

  /// Names of all kernels, in the order of the text.
  const std::vector<std::string>& kernels() const { return kernels_; }
  bool has(std::string_view function) const { return bodies_.contains(std::string(function)); }
  /// Reads it at the first call. Throws ReadError.
  const Function& function(const std::string& name);
  const std::string& name() const { return name_; }
  const std::string& text() const { return text_; }
  /// Where a function's body begins and ends in the text.
  std::pair<std::size_t, std::size_t> body(const std::string& function) const {
    const Body& found = bodies_.at(function);
    return {found.open, found.close};
  }

 private:
  friend class FunctionReader;
  struct Body {
    bool is_kernel;
    std::size_t header, open, close;  // of the text: where the header begins, and both braces
  };
  [[noreturn]] void fail(std::size_t at, const std::string& what) const;

  std::string name_, text_;
  std::vector<std::string> kernels_;
  std::map<std::string, Body> bodies_;
  std::map<std::string, std::unique_ptr<Function>> read_;
  std::vector<std::string> files_;
  std::vector<std::string> dynamic_shared_;  // names of it
};

/// What the reader asks of an opcode: which registers it takes (instructions.cpp).
///
/// operands: one letter each: h 16 bits, w 32, d 64, p a predicate, @ an address in global memory, s one in shared
/// memory, 0 the number nought.
struct Opcode {
  Handler run = nullptr;
  const char* operands = "";
  Kind kind = Kind::kPlain;
  std::uint32_t mask_operand = ~std::uint32_t{0};  ///< of kWarpSync: which operand names its lanes; ~0: all of the warp
};
/// Null where there is none of this name. Loads and stores are not among them.
const Opcode* find_opcode(std::string_view name);
/// The handler of ld or st for an element of `type` ("u8", "f32") and registers of a class ('h', 'w', 'd'); null: no
/// such one.
Handler find_access(bool store, std::string_view type, char register_class);
/// Stands for a function of CUDA's own; null: not known.
Handler find_external(std::string_view function);

/// Bytes of 32 registers of a class.
constexpr std::size_t register_bytes(char register_class) {
  return kLanes * (register_class == 'd' ? 8u : register_class == 'h' ? 2u : 4u);
}

}  // namespace perilune::ptx
