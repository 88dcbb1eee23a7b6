// Reads one function of a text.
#include <algorithm>
#include <cstring>

#include "tests/ptx/module.hpp"
#include "tests/ptx/words.hpp"

namespace perilune::ptx {

class FunctionReader {
 public:
  FunctionReader(Module& module, const std::string& name, const Module::Body& body)
      : module_(module), body_(body), result_(std::make_unique<Function>()) {
    result_->name = name;
    result_->is_kernel = body.is_kernel;
    result_->files = &module.files_;
  }

  std::unique_ptr<Function> read() {
    scopes_.emplace_back();
    read_header();
    read_body();
    for (const auto& [index, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) fail("a branch to " + std::string(label) + ", which is nowhere");
      result_->code[index].target = found->second;
    }
    return std::move(result_);
  }

 private:
  struct Symbol {
    enum class What { kRegister, kShared, kLocal, kParameter, kCallParameter } what;
    char register_class = 0;  // of registers
    std::int64_t at = 0;      // byte of the frame, the shared storage, or the parameters
    std::int32_t size = 0;    // bytes of a parameter, or how many registers bear this name with a number
    bool numbered = false;
  };
  struct Scope {
    std::unordered_map<std::string_view, Symbol> names;
    std::size_t call_bytes = 0;
  };

  [[noreturn]] void fail(const std::string& what) const { module_.fail(at_, what + " - in " + result_->name); }

  static std::size_t aligned(std::size_t x, std::size_t to) { return (x + to - 1) / to * to; }

  // ".param .align 8 .b8 name[72]", ".reg .f32 %f<9>", ".shared .align 4 .b8 name[32]"
  struct Declaration {
    std::string_view type, name;
    std::size_t alignment = 1, count = 1;
    bool is_array = false, is_numbered = false;
  };
  Declaration parse_declaration(std::string_view text) const {
    Declaration result;
    const auto words = words_of(text);
    for (std::size_t i = 1; i < words.size(); ++i) {
      if (words[i] == ".align") {
        if (++i == words.size() || !parse_number(words[i], result.alignment))
          fail("an alignment that is not understood");
      } else if (words[i][0] == '.') {
        if (class_of(words[i]) != 0) result.type = words[i];
      } else if (result.name.empty()) {
        result.name = words[i];
      } else if (!parse_number(words[i], result.count)) {
        fail("a declaration that is not understood: " + std::string(text));
      }
    }
    result.is_array = text.find('[') != std::string_view::npos;
    result.is_numbered = text.find('<') != std::string_view::npos;
    if (result.type.empty() || (result.name.empty() && !result.is_array)) {
      fail("a declaration that is not understood: " + std::string(text));
    }
    return result;
  }

  std::int32_t add_parameter(std::size_t& bytes, const Declaration& declared,
                             std::vector<Function::Parameter>* list) const {
    const std::size_t element = static_cast<std::size_t>(bytes_of_class(class_of(declared.type)));
    const std::size_t size = element * declared.count;
    bytes = aligned(bytes, std::max(declared.alignment, element));
    const auto at = static_cast<std::int32_t>(bytes);
    bytes += size;
    if (list != nullptr) list->push_back({at, static_cast<std::int32_t>(size)});
    return at;
  }

  void read_header() {
    at_ = body_.header;
    const std::string_view header = std::string_view(module_.text_).substr(body_.header, body_.open - body_.header);
    const std::size_t name = header.find(result_->name + "(") != std::string_view::npos
                                 ? header.find(result_->name + "(")
                                 : header.find(result_->name);
    for (std::size_t i = header.find(".param"); i != std::string_view::npos; i = header.find(".param", i + 1)) {
      const std::size_t end = std::min(header.find_first_of(",)", i), header.size());
      const Declaration declared = parse_declaration(header.substr(i, end - i));
      const std::int32_t at =
          add_parameter(result_->parameter_bytes, declared, i < name ? &result_->results : &result_->parameters);
      scopes_.back().names[declared.name] = {Symbol::What::kParameter, 0, at, 0, false};
    }
    if (const std::size_t i = header.find(".maxntid"); i != std::string_view::npos) {
      const auto words = words_of(header.substr(i));
      if (words.size() < 2 || !parse_number(words[1], result_->max_threads)) fail("a .maxntid that is not understood");
    }
  }

