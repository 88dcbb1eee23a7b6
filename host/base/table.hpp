// Tables as text: columns that fit a width, cells that wrap. Widths are columns of a terminal: an escape code has none,
// an East Asian letter two, a combining mark none.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace perilune {

// Columns that `text` (UTF-8, one line) takes on a terminal.
std::size_t display_width(std::string_view text);

enum class LongWords { kBreak, kKeep };

// The lines of `text` in `width` columns (at least 2), broken at spaces; a word that is longer than a line is broken or
// stands out. Spaces at the beginning stay. A style that is on where a line ends goes on in the next.
std::vector<std::string> wrapped(std::string_view text, std::size_t width, LongWords long_words);

struct Table {
  struct Column {
    std::string heading;
    bool is_number = false;  // to the right
  };
  struct Row {
    std::vector<std::string> cells;  // one per column
    std::string note = {};           // below them, indented
  };
  std::vector<Column> columns;
  std::vector<Row> rows;
};

// The table in lines of at most `width` columns (at least 40), two spaces apart, after an indent of two. Where not even
// the columns' longest words fit side by side, each row is a block: its first cell, and below it a line per heading.
// `styled`: headings and notes are dim.
std::string layout(const Table& table, std::size_t width, bool styled);

}  // namespace perilune
