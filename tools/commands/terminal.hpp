// Where the program's text goes: a stream with colours where a person reads it, and the words numbers are told in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/table.hpp"
#include "host/training/evaluation.hpp"

namespace perilune {

enum class Style { kPlain, kBold, kDim, kGood, kWarning, kBad, kAccent };

// One of the process's output streams, unbuffered. A failed write does not throw at once (a training run must not end
// because its reader has): the rest is dropped, and check() tells.
class Terminal {
 public:
  static Terminal standard_output();
  static Terminal standard_error();

  // A terminal that redraws lines (not a file, a pipe or TERM=dumb).
  bool is_interactive() const { return is_interactive_; }
  // Its width at this moment; 80 where it is not known.
  int columns() const;
  // Columns for tables: a terminal's own, at least 40; elsewhere 100.
  std::size_t text_width() const;
  bool has_colour() const { return has_colour_; }

  // With escape codes on an interactive terminal unless NO_COLOR is set, else the text alone.
  std::string styled(Style style, std::string_view text) const;
  // The first where the reader shows UTF-8, else the second.
  std::string_view choose(std::string_view unicode, std::string_view ascii) const;

  void print(std::string_view text);
  // Throws Error if anything printed was lost.
  void check() const;

 private:
  Terminal(int descriptor, const char* name);

  int descriptor_;
  const char* name_;
  bool is_interactive_;
  bool has_colour_;
  bool has_unicode_;
  int error_ = 0;
};

// "184,320".
std::string grouped(std::uint64_t count);
// Three digits and a unit: "950", "184 k", "1.21 M".
std::string scaled(double value);
// "0.17 s", "42.0 s", "3:05 min", "2:10 h"; "-" for NaN.
std::string duration_text(double seconds);
// An argument as a shell takes it, quoted where it has to be.
std::string shell_quoted(std::string_view text);

// A dim label, and what it says; on a terminal wrapped at its width, where words (paths) stay whole.
std::string labelled(const Terminal& terminal, std::string_view label, std::string_view text);
// "497.3 +- 8.1 over 100 episodes (min 451, max 500)".
std::string evaluation_text(const Terminal& terminal, const EvaluationResult& evaluation);

// As wide as the terminal.
std::string table_text(const Terminal& terminal, const Table& table);

}  // namespace perilune
