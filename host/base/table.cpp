// See table.hpp.
#include "host/base/table.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <numeric>

namespace perilune {
namespace {

constexpr std::size_t kIndent = 2, kGap = 2;
constexpr std::string_view kReset = "\x1b[0m";

struct Letters {
  std::uint32_t first, last;
};

// Unicode's combining marks and letters without width, and its wide and full-width ones, in blocks.
constexpr Letters kNarrowest[] = {{0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x064B, 0x065F},
                                  {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x200B, 0x200F}, {0x20D0, 0x20F0},
                                  {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}};
constexpr Letters kLayerwise[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0x33FF},   {0x3400, 0x4DBF},
                                  {0x4E00, 0xA4C6},   {0xA960, 0xA97C},   {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},
                                  {0xFE30, 0xFE6B},   {0xFF01, 0xFF60},   {0xFFE0, 0xFFE6},   {0x1F300, 0x1F320},
                                  {0x1F400, 0x1F43E}, {0x1F600, 0x1F64F}, {0x1F680, 0x1F6C5}, {0x1F900, 0x1F9FF},
                                  {0x20000, 0x3FFFD}};

bool is_in(std::uint32_t letter, const Letters& range) { return letter >= range.first && letter <= range.last; }

struct Letter {
  std::size_t bytes, columns;
};

// The letter or escape code that begins at `at`. A byte that is no UTF-8 is a letter of one column.
Letter letter_at(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte == 0x1B && at + 1 < text.size() && text[at + 1] == '[') {
    std::size_t end = at + 2;
    while (end < text.size() && (text[end] < '@' || text[end] > '~')) ++end;
    return {std::min(end + 1, text.size()) - at, 0};
  }
  const std::size_t bytes = byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
  if (bytes == 1 || at + bytes > text.size()) return {1, 1};
  std::uint32_t letter = byte & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[at + i]);
    if ((next & 0xC0) != 0x80) return {1, 1};
    letter = letter << 6 | (next & 0x3F);
  }
  const auto holds = [&](const Letters& range) { return is_in(letter, range); };
  if (std::any_of(std::begin(kNarrowest), std::end(kNarrowest), holds)) return {bytes, 0};
  return {bytes, std::any_of(std::begin(kLayerwise), std::end(kLayerwise), holds) ? std::size_t{2} : std::size_t{1}};
}

// Lines that grow letter by letter.
class Lines {
 public:
  std::size_t columns() const { return columns_; }
  void append(std::string_view letter, std::size_t columns) {
    if (letter[0] == '\x1b') style_ = letter == kReset ? "" : style_ + std::string(letter);
    line_ += letter;
    columns_ += columns;
  }
  void end_line() {
    if (!style_.empty()) line_ += kReset;
    done_.push_back(std::move(line_));
    line_ = style_;
    columns_ = 0;
  }
  std::vector<std::string> take() {
    end_line();
    return std::move(done_);
  }

 private:
  std::vector<std::string> done_;
  std::string line_, style_;
  std::size_t columns_ = 0;
};

std::size_t longest_word(std::string_view text) {
  std::size_t longest = 0;
  for (const std::string& line : wrapped(text, 2, LongWords::kKeep)) longest = std::max(longest, display_width(line));
  return longest;
}

std::string in_style(bool styled, std::string_view text) {
  return styled && !text.empty() ? "\x1b[2m" + std::string(text) + std::string(kReset) : std::string(text);
}

void append_line(std::string& out, std::string_view line) {
  out += line.substr(0, line.find_last_not_of(' ') + 1);
  out += '\n';
}

// `text` at a column of its own, its lines in order below each other.
void append_wrapped(std::string& out, std::string begin, std::string_view text, std::size_t width, bool styled) {
  const std::size_t column = display_width(begin);
  for (const std::string& line : wrapped(text, width - column, LongWords::kBreak)) {
    append_line(out, begin + in_style(styled, line));
    begin.assign(column, ' ');
  }
}

struct Widths {
  std::vector<std::size_t> natural, shortest;  // of the longest cell, and of the longest word, of each column
};

Widths widths_of(const Table& table) {
  Widths widths;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    std::size_t natural = display_width(table.columns[c].heading), shortest = longest_word(table.columns[c].heading);
    for (const Table::Row& row : table.rows) {
      natural = std::max(natural, display_width(row.cells[c]));
      shortest = std::max(shortest, longest_word(row.cells[c]));
    }
    widths.natural.push_back(natural);
    widths.shortest.push_back(shortest);
  }
  return widths;
}

