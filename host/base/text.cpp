// See text.hpp.
#include "host/base/text.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <numeric>
#include <vector>

#include "host/base/format.hpp"

namespace perilune {
namespace {

char lower(char letter) { return static_cast<char>(std::tolower(static_cast<unsigned char>(letter))); }

// Levenshtein distance, one row of the table at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substitution = diagonal + (lower(a[i]) == lower(b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substitution, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

std::size_t common_beginning(std::string_view a, std::string_view b) {
  const auto differ =
      std::mismatch(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
  return static_cast<std::size_t>(differ.first - a.begin());
}

// Without the underscores that stand between digits; nothing if one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  const auto is_digit = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) {
      return std::nullopt;
    }
  }
  return out;
}

template <class T>
std::optional<T> read_whole(std::string_view text) {
  const std::optional<std::string> plain = without_underscores(text);
  if (!plain) return std::nullopt;
  const char* begin = plain->data();
  const char* const end = begin + plain->size();
  if (plain->size() > 1 && begin[0] == '+' && begin[1] != '-') ++begin;
  T value{};
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

}  // namespace

std::optional<double> read_number(std::string_view text) { return read_whole<double>(text); }

std::optional<std::int64_t> read_integer(std::string_view text) { return read_whole<std::int64_t>(text); }

std::string shortest_text(double value) {
  std::array<char, 40> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates) {
  // Long input cannot be near anything; cutting it bounds the work.
  text = text.substr(0, 64);
  std::string_view best = candidates.front();
  std::size_t best_distance = edit_distance(text, best);
  for (std::string_view candidate : candidates.subspan(1)) {
    const std::size_t distance = edit_distance(text, candidate);
    if (distance < best_distance ||
        (distance == best_distance && common_beginning(text, candidate) > common_beginning(text, best))) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string joined(std::span<const std::string_view> words, std::string_view between) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += between;
    text += words[i];
  }
  return text;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 60;
  std::string out = "'";
  for (char letter : text.substr(0, kShown)) {
    if (std::iscntrl(static_cast<unsigned char>(letter))) {
      out += formatted("\\x{:02x}", static_cast<unsigned char>(letter));
    } else {
      out += letter;
    }
  }
  out += text.size() > kShown ? "...'" : "'";
  return out;
}

}  // namespace perilune
