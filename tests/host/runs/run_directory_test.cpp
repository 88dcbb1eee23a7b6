// Making, locking and resuming run directories.
#include "host/runs/run_directory.hpp"

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <string>

#include "host/base/error.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(RunDirectory, DefaultNameTellsTheRunAndNeverCollides) {
  const test::TemporaryDirectory root;
  Config config;
  config.seed = 7;
  const RunDirectory first = RunDirectory::create(config, {}, root / "runs");
  const RunDirectory second = RunDirectory::create(config, {}, root / "runs");
  const RunDirectory third = RunDirectory::create(config, {}, root / "runs");
  EXPECT_THAT(first.path().filename().string(), testing::StartsWith("CartPole-v1__custom__7__"));
  EXPECT_NE(first.path(), second.path());
  EXPECT_NE(second.path(), third.path());
  for (const RunDirectory* run : {&first, &second, &third}) {
    Config written = read_run_config(run->path());
    written.env_parameters.clear();
    EXPECT_EQ(written, config);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(root / "runs"), {}),
            3);  // nothing temporary is left
}

TEST(RunDirectory, TakesANewOrEmptyDirectoryButNoOther) {
  const test::TemporaryDirectory root;
  const Config config;
  { const RunDirectory run = RunDirectory::create(config, root / "a/b/run/"); }
  EXPECT_TRUE(is_run_directory(root / "a/b/run"));
  fs::create_directory(root / "empty");
  { const RunDirectory run = RunDirectory::create(config, root / "empty"); }
  EXPECT_TRUE(is_run_directory(root / "empty"));

  EXPECT_THAT(error_of([&] { RunDirectory::create(config, root / "empty"); }),
              AllOf(HasSubstr("already holds a run"), HasSubstr("--resume")));
  fs::create_directory(root / "other");
  test::write_text(root / "other/file", "text");
  EXPECT_THAT(error_of([&] { RunDirectory::create(config, root / "other"); }), HasSubstr("is not empty"));
  EXPECT_THAT(error_of([&] { RunDirectory::create(config, root / "other/file"); }), HasSubstr("Not a directory"));
  EXPECT_THAT(error_of([&] { RunDirectory::create(config, root / "other/file/run"); }),
              HasSubstr("cannot make run directory"));
  EXPECT_EQ(test::read_text(root / "other/file"), "text");
}

TEST(RunDirectory, InUseNamesTheProcess) {
  const test::TemporaryDirectory root;
  {
    const RunDirectory run = RunDirectory::create(Config(), root / "run");
    EXPECT_THAT(error_of([&] { RunDirectory::resume(root / "run"); }),
                AllOf(HasSubstr("is in use by process " + std::to_string(getpid())), HasSubstr("--run-dir")));
    EXPECT_THAT(test::in_child([&] { return error_of([&] { RunDirectory::resume(root / "run"); }); }),
                HasSubstr("is in use by process"));
  }
  EXPECT_EQ(error_of([&] { RunDirectory::resume(root / "run"); }), "no error");
}

TEST(RunDirectory, NotWritable) {
  const test::TemporaryDirectory root;
  { const RunDirectory run = RunDirectory::create(Config(), root / "run"); }
  fs::permissions(root.path(),
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  const auto as_user = [&](const std::function<void()>& action) {
    return test::in_child([&] {
      constexpr uid_t kNobody = 65534;
      if (getuid() == 0 && (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0))
        return std::string("cannot change user");
      return error_of(action);
    });
  };
  EXPECT_THAT(as_user([&] { RunDirectory::create(Config(), root / "new"); }),
              AllOf(HasSubstr("Permission denied"), HasSubstr("use --run-dir")));
  fs::permissions(root / "run",
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  fs::permissions(root / "run/.lock", fs::perms::owner_read);
  EXPECT_THAT(as_user([&] { RunDirectory::resume(root / "run"); }),
              AllOf(HasSubstr("cannot write to run directory"), HasSubstr("Permission denied")));
  fs::permissions(root.path(), fs::perms::owner_all);
  fs::permissions(root / "run", fs::perms::owner_all);
}

TEST(RunDirectory, ResumeFindsCheckpointsAndClearsTemporaries) {
  const test::TemporaryDirectory root;
  const fs::path path = root / "run";
  { const RunDirectory run = RunDirectory::create(Config(), path); }
  test::write_text(path / "checkpoint.safetensors.tmp.99999", "half");
  const RunDirectory run = RunDirectory::resume(path);
  EXPECT_FALSE(fs::exists(path / "checkpoint.safetensors.tmp.99999"));
  EXPECT_TRUE(existing_checkpoints(path).empty());
  test::write_text(previous_checkpoint_path(path), "1");
  EXPECT_THAT(existing_checkpoints(path), ElementsAre(previous_checkpoint_path(path)));
  test::write_text(checkpoint_path(path), "2");
  EXPECT_THAT(existing_checkpoints(path), ElementsAre(checkpoint_path(path), previous_checkpoint_path(path)));
}

TEST(RunDirectory, ResumeOfSomethingElse) {
  const test::TemporaryDirectory root;
  EXPECT_THAT(error_of([&] { RunDirectory::resume(root / "missing"); }), HasSubstr("is not a run directory"));
  EXPECT_THAT(error_of([&] { RunDirectory::resume(root.path()); }), HasSubstr("has no config.toml"));
  test::write_text(root / "config.toml", "gamma = 5");
  EXPECT_THAT(error_of([&] { RunDirectory::resume(root.path()); }), HasSubstr("config.toml:1: gamma"));
}

}  // namespace
}  // namespace perilune