  void read_body() {
    const std::string_view text = module_.text_;
    std::size_t i = body_.open + 1;
    while (i < body_.close) {
      const char c = text[i];
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++i;
        continue;
      }
      at_ = i;
      if (text.compare(i, 2, "//") == 0) {
        i = text.find('\n', i);
      } else if (c == '{') {
        scopes_.emplace_back();
        scopes_.back().call_bytes = scopes_[scopes_.size() - 2].call_bytes;
        ++i;
      } else if (c == '}') {
        if (scopes_.size() < 2) fail("a brace too many");
        scopes_.pop_back();
        ++i;
      } else if (text.compare(i, 4, ".loc") == 0 && !is_name(text[i + 4])) {
        const std::size_t end = text.find('\n', i);
        read_place(text.substr(i, end - i));
        i = end;
      } else {
        const std::size_t end = find_end(text, i);
        if (text[end] == ':') {
          labels_[trimmed(text.substr(i, end - i))] = static_cast<std::uint32_t>(result_->code.size());
        } else {
          read_statement(text.substr(i, end - i));
        }
        i = end + 1;
      }
    }
    if (scopes_.size() != 1) fail("a brace is not closed");
  }

  /// Of the semicolon that ends a statement, or of the colon after a label.
  std::size_t find_end(std::string_view text, std::size_t from) const {
    for (std::size_t i = from; i < body_.close; ++i) {
      if (text[i] == ';' || (text[i] == ':' && text[from] == '$')) return i;
    }
    fail("a statement without an end: " + std::string(trimmed(text.substr(from, 60))));
  }

  // ".loc F L C", ".loc F L C, function_name NAME, inlined_at F L C"
  void read_place(std::string_view text) {
    const auto words = words_of(text);
    source_ = {};
    if (words.size() < 3 || !parse_number(words[1], source_.file) || !parse_number(words[2], source_.line)) {
      fail("a .loc that is not understood");
    }
    for (std::size_t i = 3; i + 2 < words.size(); ++i) {
      if (words[i] != "inlined_at") continue;
      if (!parse_number(words[i + 1], source_.caller_file) || !parse_number(words[i + 2], source_.caller_line)) {
        fail("a .loc that is not understood");
      }
    }
  }

  void read_statement(std::string_view text) {
    if (text.starts_with(".reg")) {
      const Declaration declared = parse_declaration(text);
      const char register_class = class_of(declared.type);
      const auto at = static_cast<std::int64_t>(result_->frame_bytes);
      const auto count = static_cast<std::int32_t>(declared.count);
      result_->frame_bytes += aligned(register_bytes(register_class), 64) * declared.count;
      scopes_.back().names[declared.name] = {Symbol::What::kRegister, register_class, at, count, declared.is_numbered};
    } else if (text.starts_with(".shared")) {
      const Declaration declared = parse_declaration(text);
      const std::int32_t at = add_parameter(result_->static_shared_bytes, declared, nullptr);
      scopes_.back().names[declared.name] = {Symbol::What::kShared, 0, at, 0, false};
    } else if (text.starts_with(".local")) {
      const Declaration declared = parse_declaration(text);
      const std::int32_t at = add_parameter(result_->local_bytes, declared, nullptr);
      scopes_.back().names[declared.name] = {Symbol::What::kLocal, 0, at, 0, false};
    } else if (text.starts_with(".param")) {
      const Declaration declared = parse_declaration(text);
      Scope& scope = scopes_.back();
      scope.call_bytes = aligned(scope.call_bytes, 8);
      const std::size_t begin = scope.call_bytes;
      add_parameter(scope.call_bytes, declared, nullptr);
      result_->call_bytes = std::max(result_->call_bytes, aligned(scope.call_bytes, 8));
      scope.names[declared.name] = {Symbol::What::kCallParameter, 0, static_cast<std::int64_t>(begin),
                                    static_cast<std::int32_t>(scope.call_bytes - begin), false};
    } else if (text.starts_with(".pragma")) {
      return;
    } else if (text[0] == '.') {
      fail("an unknown directive: " + std::string(text.substr(0, 60)));
    } else {
      read_instruction(text);
    }
  }

