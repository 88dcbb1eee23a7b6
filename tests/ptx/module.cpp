#include "tests/ptx/module.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tests/ptx/words.hpp"

namespace perilune::ptx {

std::string Function::where(const Instruction& instruction) const {
  std::string text;
  const auto place = [&](std::uint16_t file, std::uint32_t line) {
    return (file < files->size() ? (*files)[file] : std::string("?")) + ":" + std::to_string(line);
  };
  if (instruction.source.file != 0) text += place(instruction.source.file, instruction.source.line);
  if (instruction.source.caller_file != 0) {
    text += " (in " + place(instruction.source.caller_file, instruction.source.caller_line) + ")";
  }
  std::string statement;
  for (const std::string_view word = trimmed(instruction.text); const char c : word) {
    const bool space = c == '\n' || c == '\t' || c == ' ' || c == '\r';
    if (!space)
      statement += c;
    else if (!statement.empty() && statement.back() != ' ')
      statement += ' ';
  }
  return text + ": `" + statement + "`";
}

std::unique_ptr<Module> Module::open(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) throw ReadError(path + " cannot be read");
  return std::make_unique<Module>(path, std::move(text).str());
}

void Module::fail(std::size_t at, const std::string& what) const {
  const auto line =
      1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(std::min(at, text_.size())), '\n');
  throw ReadError(name_ + ":" + std::to_string(line) + ": " + what);
}

Module::Module(std::string name, std::string text) : name_(std::move(name)), text_(std::move(text)) {
  bool has_version = false;
  std::size_t statement = std::string::npos;  // where the statement began that is being read
  std::size_t open = 0;
  int depth = 0;
  for (std::size_t i = 0; i < text_.size(); ++i) {
    const char c = text_[i];
    if (c == '/' && i + 1 < text_.size() && text_[i + 1] == '/') {
      i = std::min(text_.find('\n', i), text_.size());
      continue;
    }
    if (depth > 0) {
      if (c == '{') ++depth;
      if (c != '}' || --depth > 0) continue;
      const std::string_view header = std::string_view(text_).substr(statement, open - statement);
      const bool kernel = header.find(".entry") != std::string_view::npos;
      if (kernel || header.find(".func") != std::string_view::npos) {
        // The name is the word before the last parenthesis that opens on the outermost level.
        std::size_t parenthesis = header.find('(');
        const std::size_t word = header.find(kernel ? ".entry" : ".func");
        if (!kernel && parenthesis != std::string_view::npos &&
            trimmed(header.substr(word + 5, parenthesis - word - 5)).empty()) {  // results come first
          parenthesis = header.find('(', header.find(')', parenthesis));
        }
        const auto words = words_of(header.substr(0, parenthesis));
        std::string function(words.back());
        if (kernel) kernels_.push_back(function);
        bodies_[function] = {kernel, statement, open, i};
      } else if (!header.starts_with(".section")) {
        fail(statement, "a block that is no function: " + std::string(header.substr(0, 60)));
      }
      statement = std::string::npos;
      continue;
    }
    if (statement == std::string::npos) {
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
      statement = i;
    }
    if (c == '{') {
      open = i;
      depth = 1;
    } else if (c == ';') {
      const std::string_view words = std::string_view(text_).substr(statement, i - statement);
      constexpr std::array<std::string_view, 6> kSkipped = {".global", ".extern",  ".const",
                                                            ".weak",   ".visible", ".func"};
      if (std::none_of(kSkipped.begin(), kSkipped.end(), [&](auto word) { return words.starts_with(word); })) {
        fail(statement, "an unknown directive: " + std::string(words.substr(0, 60)));
      }
      if (words.starts_with(".extern .shared")) dynamic_shared_.emplace_back(words_of(words).back());
      statement = std::string::npos;
    } else if (c == '\n') {
      const std::string_view line = trimmed(std::string_view(text_).substr(statement, i - statement));
      const auto words = words_of(line);
      if (line.starts_with(".version")) {
        int major = 0;
        if (words.size() < 2 || !parse_number(words[1].substr(0, words[1].find('.')), major))
          fail(statement, "no version");
        if (major < 7 || major > 9) {
          fail(statement, "PTX of version " + std::string(words[1]) +
                              " - this reader knows 7.0 to 9.x: look through what is new "
                              "in it, then raise the number in tests/ptx/reader.cpp");
        }
        has_version = true;
      } else if (line.starts_with(".address_size")) {
        if (words.size() < 2 || words[1] != "64") fail(statement, "addresses are to have 64 bits");
      } else if (line.starts_with(".file")) {
        std::size_t number = 0;
        const std::size_t from = line.find('"'), to = line.rfind('"');
        if (words.size() < 3 || !parse_number(words[1], number) || from >= to)
          fail(statement, "a .file that is not understood");
        files_.resize(std::max(files_.size(), number + 1));
        std::string path(line.substr(from + 1, to - from - 1));
        for (const char* folder : {"/kernels/", "/sims/", "/cccl/"}) {  // as a reader of the repository names it
          if (const std::size_t at = path.rfind(folder); at != std::string::npos) {
            path.erase(0, at + 1);
            break;
          }
        }
        files_[number] = path;
      } else if (!line.starts_with(".target")) {
        continue;  // a header of several lines
      }
      statement = std::string::npos;
    }
  }
  if (depth > 0) fail(text_.size(), "the text ends in the middle of " + std::string(text_.substr(statement, 60)));
  if (!has_version) fail(0, "this is no PTX: it has no .version");
}

}  // namespace perilune::ptx
