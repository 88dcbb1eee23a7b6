// Archives come back as they were made, and of those that are damaged or made to hurt each is an error. Python's
// zipfile reads and makes them in tests/tools/state_dictionary_test.py.
#include "host/base/zip.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include <rapidcheck.h>

#include "host/base/error.hpp"

namespace perilune {
namespace {

using testing::HasSubstr;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

using Contents = std::vector<std::pair<std::string, std::string>>;

Contents read(std::string_view archive) {
  Contents contents;
  for (const ZipEntry& entry : read_zip(bytes_of(archive), "x.zip")) {
    contents.emplace_back(entry.name, text_of(entry.data));
  }
  return contents;
}

std::string archive_of(const Contents& contents, std::size_t alignment = 64) {
  std::vector<ZipEntry> entries;
  for (const auto& [name, data] : contents) entries.push_back({name, bytes_of(data)});
  return zip_archive(entries, alignment);
}

std::string error_of(std::string_view archive) {
  try {
    read(archive);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("x.zip"));
    EXPECT_THAT(error.what(), HasSubstr(" - "));
    return error.what();
  }
  return "no error";
}

const Contents kTwo = {{"f/one", "first"}, {"f/two", "the second"}};

// An archive of two entries and what its bytes are.
struct TwoEntries {
  std::string bytes = archive_of(kTwo);
  std::size_t header = 0, second_header = bytes.find("PK\3\4", 1);
  std::size_t directory = bytes.find("PK\1\2"), second = bytes.find("PK\1\2", directory + 1);
  std::size_t end = bytes.find("PK\5\6");

  // With a number of some bytes in another place's stead.
  std::string with(std::size_t place, std::uint64_t number, std::size_t size) const {
    std::string changed = bytes;
    std::memcpy(changed.data() + place, &number, size);
    return changed;
  }
};

TEST(Zip, ChecksumIsTheStandards) {
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xCBF43926u);  // the check value of CRC-32/ISO-HDLC
  EXPECT_EQ(crc32(bytes_of("")), 0u);
  EXPECT_EQ(crc32(bytes_of("6789"), crc32(bytes_of("12345"))), crc32(bytes_of("123456789")));
}

TEST(Zip, ArbitraryEntriesRoundTripAligned) {
  EXPECT_TRUE(rc::check("archive, read", [] {
    const auto names = *rc::gen::unique<std::vector<std::string>>(rc::gen::nonEmpty<std::string>());
    Contents contents;
    for (const std::string& name : names) contents.emplace_back(name, *rc::gen::arbitrary<std::string>());
    const std::string archive = archive_of(contents);
    RC_ASSERT(read(archive) == contents);
    for (const ZipEntry& entry : read_zip(bytes_of(archive), "x")) {
      RC_ASSERT((reinterpret_cast<const char*>(entry.data.data()) - archive.data()) % 64 == 0);
    }
  }));
}

TEST(Zip, ACommentMayFollow) {
  const TwoEntries two;
  EXPECT_EQ(read(two.with(two.end + 20, 5, 2) + "hello"), kTwo);
  EXPECT_EQ(read(two.with(two.end + 20, 0xFFFF, 2) + std::string(0xFFFF, '.')), kTwo);
  EXPECT_THAT(error_of(two.bytes + "hello"), HasSubstr("no end record"));
}

TEST(Zip, EveryTruncationIsAnError) {
  const TwoEntries two;
  for (std::size_t size = 0; size < two.bytes.size(); ++size) {
    EXPECT_NE(error_of(two.bytes.substr(0, size)), "no error") << size;
  }
}

TEST(Zip, EveryDamagedByteIsAnErrorOrWithoutEffect) {
  const TwoEntries two;
  std::mt19937 random(7);
  for (std::size_t place = 0; place < two.bytes.size(); ++place) {
    const auto flipped = static_cast<std::uint8_t>(two.bytes[place]) ^ (1u << random() % 8);
    try {
      EXPECT_EQ(read(two.with(place, flipped, 1)), kTwo) << place;
    } catch (const Error&) {
    }
  }
}

TEST(Zip, WhatIsNotStored) {
  const TwoEntries two;
  EXPECT_THAT(error_of(two.with(two.second + 10, 8, 2)),
              HasSubstr("'f/two' is compressed (method 8) - allowed: stored"));
  EXPECT_THAT(error_of(two.with(two.directory + 8, 1, 2)), HasSubstr("'f/one' is encrypted"));
}