// The widest columns become narrower until all fit, each as wide as its longest word at least; nothing if they cannot.
std::vector<std::size_t> fitted(const Widths& widths, std::size_t width) {
  const std::size_t around = kIndent + kGap * (widths.natural.size() - 1);
  const auto sum = [](const std::vector<std::size_t>& list) {
    return std::accumulate(list.begin(), list.end(), std::size_t{0});
  };
  if (sum(widths.shortest) + around > width) return {};
  std::vector<std::size_t> fit = widths.natural;
  for (std::size_t excess = std::max(sum(fit) + around, width) - width; excess > 0; --excess) {
    std::size_t widest = fit.size();
    for (std::size_t c = 0; c < fit.size(); ++c) {
      if (fit[c] > widths.shortest[c] && (widest == fit.size() || fit[c] > fit[widest])) widest = c;
    }
    --fit[widest];
  }
  return fit;
}

void append_row(std::string& out, const Table& table, const std::vector<std::string>& cells,
                const std::vector<std::size_t>& widths, bool styled) {
  std::vector<std::vector<std::string>> lines;
  std::size_t height = 0;
  for (std::size_t c = 0; c < cells.size(); ++c) {
    lines.push_back(wrapped(cells[c], std::max<std::size_t>(2, widths[c]), LongWords::kBreak));
    height = std::max(height, lines.back().size());
  }
  for (std::size_t i = 0; i < height; ++i) {
    std::string line;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string cell = i < lines[c].size() ? lines[c][i] : "";
      const std::string pad(std::max(widths[c], display_width(cell)) - display_width(cell), ' ');
      line += std::string(c == 0 ? kIndent : kGap, ' ') + (table.columns[c].is_number ? pad + cell : cell + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    append_line(out, in_style(styled, line));
  }
}

// A row as a block of lines.
void append_block(std::string& out, const Table& table, const Table::Row& row, std::size_t width, bool styled) {
  std::size_t column = 0;
  for (std::size_t c = 1; c < table.columns.size(); ++c)
    column = std::max(column, display_width(table.columns[c].heading));
  column = std::min(column, width / 3);
  append_wrapped(out, std::string(kIndent, ' '), row.cells[0], width, false);
  for (std::size_t c = 1; c < row.cells.size(); ++c) {
    if (row.cells[c].empty()) continue;
    // A heading that does not fit its column stands above.
    std::string heading = std::string(2 * kIndent, ' ') + in_style(styled, table.columns[c].heading);
    const std::size_t begin = 2 * kIndent + column + kGap, end = display_width(heading);
    if (end + kGap > begin) {
      append_wrapped(out, std::string(2 * kIndent, ' '), table.columns[c].heading, width, styled);
      heading.clear();
    }
    heading.append(begin - display_width(heading), ' ');
    append_wrapped(out, heading, row.cells[c], width, false);
  }
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t columns = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Letter letter = letter_at(text, at);
    columns += letter.columns;
    at += letter.bytes;
  }
  return columns;
}

std::vector<std::string> wrapped(std::string_view text, std::size_t width, LongWords long_words) {
  Lines lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = std::min(text.find_first_not_of(' ', at), text.size());
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    if (lines.columns() > 0 && lines.columns() + (begin - at) + display_width(word) > width) {
      lines.end_line();
    } else if (!word.empty()) {
      for (std::size_t space = at; space < begin; ++space) lines.append(" ", 1);
    }
    for (std::size_t i = 0; i < word.size();) {
      const Letter letter = letter_at(word, i);
      const bool fits = lines.columns() + letter.columns <= width || lines.columns() == 0;
      if (!fits && long_words == LongWords::kBreak) lines.end_line();
      lines.append(word.substr(i, letter.bytes), letter.columns);
      i += letter.bytes;
    }
    at = end;
  }
  return lines.take();
}

std::string layout(const Table& table, std::size_t width, bool styled) {
  const std::vector<std::size_t> widths = fitted(widths_of(table), width);
  std::string out;
  if (!widths.empty()) {
    std::vector<std::string> headings;
    for (const Table::Column& column : table.columns) headings.push_back(column.heading);
    append_row(out, table, headings, widths, styled);
  }
  for (const Table::Row& row : table.rows) {
    if (widths.empty()) {
      append_block(out, table, row, width, styled);
    } else {
      append_row(out, table, row.cells, widths, false);
    }
    if (!row.note.empty()) append_wrapped(out, std::string(2 * kIndent, ' '), row.note, width, styled);
  }
  return out;
}

}  // namespace perilune