  void read_instruction(std::string_view text) {
    Instruction instruction;
    instruction.text = text;
    instruction.source = source_;
    std::string_view rest = text;
    if (rest[0] == '@') {
      const std::size_t end = std::min(rest.find_first_of(" \t"), rest.size());
      std::string_view guard = rest.substr(1, end - 1);
      instruction.guarded = true;
      if (guard.starts_with("!")) {
        instruction.guard_negated = true;
        guard.remove_prefix(1);
      }
      instruction.guard = operand(guard, 'p');
      rest = trimmed(rest.substr(end));
    }
    const std::size_t end = std::min(rest.find_first_of(" \t\n"), rest.size());
    const std::string_view name = rest.substr(0, end);
    rest = trimmed(rest.substr(end));
    if (name == "bra" || name == "bra.uni") {
      instruction.kind = Kind::kBranch;
      branches_.emplace_back(result_->code.size(), rest);
    } else if (name == "ret") {
      instruction.kind = Kind::kReturn;
    } else if (name == "call" || name == "call.uni") {
      read_call(instruction, rest);
    } else if (name.starts_with("ld.") || name.starts_with("st.")) {
      read_access(instruction, name, rest);
    } else {
      read_plain(instruction, name, rest);
    }
    result_->code.push_back(std::move(instruction));
  }

  // "(retval0), function, (param0, param1)"; results and arguments may be missing.
  void read_call(Instruction& instruction, std::string_view rest) {
    instruction.kind = Kind::kCall;
    bool results = rest.starts_with("(");
    std::string_view name;
    for (const std::string_view word : words_of(rest)) {
      if (const Symbol* symbol = find(word)) {
        if (symbol->what != Symbol::What::kCallParameter) fail("a call with " + std::string(word));
        (results && name.empty() ? instruction.results : instruction.arguments)
            .push_back(static_cast<std::int32_t>(symbol->at));
      } else if (name.empty()) {
        name = word;
      } else {
        fail("a call with " + std::string(word));
      }
    }
    if (module_.has(name)) {
      instruction.callee = &module_.function(std::string(name));
      if (instruction.callee->results.size() != instruction.results.size() ||
          instruction.callee->parameters.size() != instruction.arguments.size()) {
        fail("a call of " + std::string(name) + " with another number of arguments than it has");
      }
    } else if ((instruction.run = find_external(name)) == nullptr) {
      fail("a call of " + std::string(name) +
           ", which is in no file and not known - tests/ptx/instructions.cpp lists those that are");
    }
  }

  void read_access(Instruction& instruction, std::string_view name, std::string_view rest) {
    const bool store = name.starts_with("st.");
    std::vector<std::string_view> parts;  // of "ld.shared.v4.f32"
    for (std::size_t i = 3; i <= name.size();) {
      const std::size_t end = std::min(name.find('.', i), name.size());
      parts.push_back(name.substr(i, end - i));
      i = end + 1;
    }
    instruction.address.space = parts[0] == "shared"  ? Space::kShared
                                : parts[0] == "local" ? Space::kLocal
                                : parts[0] == "param" ? Space::kParameter
                                                      : Space::kGlobal;
    const bool known_space = instruction.address.space != Space::kGlobal || parts[0] == "global";
    if (parts.size() == 3 && (parts[1] == "v2" || parts[1] == "v4")) {
      instruction.elements = static_cast<std::uint8_t>(parts[1][1] - '0');
    } else if (parts.size() != 2) {
      unknown(name);
    }
    const std::string_view type = parts.back();
    const char element = class_of("." + std::string(type));
    if (!known_space || element == 0) unknown(name);
    const auto operands = split(rest);
    if (operands.size() != 1u + instruction.elements) fail("a wrong number of operands");
    read_address(instruction.address, operands[store ? 0 : instruction.elements]);
    // The class of its registers; a constant that is stored has the element's.
    char register_class = element == 'b' ? 'h' : element;
    for (int i = 0; i < instruction.elements; ++i) {
      const std::string_view word = operands[static_cast<std::size_t>(i) + (store ? 1 : 0)];
      if (const Symbol* symbol = find(word)) register_class = symbol->register_class;
    }
    for (int i = 0; i < instruction.elements; ++i) {
      const std::string_view word = operands[static_cast<std::size_t>(i) + (store ? 1 : 0)];
      instruction.operands[static_cast<std::size_t>(i)] = operand(word, register_class, store);
    }
    instruction.run = find_access(store, type, register_class);
    if (instruction.run == nullptr) unknown(name);
  }