TEST(Zip, MoreThanIsThere) {
  const TwoEntries two;
  const auto sized = [&](std::uint64_t size) {  // the second entry, by header and directory alike
    TwoEntries changed = two;
    for (const std::size_t place : {two.second_header + 18, two.second_header + 22, two.second + 20, two.second + 24}) {
      changed.bytes = changed.with(place, size, 4);
    }
    return changed.bytes;
  };
  EXPECT_THAT(error_of(sized(0xFFFFFFFF)), HasSubstr("'f/two' of 4294967295 bytes goes beyond its place"));
  EXPECT_THAT(error_of(sized(11)), HasSubstr("'f/two' of 11 bytes goes beyond its place"));
  EXPECT_THAT(error_of(sized(9)), HasSubstr("'f/two' does not have the CRC-32"));
  EXPECT_THAT(error_of(two.with(two.second + 24, 100000, 4)), HasSubstr("stored in 10 bytes and unpacked has 100000"));
  EXPECT_THAT(error_of(two.with(two.second_header + 18, 100000, 4)), HasSubstr("different things of entry 'f/two'"));
  EXPECT_THAT(error_of(two.with(two.second_header + 30, 'g', 1)), HasSubstr("different things of entry 'f/two'"));
  EXPECT_THAT(error_of(two.with(two.second + 42, 0xFFFFFFFF, 4)),
              HasSubstr("'f/two' has no header at byte 4294967295"));
  EXPECT_THAT(error_of(two.with(two.second + 28, 0xFFFF, 2)), HasSubstr("entry 1 of its directory goes beyond"));
}

TEST(Zip, EntriesThatShareBytes) {
  // The first entry again under the second's name would be one that lies twice in the file.
  Contents once = {{"a", std::string(50, 'x')}};
  const std::string archive = archive_of(once);
  const std::size_t directory = archive.find("PK\1\2"), end = archive.find("PK\5\6");
  std::string bomb = archive.substr(0, end) + archive.substr(directory);
  const std::size_t new_end = bomb.find("PK\5\6");
  const std::uint16_t count = 2;
  const auto size = static_cast<std::uint32_t>(2 * (end - directory));
  std::memcpy(bomb.data() + new_end + 8, &count, 2);
  std::memcpy(bomb.data() + new_end + 10, &count, 2);
  std::memcpy(bomb.data() + new_end + 12, &size, 4);
  EXPECT_THAT(error_of(bomb), HasSubstr("'a' is there twice"));

  // Two names, one inside the other's data.
  const std::string inner = archive_of({{"b", "y"}});
  const std::size_t inner_directory = inner.find("PK\1\2");
  const std::string outer = archive_of({{"a", inner.substr(0, inner_directory)}}, 1);
  const std::size_t outer_directory = outer.rfind("PK\1\2"), outer_end = outer.rfind("PK\5\6");
  std::string listed = inner.substr(inner_directory, inner.find("PK\5\6") - inner_directory);
  const auto place = static_cast<std::uint32_t>(outer.find("PK\3\4", 1));
  std::memcpy(listed.data() + 42, &place, 4);
  bomb = outer.substr(0, outer_end) + listed + outer.substr(outer_end);
  const std::size_t last = bomb.rfind("PK\5\6");
  const auto both = static_cast<std::uint32_t>(last - outer_directory);
  std::memcpy(bomb.data() + last + 8, &count, 2);
  std::memcpy(bomb.data() + last + 10, &count, 2);
  std::memcpy(bomb.data() + last + 12, &both, 4);
  EXPECT_THAT(error_of(bomb), HasSubstr("two entries share byte"));
}

TEST(Zip, EndRecords) {
  const TwoEntries two;
  EXPECT_THAT(error_of(two.with(two.end + 4, 1, 2)), HasSubstr("one part of an archive of several"));
  EXPECT_THAT(error_of(two.with(two.end + 16, 0xFFFFFFFF, 4)), HasSubstr("after its end record"));
  EXPECT_THAT(error_of(two.with(two.end + 12, two.bytes.size(), 4)), HasSubstr("after its end record"));
  EXPECT_THAT(error_of(two.with(two.end + 8, 0x00030003, 4)), HasSubstr("no entry 2 at byte"));
  EXPECT_THAT(error_of(two.with(two.end + 8, 0x00010001, 4)), HasSubstr("its directory has 51 bytes too many"));
  EXPECT_THAT(error_of(std::string("PK\5\6") + std::string(18, '\0')), "no error");  // an archive of nothing
  EXPECT_THAT(error_of("no archive at all, but long enough to be one"), HasSubstr("no end record"));
}

}  // namespace
}  // namespace perilune
