// See torch_pickle.hpp. Opcodes are named as in Python's pickletools.
#include "host/runs/torch_pickle.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <unordered_map>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {
namespace {

// Some 150 bytes describe a tensor.
constexpr std::size_t kMostPickleBytes = 4 << 20;
constexpr std::uint8_t kProtocol = 2;

// More than any layer of a network has; what is longer only fills memory.
constexpr std::size_t kMostDimensions = 8;

// What a pickle may name to be called or made.
enum class Callable { kOrderedDict, kTensor, kParameter, kStorage };
struct KnownCallable {
  std::string_view module, name;
  Callable callable;
};
constexpr KnownCallable kOrderedDict = {"collections", "OrderedDict", Callable::kOrderedDict};
constexpr KnownCallable kRebuildTensor = {"torch._utils", "_rebuild_tensor_v2", Callable::kTensor};
constexpr KnownCallable kRebuildParameter = {"torch._utils", "_rebuild_parameter", Callable::kParameter};
// FloatStorage and its like: which of them are read is judged beside the tensor's name.
constexpr std::string_view kStorageModule = "torch", kStorageEnding = "Storage";

enum Opcode : char {
  kProto = '\x80',
  kStop = '.',
  kMark = '(',
  kNone = 'N',
  kNewTrue = '\x88',
  kNewFalse = '\x89',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = '\x8a',
  kBinFloat = 'G',
  kBinUnicode = 'X',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = '\x85',
  kTuple2 = '\x86',
  kTuple3 = '\x87',
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kGlobal = 'c',
  kReduce = 'R',
  kBuild = 'b',
  kBinPersId = 'Q',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kBinGet = 'h',
  kLongBinGet = 'j',
};

// What messages call a value.
enum class Kind {
  kNone,
  kBoolean,
  kInteger,
  kNumber,
  kText,
  kTuple,
  kList,
  kDict,
  kCallable,
  kStorageType,
  kStorage,
  kTensor
};
constexpr std::array kKindNames = {
    "None",   "a boolean",           "an integer",          "a number",  "a text",  "a tuple", "a list",
    "a dict", "a class or function", "a class of storages", "a storage", "a tensor"};

// A value of the machine. What is larger than a number lies in one of its tables, so that a value that holds itself, or
// a thousand that hold each other, are as simple to drop as any other.
struct Value {
  Kind kind = Kind::kNone;
  std::int64_t integer = 0;  // or the index in the table of its kind, or a Callable
};

constexpr std::int64_t number_of(Callable callable) { return static_cast<std::int64_t>(callable); }

struct Storage {
  std::string_view type, name;
  std::int64_t size;
};

class Machine {
 public:
  Machine(std::span<const std::byte> pickle, const std::string& source)
      : rest_(pickle), size_(pickle.size()), source_(source) {}

  std::vector<PickledTensor> run();

 private:
  [[noreturn]] void damaged(std::string_view problem) const {
    throw Error(formatted("{} is damaged: {} at byte {} of its pickle - save it again", source_, problem,
                          size_ - rest_.size()));
  }
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(
        formatted("{}: {} - allowed: tensors alone, in a dict, as torch.save(model.state_dict(), path) writes "
                  "them; nothing in it was run",
                  source_, what));
  }