  void read_plain(Instruction& instruction, std::string_view name, std::string_view rest) {
    auto operands = split(rest);
    std::string full(name);
    if (name.starts_with("mov.") && operands.size() == 2) {  // of what is no register: an instruction of its own
      const Symbol* symbol = find(operands[1]);
      if (operands[1].starts_with("%") && symbol == nullptr) {
        full += " " + std::string(operands[1]);
        operands.pop_back();
      } else if (symbol != nullptr && symbol->what == Symbol::What::kLocal) {
        full += " local";
        instruction.address.offset = symbol->at;
        operands.pop_back();
      }
    }
    if (name.starts_with("cp.async.ca.") && operands.size() == 3) {  // of each size: an instruction of its own
      full += " " + std::string(operands[2]);
      operands.pop_back();
    }
    // A conversion may take its number out of a wider register: an instruction of its own, too.
    if (name.starts_with("cvt.") && operands.size() == 2) {
      const Symbol* symbol = find(operands[1]);
      const Opcode* usual = find_opcode(name);
      if (symbol != nullptr && usual != nullptr && symbol->register_class != usual->operands[1]) {
        full += " of " + std::string(1, symbol->register_class);
      }
    }
    const Opcode* opcode = find_opcode(full);
    if (opcode == nullptr) unknown(full);
    instruction.run = opcode->run;
    instruction.kind = opcode->kind;
    instruction.target = opcode->mask_operand;
    if (name == "griddepcontrol.wait") result_->waits = true;
    const std::string_view letters = opcode->operands;
    if (operands.size() != letters.size()) fail("a wrong number of operands for " + full);
    Address* address = &instruction.address;
    for (std::size_t i = 0, place = 0; i < letters.size(); ++i) {
      if (letters[i] == '0') {
        if (operands[i] != "0") fail("a barrier other than 0");
      } else if (letters[i] == '@' || letters[i] == 's') {
        address->space = letters[i] == '@' ? Space::kGlobal : Space::kShared;
        read_address(*address, operands[i]);
        address = &instruction.from;
      } else {
        instruction.operands[place++] = operand(operands[i], letters[i], i > 0 || letters.size() == 1);
      }
    }
  }

  /// Operands between commas; the elements of a vector one by one; "a|b" are two.
  std::vector<std::string_view> split(std::string_view text) const {
    std::vector<std::string_view> result;
    std::size_t begin = 0;
    for (std::size_t i = 0; i <= text.size(); ++i) {
      if (i < text.size() && std::strchr(",{}|", text[i]) == nullptr) continue;
      const std::string_view word = trimmed(text.substr(begin, i - begin));
      if (!word.empty()) result.push_back(word);
      begin = i + 1;
    }
    return result;
  }

  // "[%rd1+-8]", "[name+4]", "[name]"
  void read_address(Address& address, std::string_view text) {
    if (text.size() < 3 || text.front() != '[' || text.back() != ']') fail("no address: " + std::string(text));
    text = trimmed(text.substr(1, text.size() - 2));
    const std::size_t plus = text.find('+');
    std::int64_t offset = 0;
    if (plus != std::string_view::npos && !parse_number(trimmed(text.substr(plus + 1)), offset)) {
      fail("no offset: " + std::string(text));
    }
    const std::string_view name = trimmed(text.substr(0, plus));
    const Symbol* symbol = find(name);
    if (symbol == nullptr) fail("an address of " + std::string(name) + ", which is not declared");
    address.offset = offset;
    switch (symbol->what) {
      case Symbol::What::kRegister:
        address.base = symbol->register_class;
        if (address.base != 'w' && address.base != 'd') fail("an address in " + std::string(name));
        address.reg = register_operand(name, *symbol);
        return;
      case Symbol::What::kCallParameter:
        address.space = Space::kCallParameter;
        break;
      case Symbol::What::kShared:
      case Symbol::What::kLocal:
      case Symbol::What::kParameter:
        break;
    }
    address.offset += symbol->at;
  }

