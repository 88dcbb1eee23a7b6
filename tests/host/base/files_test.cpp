// Replacing files atomically, and what a full disk does to them.
#include "host/base/files.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <array>
#include <csignal>
#include <string>

#include "host/base/error.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using test::read_text;
using testing::HasSubstr;

constexpr std::size_t kLargeBytes = 1 << 20;

std::size_t entries_in(const std::filesystem::path& directory) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

void replace_keeping_previous(const test::TemporaryDirectory& directory, const std::string& text) {
  const std::array pieces = {std::as_bytes(std::span(text))};
  replace_file(directory / "file", pieces, directory / "previous");
}

TEST(Files, ReplacesAndKeepsThePreviousOne) {
  const test::TemporaryDirectory directory;
  replace_keeping_previous(directory, "one");
  EXPECT_FALSE(std::filesystem::exists(directory / "previous"));
  replace_keeping_previous(directory, "two");
  replace_keeping_previous(directory, "three");
  EXPECT_EQ(read_text(directory / "file"), "three");
  EXPECT_EQ(read_text(directory / "previous"), "two");
  EXPECT_EQ(entries_in(directory.path()), 2u);  // no temporary is left
}

TEST(Files, GoesOnWhereAKillBetweenTheRenamesLeftOnlyThePreviousOne) {
  const test::TemporaryDirectory directory;
  test::write_text(directory / "previous", "one");
  test::write_text(directory / "file.tmp.123", "half");
  remove_stale_temporaries(directory.path());
  replace_keeping_previous(directory, "two");
  EXPECT_EQ(read_text(directory / "file"), "two");
  EXPECT_EQ(read_text(directory / "previous"), "one");
  EXPECT_EQ(entries_in(directory.path()), 2u);
}

TEST(Files, FullDeviceIsAnError) {
  File full("/dev/full", O_WRONLY, "open");
  try {
    full.write("text");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("cannot write /dev/full: No space left on device - free some space"));
  }
}

TEST(Files, FileSizeLimitLeavesTheOldFiles) {
  const test::TemporaryDirectory directory;
  replace_keeping_previous(directory, "one");
  replace_keeping_previous(directory, "two");
  const std::string message = test::in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {kLargeBytes / 2, kLargeBytes / 2};
    setrlimit(RLIMIT_FSIZE, &limit);
    replace_keeping_previous(directory, std::string(kLargeBytes, 'x'));
    return std::string("no error");
  });
  EXPECT_THAT(message, HasSubstr("File too large - free some space"));
  EXPECT_EQ(read_text(directory / "file"), "two");
  EXPECT_EQ(read_text(directory / "previous"), "one");
  EXPECT_EQ(entries_in(directory.path()), 2u);
}

TEST(Files, FullDiskLeavesTheOldFiles) {
  const test::TemporaryDirectory directory;
  const std::string result = test::in_child([&] {
    // A small disk of the child's own, gone with it.
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
      return std::string("skip");
    }
    replace_keeping_previous(directory, "one");
    replace_keeping_previous(directory, "two");
    std::string message = "no error";
    try {
      replace_keeping_previous(directory, std::string(kLargeBytes, 'x'));
    } catch (const Error& error) {
      message = error.what();
    }
    return message + "|" + read_text(directory / "file") + "|" + read_text(directory / "previous") + "|" +
           std::to_string(entries_in(directory.path()));
  });
  if (result == "skip") GTEST_SKIP() << "cannot mount a file system here";
  EXPECT_THAT(result, HasSubstr("No space left on device - free some space"));
  EXPECT_THAT(result, testing::EndsWith("|two|one|2"));
}

TEST(Files, MissingDirectoryIsAnError) {
  const test::TemporaryDirectory directory;
  EXPECT_THROW(replace_file(directory / "missing/file", "text"), Error);
}

}  // namespace
}  // namespace perilune