  // ---- what comes next ----
  std::span<const std::byte> take(std::size_t count) {
    if (count > rest_.size()) damaged("it ends in the middle of something");
    const std::span<const std::byte> taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  template <class Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view text(std::size_t bytes) {
    const std::span<const std::byte> taken = take(bytes);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  std::string_view line();
  std::int64_t long_integer();

  // ---- the stack ----
  void push(Kind kind, std::int64_t integer = 0) { stack_.push_back({kind, integer}); }
  std::size_t bottom() const { return marks_.empty() ? 0 : marks_.back(); }
  const Value& top() const {
    if (stack_.size() <= bottom()) damaged("nothing is on the stack");
    return stack_.back();
  }
  Value pop() {
    const Value value = top();
    stack_.pop_back();
    return value;
  }
  Value pop(Kind kind) {
    const Value value = pop();
    if (value.kind != kind) {
      damaged(formatted("{} stands where {} should", kKindNames[static_cast<std::size_t>(value.kind)],
                        kKindNames[static_cast<std::size_t>(kind)]));
    }
    return value;
  }
  std::vector<Value> pop_last(std::size_t count);
  std::vector<Value> pop_to_mark();
  const std::vector<Value>& values(const Value& container) const { return containers_[at(container.integer)]; }
  std::vector<Value>& values(const Value& container) { return containers_[at(container.integer)]; }
  static std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }
  void push_container(Kind kind, std::vector<Value> its_values) {
    containers_.push_back(std::move(its_values));
    push(kind, static_cast<std::int64_t>(containers_.size()) - 1);
  }
  void extend(Kind kind, const std::vector<Value>& more);
  std::optional<std::vector<std::int64_t>> integers(const Value& tuple) const;

  // ---- what it does ----
  void step(Opcode opcode);
  void load_callable();
  void call();
  void rebuild_tensor(const std::vector<Value>& arguments);
  void load_storage();
  void get(std::uint32_t place);
  std::vector<PickledTensor> result();

  std::span<const std::byte> rest_;
  std::size_t size_;
  const std::string& source_;
  std::vector<Value> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, Value> memo_;
  std::vector<std::string_view> texts_;         // and names of types of storages
  std::vector<std::vector<Value>> containers_;  // of tuples, lists and dicts, these as key, value, key, value ...
  std::vector<Storage> storages_;
  std::vector<PickledTensor> tensors_;
};

std::string_view Machine::line() {
  const auto end = std::find(rest_.begin(), rest_.end(), std::byte{'\n'});
  if (end == rest_.end()) damaged("a name does not end");
  const std::string_view name = text(static_cast<std::size_t>(end - rest_.begin()));
  take(1);
  return name;
}

// Little-endian in two's complement, of as many bytes as are said.
std::int64_t Machine::long_integer() {
  const std::size_t bytes = number<std::uint8_t>();
  if (bytes > sizeof(std::int64_t)) damaged(formatted("an integer has {} bytes, more than 8,", bytes));
  const std::span<const std::byte> digits = take(bytes);
  const bool is_negative = bytes != 0 && (digits.back() & std::byte{0x80}) != std::byte{};
  std::int64_t value = is_negative ? -1 : 0;
  if (bytes != 0) std::memcpy(&value, digits.data(), bytes);
  return value;
}

std::vector<Value> Machine::pop_last(std::size_t count) {
  if (stack_.size() - bottom() < count) damaged("too little is on the stack");
  std::vector<Value> last(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
  stack_.resize(stack_.size() - count);
  return last;
}

std::vector<Value> Machine::pop_to_mark() {
  if (marks_.empty()) damaged("there is no mark");
  std::vector<Value> last = pop_last(stack_.size() - bottom());
  marks_.pop_back();
  return last;
}

void Machine::extend(Kind kind, const std::vector<Value>& more) {
  if (kind == Kind::kDict && more.size() % 2 != 0) damaged("a key has no value");
  const Value container = pop(kind);
  std::vector<Value>& all = values(container);
  all.insert(all.end(), more.begin(), more.end());
  stack_.push_back(container);
}

std::optional<std::vector<std::int64_t>> Machine::integers(const Value& tuple) const {
  if (tuple.kind != Kind::kTuple || values(tuple).size() > kMostDimensions) return std::nullopt;
  std::vector<std::int64_t> numbers;
  for (const Value& value : values(tuple)) {
    if (value.kind != Kind::kInteger) return std::nullopt;
    numbers.push_back(value.integer);
  }
  return numbers;
}

void Machine::load_callable() {
  const std::string_view module = line();
  const std::string_view name = line();
  for (const KnownCallable& known : {kOrderedDict, kRebuildTensor, kRebuildParameter}) {
    if (module == known.module && name == known.name) return push(Kind::kCallable, number_of(known.callable));
  }
  if (module != kStorageModule || !name.ends_with(kStorageEnding)) {
    refuse(formatted("it asks for {} of the module {}", in_quotes(name), in_quotes(module)));
  }
  texts_.push_back(name);
  push(Kind::kStorageType, static_cast<std::int64_t>(texts_.size()) - 1);
}

void Machine::call() {
  const Value arguments = pop(Kind::kTuple), callable = pop(Kind::kCallable);
  const std::vector<Value>& given = values(arguments);
  if (callable.integer == number_of(Callable::kTensor)) return rebuild_tensor(given);
  if (callable.integer == number_of(Callable::kParameter)) {
    if (given.size() != 3 || given[0].kind != Kind::kTensor) damaged("a parameter is made of no tensor");
    stack_.push_back(given[0]);
    return;
  }
  if (!given.empty()) damaged("an OrderedDict is made of something");
  push_container(Kind::kDict, {});
}

// storage, offset, shape, strides, requires_grad, hooks.
void Machine::rebuild_tensor(const std::vector<Value>& arguments) {
  if (arguments.size() != 6 || arguments[0].kind != Kind::kStorage || arguments[1].kind != Kind::kInteger ||
      arguments[4].kind != Kind::kBoolean || arguments[5].kind != Kind::kDict || !values(arguments[5]).empty()) {
    damaged("a tensor is made of something else than storage, offset, shape and strides");
  }
  const std::optional<std::vector<std::int64_t>> shape = integers(arguments[2]), strides = integers(arguments[3]);
  if (!shape || !strides) {
    damaged(formatted("a tensor's shape or strides are not up to {} whole numbers", kMostDimensions));
  }
  const Storage& storage = storages_[at(arguments[0].integer)];
  tensors_.push_back({{}, storage.type, storage.name, storage.size, arguments[1].integer, *shape, *strides});
  push(Kind::kTensor, static_cast<std::int64_t>(tensors_.size()) - 1);
}

// ("storage", type, name, device, size)
void Machine::load_storage() {
  const Value id = pop(Kind::kTuple);
  const std::vector<Value>& parts = values(id);
  constexpr std::array kParts = {Kind::kText, Kind::kStorageType, Kind::kText, Kind::kText, Kind::kInteger};
  const bool fits = std::equal(parts.begin(), parts.end(), kParts.begin(), kParts.end(),
                               [](const Value& part, Kind kind) { return part.kind == kind; });
  if (!fits || texts_[at(parts[0].integer)] != "storage") {
    damaged("something else than a storage is kept apart");
  }
  storages_.push_back({texts_[at(parts[1].integer)], texts_[at(parts[2].integer)], parts[4].integer});
  push(Kind::kStorage, static_cast<std::int64_t>(storages_.size()) - 1);
}

void Machine::get(std::uint32_t place) {
  const auto found = memo_.find(place);
  if (found == memo_.end()) damaged(formatted("value {} is asked for, which was not kept,", place));
  stack_.push_back(found->second);
}

void Machine::step(Opcode opcode) {
  switch (opcode) {
    case kMark:
      marks_.push_back(stack_.size());
      return;
    case kNone:
      push(Kind::kNone);
      return;
    case kNewTrue:
    case kNewFalse:
      push(Kind::kBoolean);
      return;
    case kBinInt:
      push(Kind::kInteger, number<std::int32_t>());
      return;
    case kBinInt1:
      push(Kind::kInteger, number<std::uint8_t>());
      return;
    case kBinInt2:
      push(Kind::kInteger, number<std::uint16_t>());
      return;
    case kLong1:
      push(Kind::kInteger, long_integer());
      return;
    case kBinFloat:
      take(sizeof(double));
      push(Kind::kNumber);
      return;
    case kBinUnicode:
      texts_.push_back(text(number<std::uint32_t>()));
      push(Kind::kText, static_cast<std::int64_t>(texts_.size()) - 1);
      return;
    case kEmptyTuple:
      push_container(Kind::kTuple, {});
      return;
    case kTuple:
      push_container(Kind::kTuple, pop_to_mark());
      return;
    case kTuple1:
      push_container(Kind::kTuple, pop_last(1));
      return;
    case kTuple2:
      push_container(Kind::kTuple, pop_last(2));
      return;
    case kTuple3:
      push_container(Kind::kTuple, pop_last(3));
      return;
    case kEmptyList:
      push_container(Kind::kList, {});
      return;
    case kAppend:
      extend(Kind::kList, pop_last(1));
      return;
    case kAppends:
      extend(Kind::kList, pop_to_mark());
      return;
    case kEmptyDict:
      push_container(Kind::kDict, {});
      return;
    case kSetItem:
      extend(Kind::kDict, pop_last(2));
      return;
    case kSetItems:
      extend(Kind::kDict, pop_to_mark());
      return;
    case kGlobal:
      load_callable();
      return;
    case kReduce:
      call();
      return;
    // The attributes of an OrderedDict: PyTorch's notes of versions of modules, which weights do not need.
    case kBuild:
      pop(Kind::kDict);
      push(Kind::kDict, pop(Kind::kDict).integer);
      return;
    case kBinPersId:
      load_storage();
      return;
    case kBinPut:
      memo_[number<std::uint8_t>()] = top();
      return;
    case kLongBinPut:
      memo_[number<std::uint32_t>()] = top();
      return;
    case kBinGet:
      get(number<std::uint8_t>());
      return;
    case kLongBinGet:
      get(number<std::uint32_t>());
      return;
    case kProto:
    case kStop:
      break;
  }
  refuse(formatted("its pickle has the opcode {:#04x} at byte {}, which torch.save does not write for tensors",
                   static_cast<unsigned>(static_cast<unsigned char>(opcode)), size_ - rest_.size() - 1));
}

std::vector<PickledTensor> Machine::result() {
  if (!marks_.empty() || stack_.size() != 1 || !rest_.empty()) damaged("it does not end with one value");
  const Value& all = stack_.front();
  if (all.kind != Kind::kDict) refuse(formatted("it holds {}", kKindNames[static_cast<std::size_t>(all.kind)]));
  std::vector<PickledTensor> named;
  std::set<std::string_view> names;
  const std::vector<Value>& items = values(all);
  for (std::size_t i = 0; i < items.size(); i += 2) {
    if (items[i].kind != Kind::kText) {
      refuse(formatted("a key of its dict is {}, not a text", kKindNames[static_cast<std::size_t>(items[i].kind)]));
    }
    const std::string_view name = texts_[at(items[i].integer)];
    const Value& value = items[i + 1];
    if (value.kind != Kind::kTensor) {
      refuse(formatted("{} is {}", in_quotes(name), kKindNames[static_cast<std::size_t>(value.kind)]));
    }
    if (!names.insert(name).second) refuse(formatted("{} is there twice", in_quotes(name)));
    named.push_back(tensors_[at(value.integer)]);
    named.back().name = name;
  }
  return named;
}

std::vector<PickledTensor> Machine::run() {
  if (size_ > kMostPickleBytes) {
    refuse(formatted("its pickle has {} bytes, more than {}", size_, kMostPickleBytes));
  }
  if (number<char>() != kProto) damaged("it does not begin as a pickle");
  if (const auto protocol = number<std::uint8_t>(); protocol != kProtocol) {
    refuse(formatted("its pickle has protocol {}, not {}, which torch.save takes by itself", protocol, kProtocol));
  }
  for (;;) {
    const auto opcode = static_cast<Opcode>(number<char>());
    if (opcode == kStop) return result();
    step(opcode);
  }
}

// ---- writing ----

void put_integer(std::string& to, std::int64_t value) {
  const auto put = [&](Opcode opcode, std::size_t bytes) {
    to += opcode;
    to.append(reinterpret_cast<const char*>(&value), bytes);
  };
  if (value >= 0 && value <= std::numeric_limits<std::uint8_t>::max()) return put(kBinInt1, 1);
  if (value >= 0 && value <= std::numeric_limits<std::uint16_t>::max()) return put(kBinInt2, 2);
  if (value >= 0 && value <= std::numeric_limits<std::int32_t>::max()) return put(kBinInt, 4);
  to += {kLong1, '\x08'};
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& to, std::string_view text) {
  const auto bytes = static_cast<std::uint32_t>(text.size());
  to += kBinUnicode;
  to.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  to += text;
}

void put_global(std::string& to, std::string_view module, std::string_view name) {
  to += kGlobal;
  to += formatted("{}\n{}\n", module, name);
}

void put_integers(std::string& to, std::span<const std::int64_t> values) {
  to += kMark;
  for (const std::int64_t value : values) put_integer(to, value);
  to += kTuple;
}

void put_empty_dict(std::string& to) {
  put_global(to, kOrderedDict.module, kOrderedDict.name);
  to += {kEmptyTuple, kReduce};
}

}  // namespace

std::vector<PickledTensor> read_torch_pickle(std::span<const std::byte> pickle, const std::string& source) {
  return Machine(pickle, source).run();
}

std::string torch_pickle(std::span<const PickledTensor> tensors) {
  std::string pickle = {kProto, static_cast<char>(kProtocol)};
  put_empty_dict(pickle);
  pickle += kMark;
  for (const PickledTensor& tensor : tensors) {
    put_text(pickle, tensor.name);
    put_global(pickle, kRebuildTensor.module, kRebuildTensor.name);
    pickle += {kMark, kMark};
    put_text(pickle, "storage");
    put_global(pickle, kStorageModule, tensor.storage_type);
    put_text(pickle, tensor.storage);
    put_text(pickle, "cpu");
    put_integer(pickle, tensor.storage_size);
    pickle += {kTuple, kBinPersId};
    put_integer(pickle, tensor.offset);
    put_integers(pickle, tensor.shape);
    put_integers(pickle, tensor.strides);
    pickle += kNewFalse;
    put_empty_dict(pickle);
    pickle += {kTuple, kReduce};
  }
  pickle += {kSetItems, kStop};
  return pickle;
}

}  // namespace perilune