  static std::string_view without_number(std::string_view name) {
    while (!name.empty() && is_digit(name.back())) name.remove_suffix(1);
    return name;
  }
  const Symbol* find(std::string_view name) const {
    const std::string_view stem = without_number(name);
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->names.find(name); found != scope->names.end() && !found->second.numbered) {
        return &found->second;
      }
      if (const auto found = scope->names.find(stem); found != scope->names.end() && found->second.numbered) {
        std::int32_t number = 0;
        if (parse_number(name.substr(stem.size()), number) && number < found->second.size) return &found->second;
      }
    }
    for (const std::string& dynamic : module_.dynamic_shared_) {
      if (name == dynamic) return &dynamic_shared_;
    }
    return nullptr;
  }
  Operand register_operand(std::string_view name, const Symbol& symbol) const {
    std::int64_t number = 0;
    if (symbol.numbered) parse_number(name.substr(without_number(name).size()), number);
    return static_cast<Operand>(symbol.at +
                                number * static_cast<std::int64_t>(aligned(register_bytes(symbol.register_class), 64)));
  }

  /// A register, or where a constant may stand: a number, or where a symbol lies.
  Operand operand(std::string_view text, char register_class, bool may_be_constant = false) {
    const Symbol* symbol = find(text);
    if (symbol != nullptr && symbol->what == Symbol::What::kRegister) {
      if (symbol->register_class != register_class) fail(std::string(text) + " has another width than the instruction");
      return register_operand(text, *symbol);
    }
    std::uint64_t bits = 0;
    if (!may_be_constant) fail("no register: " + std::string(text));
    if (symbol != nullptr) {
      if (symbol->what == Symbol::What::kLocal || symbol->what == Symbol::What::kCallParameter) {
        fail("the address of " + std::string(text));
      }
      bits = static_cast<std::uint64_t>(symbol->at);
    } else if (!parse_literal(text, bits)) {
      fail("an operand that is not understood: " + std::string(text));
    }
    return constant(bits, register_class);
  }

  Operand constant(std::uint64_t bits, char register_class) {
    if (register_class == 'p') bits = bits != 0 ? ~std::uint64_t{0} : 0;
    const auto [found, is_new] = constants_.try_emplace({register_class, bits}, 0);
    if (is_new) {
      const std::size_t at = result_->constants.size(), width = register_bytes(register_class) / kLanes;
      result_->constants.resize(at + aligned(register_bytes(register_class), 64));
      for (std::size_t lane = 0; lane < kLanes; ++lane)
        std::memcpy(&result_->constants[at + lane * width], &bits, width);
      found->second = ~static_cast<Operand>(at);
    }
    return found->second;
  }

  [[noreturn]] void unknown(std::string_view name) const {
    fail("the instruction " + std::string(name) + " is not known - tests/ptx/instructions.cpp lists those that are");
  }

  Module& module_;
  Module::Body body_;
  std::unique_ptr<Function> result_;
  std::vector<Scope> scopes_;
  std::map<std::pair<char, std::uint64_t>, Operand> constants_;
  std::map<std::string_view, std::uint32_t> labels_;
  std::vector<std::pair<std::size_t, std::string_view>> branches_;
  SourceLine source_;
  std::size_t at_ = 0;
  Symbol dynamic_shared_{Symbol::What::kShared, 0, kDynamicShared, 0, false};
};

const Function& Module::function(const std::string& name) {
  std::unique_ptr<Function>& read = read_[name];
  if (!read) {
    const auto body = bodies_.find(name);
    if (body == bodies_.end()) throw ReadError(name_ + " has no function " + name);
    read = FunctionReader(*this, name, body->second).read();
  }
  return *read;
}

}  // namespace perilune::ptx
