// See terminal.hpp.
#include "tools/commands/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <system_error>

#include "host/base/error.hpp"
#include "host/base/format.hpp"

namespace perilune {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

// As the C library decides, without loading a locale.
bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    std::string value(environment(name));
    if (value.empty()) continue;
    std::transform(value.begin(), value.end(), value.begin(), [](char letter) {
      return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
    });
    return value.find("utf-8") != std::string::npos || value.find("utf8") != std::string::npos;
  }
  return false;
}

std::string_view escape_code(Style style) {
  switch (style) {
    case Style::kBold:
      return "\x1b[1m";
    case Style::kDim:
      return "\x1b[2m";
    case Style::kGood:
      return "\x1b[32m";
    case Style::kWarning:
      return "\x1b[33m";
    case Style::kBad:
      return "\x1b[31m";
    case Style::kAccent:
      return "\x1b[36m";
    case Style::kPlain:
      break;
  }
  return "";
}

}  // namespace

Terminal::Terminal(int descriptor, const char* name)
    : descriptor_(descriptor),
      name_(name),
      is_interactive_(::isatty(descriptor) != 0 && environment("TERM") != "dumb"),
      has_colour_(is_interactive_ && environment("NO_COLOR").empty()),
      has_unicode_(locale_is_utf8()) {}

Terminal Terminal::standard_output() { return {STDOUT_FILENO, "standard output"}; }
Terminal Terminal::standard_error() { return {STDERR_FILENO, "standard error"}; }

int Terminal::columns() const {
  winsize size{};
  return ::ioctl(descriptor_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::size_t Terminal::text_width() const {
  constexpr std::size_t kLeast = 40, kElsewhere = 100;
  return is_interactive_ ? std::max(kLeast, static_cast<std::size_t>(columns())) : kElsewhere;
}

std::string Terminal::styled(Style style, std::string_view text) const {
  if (!has_colour_ || style == Style::kPlain || text.empty()) return std::string(text);
  return formatted("{}{}\x1b[0m", escape_code(style), text);
}

std::string_view Terminal::choose(std::string_view unicode, std::string_view ascii) const {
  return has_unicode_ ? unicode : ascii;
}

void Terminal::print(std::string_view text) {
  while (!text.empty() && error_ == 0) {
    const ssize_t count = ::write(descriptor_, text.data(), text.size());
    if (count >= 0) {
      text.remove_prefix(static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
}

void Terminal::check() const {
  if (error_ == 0) return;
  throw Error(formatted("cannot write to {}: {} - what should have been printed is lost", name_,
                        std::generic_category().message(error_)));
}

std::string grouped(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t end = digits.size(); end > 3; end -= 3) digits.insert(end - 3, 1, ',');
  return digits;
}

std::string scaled(double value) {
  constexpr std::array<std::string_view, 5> kUnits = {"", " k", " M", " G", " T"};
  if (!std::isfinite(value)) return "-";
  std::size_t unit = 0;
  // 999.5 of one unit would be shown as 1000.
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000.0;
    ++unit;
  }
  const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return formatted("{:.{}f}{}", value, decimals, kUnits[unit]);
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  if (seconds < 9.995) return formatted("{:.2f} s", seconds);
  if (seconds < 99.95) return formatted("{:.1f} s", seconds);
  const auto whole = static_cast<std::uint64_t>(std::min(seconds + 0.5, 1e15));
  if (whole < 3600) return formatted("{}:{:02} min", whole / 60, whole % 60);
  return formatted("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

std::string shell_quoted(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@%+";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string_view::npos) return std::string(text);
  std::string out = "'";
  for (char letter : text) {
    if (letter == '\'') out += "'\\'";
    out += letter;
  }
  out += '\'';
  return out;
}

std::string labelled(const Terminal& terminal, std::string_view label, std::string_view text) {
  constexpr std::size_t kColumn = 14;
  std::string begin = formatted("  {}", terminal.styled(Style::kDim, formatted("{:<12}", label)));
  if (!terminal.is_interactive()) return formatted("{}{}\n", begin, text);
  std::string out;
  for (const std::string& line : wrapped(text, terminal.text_width() - kColumn, LongWords::kKeep)) {
    out += formatted("{}{}\n", begin, line);
    begin.assign(kColumn, ' ');
  }
  return out;
}

std::string evaluation_text(const Terminal& terminal, const EvaluationResult& evaluation) {
  return formatted("{:.1f} {} {:.1f} over {} episodes (min {:.0f}, max {:.0f})", evaluation.mean,
                   terminal.choose("±", "+-"), evaluation.std, evaluation.episodes, evaluation.min, evaluation.max);
}

std::string table_text(const Terminal& terminal, const Table& table) {
  return layout(table, terminal.text_width(), terminal.has_colour());
}

}  // namespace perilune
