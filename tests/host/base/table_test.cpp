// Tables of odd sizes at every width, read back by letters that each belong to one cell.
#include "host/base/table.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <locale.h>
#include <wchar.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

namespace perilune {
namespace {

using testing::ElementsAre;

std::string utf8(char32_t letter) {
  if (letter < 0x80) return {static_cast<char>(letter)};
  if (letter < 0x800) return {static_cast<char>(0xC0 | letter >> 6), static_cast<char>(0x80 | (letter & 0x3F))};
  return {static_cast<char>(0xE0 | letter >> 12), static_cast<char>(0x80 | (letter >> 6 & 0x3F)),
          static_cast<char>(0x80 | (letter & 0x3F))};
}

constexpr int kMaxColumns = 7, kMaxRows = 5;
constexpr int kNote = kMaxColumns;  // a row's note is a cell, too
constexpr int kCells = (kMaxColumns + 1) * (kMaxRows + 1);
constexpr char32_t kAccent = 0x301;

// Row 0 has the headings. A cell's letters are one Latin (its own number from U+0100), one Chinese and one Hangul.
struct Letter {
  int row = 0, column = 0;
  char32_t code = 0;
  std::size_t width() const { return code == kAccent ? 0 : code < 0x1000 ? 1 : 2; }
};

struct Placed {
  Letter letter;
  std::size_t line, begin;
};

// Every letter of the text with its place. Styles must be off where a line ends.
std::vector<Placed> placed_letters(const std::string& text, std::size_t& widest) {
  std::vector<Placed> letters;
  std::size_t line = 0, column = 0;
  bool styled = false;
  widest = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0x1B) {
      styled = text.compare(i, 4, "\x1b[0m") != 0;
      i = text.find('m', i) + 1;
    } else if (byte == '\n') {
      EXPECT_FALSE(styled) << text;
      ++line, ++i;
      column = 0;
    } else if (byte < 0x80) {
      EXPECT_EQ(byte, ' ') << text;
      ++column, ++i;
    } else {
      const std::size_t bytes = byte < 0xE0 ? 2 : 3;
      char32_t code = bytes == 2 ? byte & 0x1F : byte & 0xF;
      for (std::size_t k = 1; k < bytes; ++k) code = code << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3F);
      const char32_t first = code < 0x1000 ? 0x100 : code < 0xA000 ? 0x4E00 : 0xAC00;
      Letter letter{0, 0, code};
      const int cell = code == kAccent ? letters.back().letter.row * (kMaxColumns + 1) + letters.back().letter.column
                                       : static_cast<int>(code - first);
      letter.row = cell / (kMaxColumns + 1);
      letter.column = cell % (kMaxColumns + 1);
      letters.push_back({letter, line, column});
      column += letter.width();
      i += bytes;
    }
    widest = std::max(widest, column);
  }
  return letters;
}

