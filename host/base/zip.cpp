// See zip.hpp. Names of fields are those of the format's description (PKWARE, APPNOTE.TXT).
#include "host/base/zip.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune {
namespace {

constexpr std::uint32_t kHeaderSignature = 0x04034b50, kDirectorySignature = 0x02014b50, kEndSignature = 0x06054b50;
constexpr std::size_t kHeaderBytes = 30, kDirectoryBytes = 46, kEndBytes = 22, kFieldBytes = 4;
constexpr std::size_t kMostCommentBytes = 0xFFFF;
constexpr std::uint16_t kStored = 0;
constexpr std::uint16_t kEncrypted = 1 << 0, kSizesFollow = 1 << 3, kUtf8 = 1 << 11, kHidden = 1 << 13;
constexpr std::uint32_t kFirstDay = (1 << 5) | 1;  // 1 January 1980, where the format's days begin

[[noreturn]] void fail(const std::string& source, std::string_view problem) {
  throw Error(formatted("{} is damaged or no zip archive of torch.save: {} - save it again", source, problem));
}

// The little-endian number at a place that is within `bytes`.
template <class Number>
Number number_at(std::span<const std::byte> bytes, std::size_t place) {
  Number number;
  std::memcpy(&number, bytes.subspan(place, sizeof number).data(), sizeof number);
  return number;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What the directory says of an entry.
struct Listed {
  std::string_view name;
  std::uint16_t flags, method;
  std::uint32_t crc, size;
  std::uint32_t header;  // where it is
};

// Where the directory is.
struct Directory {
  std::size_t begin, end, entries;
};

Directory find_directory(std::span<const std::byte> bytes, const std::string& source) {
  if (bytes.size() < kEndBytes) fail(source, formatted("it has {} bytes, too few for an archive", bytes.size()));
  const std::size_t last = bytes.size() - kEndBytes, first = last - std::min(last, kMostCommentBytes);
  for (std::size_t at = last + 1; at-- > first;) {
    if (number_at<std::uint32_t>(bytes, at) != kEndSignature) continue;
    const std::span<const std::byte> end = bytes.subspan(at);
    if (number_at<std::uint16_t>(end, 20) != end.size() - kEndBytes) continue;
    const auto entries = number_at<std::uint16_t>(end, 10);
    const auto size = number_at<std::uint32_t>(end, 12), begin = number_at<std::uint32_t>(end, 16);
    if (number_at<std::uint16_t>(end, 4) != 0 || number_at<std::uint16_t>(end, 6) != 0 ||
        number_at<std::uint16_t>(end, 8) != entries) {
      fail(source, "it is one part of an archive of several");
    }
    if (std::size_t{begin} + size > at) {
      fail(source,
           formatted("its directory should end at byte {}, after its end record at {}", std::size_t{begin} + size, at));
    }
    return {begin, std::size_t{begin} + size, entries};
  }
  fail(source, "it has no end record (is it truncated?)");
}

std::vector<Listed> read_directory(std::span<const std::byte> bytes, const Directory& directory,
                                   const std::string& source) {
  std::vector<Listed> all;
  std::set<std::string_view> names;
  std::size_t at = directory.begin;
  for (std::size_t i = 0; i < directory.entries; ++i) {
    if (directory.end - at < kDirectoryBytes || number_at<std::uint32_t>(bytes, at) != kDirectorySignature) {
      fail(source, formatted("its directory has no entry {} at byte {}", i, at));
    }
    const std::span<const std::byte> entry = bytes.subspan(at, directory.end - at);
    const std::size_t name_bytes = number_at<std::uint16_t>(entry, 28);
    const std::size_t entry_bytes =
        kDirectoryBytes + name_bytes + number_at<std::uint16_t>(entry, 30) + number_at<std::uint16_t>(entry, 32);
    if (entry_bytes > entry.size()) fail(source, formatted("entry {} of its directory goes beyond its end", i));
    const Listed listed = {.name = text_of(entry.subspan(kDirectoryBytes, name_bytes)),
                           .flags = number_at<std::uint16_t>(entry, 8),
                           .method = number_at<std::uint16_t>(entry, 10),
                           .crc = number_at<std::uint32_t>(entry, 16),
                           .size = number_at<std::uint32_t>(entry, 24),
                           .header = number_at<std::uint32_t>(entry, 42)};
    const std::string name = in_quotes(listed.name);
    if ((listed.flags & (kEncrypted | kHidden)) != 0) {
      throw Error(formatted("{}: entry {} is encrypted - allowed: entries as torch.save writes them", source, name));
    }
    if (listed.method != kStored) {
      throw Error(
          formatted("{}: entry {} is compressed (method {}) - allowed: stored entries, as torch.save writes "
                    "them - load it with PyTorch and save it again",
                    source, name, listed.method));
    }
    if (number_at<std::uint32_t>(entry, 20) != listed.size) {
      fail(source, formatted("entry {} is stored in {} bytes and unpacked has {}", name,
                             number_at<std::uint32_t>(entry, 20), listed.size));
    }
    if (!names.insert(listed.name).second) fail(source, formatted("entry {} is there twice", name));
    all.push_back(listed);
    at += entry_bytes;
  }
  if (at != directory.end) fail(source, formatted("its directory has {} bytes too many", directory.end - at));
  return all;
}

// The bytes of an entry, which must lie between its header and the directory.
std::span<const std::byte> data_of(std::span<const std::byte> bytes, const Listed& listed, std::size_t directory,
                                   const std::string& source) {
  const std::string name = in_quotes(listed.name);
  if (listed.header > directory || directory - listed.header < kHeaderBytes ||
      number_at<std::uint32_t>(bytes, listed.header) != kHeaderSignature) {
    fail(source, formatted("entry {} has no header at byte {}", name, listed.header));
  }
  const std::span<const std::byte> header = bytes.subspan(listed.header, directory - listed.header);
  const std::size_t name_bytes = number_at<std::uint16_t>(header, 26);
  const std::size_t begin = kHeaderBytes + name_bytes + number_at<std::uint16_t>(header, 28);
  if (begin > header.size() || listed.size > header.size() - begin) {
    fail(source, formatted("entry {} of {} bytes goes beyond its place", name, listed.size));
  }
  const bool agree = text_of(header.subspan(kHeaderBytes, name_bytes)) == listed.name &&
                     number_at<std::uint16_t>(header, 6) == listed.flags &&
                     number_at<std::uint16_t>(header, 8) == listed.method;
  const bool sizes_agree = number_at<std::uint32_t>(header, 14) == listed.crc &&
                           number_at<std::uint32_t>(header, 18) == listed.size &&
                           number_at<std::uint32_t>(header, 22) == listed.size;
  if (!agree || (!sizes_agree && (listed.flags & kSizesFollow) == 0)) {
    fail(source, formatted("header and directory say different things of entry {}", name));
  }
  return header.subspan(begin, listed.size);
}

void put(std::string& to, std::initializer_list<std::pair<std::size_t, std::uint64_t>> numbers) {
  for (const auto& [bytes, number] : numbers) to.append(reinterpret_cast<const char*>(&number), bytes);
}

// What header and directory have in common, from "version needed" to the length of the name.
void put_entry(std::string& to, const ZipEntry& entry, std::uint32_t crc) {
  constexpr std::uint16_t kVersion = 20;
  const std::size_t size = entry.data.size();
  put(to, {{2, kVersion},
           {2, kUtf8},
           {2, kStored},
           {2, 0},
           {2, kFirstDay},
           {4, crc},
           {4, size},
           {4, size},
           {2, entry.name.size()}});
}

}  // namespace

std::vector<ZipEntry> read_zip(std::span<const std::byte> bytes, const std::string& source) {
  const Directory directory = find_directory(bytes, source);
  const std::vector<Listed> listed = read_directory(bytes, directory, source);
  std::vector<ZipEntry> entries;
  std::vector<std::pair<std::size_t, std::size_t>> places;  // header and end of each, by entry
  for (const Listed& entry : listed) {
    entries.push_back({entry.name, data_of(bytes, entry, directory.begin, source)});
    const auto end = static_cast<std::size_t>(entries.back().data.data() + entry.size - bytes.data());
    places.emplace_back(entry.header, end);
  }
  std::sort(places.begin(), places.end());
  for (std::size_t i = 1; i < places.size(); ++i) {
    if (places[i].first < places[i - 1].second) {
      fail(source,
           formatted("two entries share byte {}, as in an archive that unpacks to more than it is", places[i].first));
    }
  }
  for (std::size_t i = 0; i < listed.size(); ++i) {
    if (crc32(entries[i].data) == listed[i].crc) continue;
    fail(source, formatted("entry {} does not have the CRC-32 that was written of it", in_quotes(listed[i].name)));
  }
  return entries;
}

std::string zip_archive(std::span<const ZipEntry> entries, std::size_t alignment) {
  std::string archive, directory;
  std::size_t total = kEndBytes;
  for (const ZipEntry& entry : entries) {
    total += kHeaderBytes + kDirectoryBytes + 2 * entry.name.size() + kFieldBytes + alignment + entry.data.size();
  }
  if (total > std::numeric_limits<std::uint32_t>::max() || entries.size() >= 0xFFFF) {
    throw Error(
        formatted("a zip archive of {} entries and {} bytes - allowed: under 65535 and 4 GiB", entries.size(), total));
  }
  archive.reserve(total);
  for (const ZipEntry& entry : entries) {
    const std::uint32_t crc = crc32(entry.data);
    const std::size_t header = archive.size();
    put(archive, {{4, kHeaderSignature}});
    put_entry(archive, entry, crc);
    // An extra field that ends where the data are to begin; "FB", as torch.save names its own.
    const std::size_t field = archive.size() + 2 + entry.name.size();
    const std::size_t padding = (alignment - (field + kFieldBytes) % alignment) % alignment;
    put(archive, {{2, kFieldBytes + padding}});
    archive += entry.name;
    archive += "FB";
    put(archive, {{2, padding}});
    archive.append(padding, 'Z');
    archive += text_of(entry.data);

    put(directory, {{4, kDirectorySignature}, {2, 20}});
    put_entry(directory, entry, crc);
    put(directory, {{2, 0}, {2, 0}, {2, 0}, {2, 0}, {4, 0}, {4, header}});
    directory += entry.name;
  }
  const std::size_t begin = archive.size();
  archive += directory;
  put(archive, {{4, kEndSignature},
                {2, 0},
                {2, 0},
                {2, entries.size()},
                {2, entries.size()},
                {4, directory.size()},
                {4, begin},
                {2, 0}});
  return archive;
}

std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before) {
  static constexpr auto kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ ((table[i] & 1) != 0 ? 0xEDB88320u : 0u);
    }
    return table;
  }();
  std::uint32_t crc = ~before;
  for (const std::byte byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<std::uint32_t>(byte)) & 0xFF];
  return ~crc;
}

}  // namespace perilune