class Tables {
 public:
  explicit Tables(unsigned seed) : random_(seed) {}
  int number(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  std::u32string word(int row, int column, int longest) {
    const auto cell = static_cast<char32_t>(row * (kMaxColumns + 1) + column);
    std::u32string letters;
    for (int i = number(1, longest); i > 0; --i) {
      letters += (number(0, 3) > 0 ? U'\u0100' : number(0, 1) > 0 ? U'\u4E00' : U'\uAC00') + cell;
      if (number(0, 9) == 0) letters += kAccent;
    }
    return letters;
  }

  // A cell, whose words are kept in `words`.
  std::string cell(int row, int column, int least, int most, int longest) {
    std::string text;
    for (int i = number(least, most); i > 0; --i) {
      words[{row, column}].push_back(word(row, column, longest));
      if (!text.empty()) text += ' ';
      for (char32_t letter : words[{row, column}].back()) text += utf8(letter);
    }
    return !text.empty() && number(0, 4) == 0 ? "\x1b[1m\x1b[31m" + text + "\x1b[0m" : text;
  }

  Table table() {
    Table table;
    const int most = number(1, 12), columns = number(1, kMaxColumns);
    std::vector<int> longest;
    for (int c = 0; c < columns; ++c) {
      longest.push_back(number(1, number(0, 9) == 0 ? 60 : 8));
      table.columns.push_back({cell(0, c, 1, 2, 7), number(0, 2) == 0});
    }
    for (int row = number(1, kMaxRows), r = 1; r <= row; ++r) {
      table.rows.emplace_back();
      for (int c = 0; c < columns; ++c)
        table.rows.back().cells.push_back(cell(r, c, c == 0 ? 1 : 0, most, longest[static_cast<std::size_t>(c)]));
      if (number(0, 1) == 0) table.rows.back().note = cell(r, kNote, 1, 20, 9);
    }
    return table;
  }

  std::map<std::pair<int, int>, std::vector<std::u32string>> words;

 private:
  std::mt19937 random_;
};

std::size_t width_of(const std::u32string& word) {
  std::size_t width = 0;
  for (char32_t code : word) width += Letter{0, 0, code}.width();
  return width;
}

void check(const Table& table, Tables& made, std::size_t width, bool styled, bool& side_by_side) {
  const std::string text = layout(table, width, styled);
  std::size_t widest = 0;
  const std::vector<Placed> letters = placed_letters(text, widest);
  EXPECT_LE(widest, width) << text;
  side_by_side = letters.front().letter.row == 0;
  // Of each column: where its lines begin and end, and how wide the widest is.
  std::map<int, std::size_t> begins, ends, widths;
  std::map<std::pair<int, int>, std::vector<const Placed*>> cells;
  int row = 0;
  for (const Placed& placed : letters) {
    if (placed.letter.row == 0 && !side_by_side) continue;  // headings stand in every row's block
    EXPECT_GE(placed.letter.row, row) << "a letter of an earlier row\n" << text;
    row = placed.letter.row;
    cells[{row, placed.letter.column}].push_back(&placed);
  }
  for (const auto& [at, found] : cells) {
    for (std::size_t i = 0; i < found.size();) {
      std::size_t last = i;
      while (last + 1 < found.size() && found[last + 1]->line == found[i]->line) ++last;
      const std::size_t begin = found[i]->begin, end = found[last]->begin + found[last]->letter.width();
      const bool is_number = at.second != kNote && table.columns[static_cast<std::size_t>(at.second)].is_number;
      if (!begins.contains(at.second)) begins[at.second] = begin, ends[at.second] = end;
      if (is_number && side_by_side) {
        EXPECT_EQ(ends[at.second], end) << text;
      } else {
        EXPECT_EQ(begins[at.second], begin) << text;
      }
      begins[at.second] = std::min(begins[at.second], begin);
      ends[at.second] = std::max(ends[at.second], end);
      widths[at.second] = std::max(widths[at.second], end - begin);
      i = last + 1;
    }
  }
  for (int c = 1; side_by_side && c < static_cast<int>(table.columns.size()); ++c) {
    EXPECT_GE(begins[c], ends[c - 1] + 2) << "columns " << c - 1 << " and " << c << "\n" << text;
  }
  for (const auto& [at, words] : made.words) {
    if (at.first == 0 && !side_by_side) continue;
    const std::vector<const Placed*>& found = cells[at];
    std::size_t i = 0;
    for (const std::u32string& word : words) {
      for (std::size_t k = 0; k < word.size(); ++k, ++i) {
        ASSERT_LT(i, found.size()) << "a letter is missing\n" << text;
        EXPECT_EQ(found[i]->letter.code, word[k]) << text;
        if (k == 0) {
          EXPECT_TRUE(i == 0 || found[i]->line > found[i - 1]->line ||
                      found[i]->begin > found[i - 1]->begin + found[i - 1]->letter.width())
              << "words touch\n"
              << text;
        } else if (found[i]->line != found[i - 1]->line) {
          EXPECT_GT(width_of(word), widths[at.second]) << "a word is broken that would have fitted\n" << text;
        } else {
          EXPECT_EQ(found[i]->begin, found[i - 1]->begin + found[i - 1]->letter.width()) << text;
        }
      }
    }
    EXPECT_EQ(i, found.size()) << "a letter too many\n" << text;
  }
}

TEST(Table, EveryCellCanBeReadAtEveryWidth) {
  static_assert(kCells < 0x100);
  int beside = 0, blocks = 0;
  for (unsigned seed = 1; seed <= 600 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Tables tables(seed);
    const Table table = tables.table();
    for (const int width : {40, tables.number(41, 100), tables.number(101, 200)}) {
      bool side_by_side = false;
      check(table, tables, static_cast<std::size_t>(width), seed % 2 == 0, side_by_side);
      ++(side_by_side ? beside : blocks);
    }
  }
  EXPECT_GT(beside, 200);
  EXPECT_GT(blocks, 200);
}

TEST(Table, WidthsAreTheCLibrarys) {
  const locale_t utf = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  ASSERT_NE(utf, nullptr);
  const locale_t before = uselocale(utf);
  for (char32_t letter :
       U"az\u00e9\u00b1\u0301\u03c0\u0436\u2192\u2501\u2014\u200b\u3042\u30a2\u4e2d\u9fa5\uac00\ud7a3\uff21\uff5e\u3000"
       U"\u20ac\ufe0f") {
    if (letter == 0) break;
    EXPECT_EQ(display_width(utf8(letter)), static_cast<std::size_t>(wcwidth(static_cast<wchar_t>(letter))))
        << std::hex << static_cast<std::uint32_t>(letter);
  }
  uselocale(before);
  freelocale(utf);
  EXPECT_EQ(display_width("\xF0\x9F\x98\x80"), 2u);  // an emoji
  EXPECT_EQ(display_width("\x1b[1;31mab\x1b[0m"), 2u);
  EXPECT_EQ(display_width("\xFF\xC3("), 3u);  // no UTF-8
  EXPECT_EQ(display_width("\xE4\xB8"), 2u);
}

TEST(Table, WrapsAtSpaces) {
  EXPECT_THAT(wrapped("", 5, LongWords::kBreak), ElementsAre(""));
  EXPECT_THAT(wrapped("one two three", 7, LongWords::kBreak), ElementsAre("one two", "three"));
  EXPECT_THAT(wrapped("  one two ", 5, LongWords::kBreak), ElementsAre("  one", "two"));
  EXPECT_THAT(wrapped("a  b", 4, LongWords::kBreak), ElementsAre("a  b"));
  EXPECT_THAT(wrapped("a /long/path b", 6, LongWords::kKeep), ElementsAre("a", "/long/path", "b"));
  EXPECT_THAT(wrapped("a abcdefgh", 3, LongWords::kBreak), ElementsAre("a", "abc", "def", "gh"));
  EXPECT_THAT(wrapped("\x1b[1mone two\x1b[0m", 3, LongWords::kBreak),
              ElementsAre("\x1b[1mone\x1b[0m", "\x1b[1mtwo\x1b[0m"));
}

}  // namespace
}  // namespace perilune
