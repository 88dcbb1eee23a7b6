// See run_directory.hpp.
#include "host/runs/run_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string>

#include "host/base/error.hpp"
#include "host/base/format.hpp"

namespace perilune {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLockName = ".lock";

// The process that wrote its number into the lock file, as text.
std::string lock_holder(const File& lock) {
  std::array<char, 16> text{};
  const ssize_t count = ::pread(lock.descriptor(), text.data(), text.size() - 1, 0);
  return count > 0 ? "process " + std::string(text.data(), static_cast<std::size_t>(count)) : "another process";
}

// `run` is the name for messages: a new run is locked while it still has a temporary one.
File lock_directory(const fs::path& directory, const fs::path& run) {
  File lock(directory / kLockName, O_RDWR | O_CREAT, "write to run directory, lock");
  if (::flock(lock.descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) fail_io("lock", lock.path(), errno);
    throw Error(formatted("run directory {} is in use by {} - wait for it to end, stop it, or use another --run-dir",
                          run.string(), lock_holder(lock)));
  }
  if (::ftruncate(lock.descriptor(), 0) != 0) fail_io("write", lock.path(), errno);
  lock.write(std::to_string(::getpid()));
  return lock;
}

std::string run_name(const Config& config) {
  return formatted("{}__{}__{}__{}", config.env_id, config.name, config.seed, std::time(nullptr));
}

// A directory beside the run directory to be, removed again unless it was renamed.
class StagingDirectory {
 public:
  explicit StagingDirectory(const fs::path& target)
      : path_(target.parent_path() / formatted(".{}.tmp.{}", target.filename().string(), ::getpid())) {
    std::error_code error;
    fs::create_directories(path_.parent_path().empty() ? "." : path_.parent_path(), error);
    if (error) fail_io("make run directory", target, error.value());
    fs::remove_all(path_, error);
    if (!fs::create_directory(path_, error)) fail_io("make run directory", target, error.value());
  }
  StagingDirectory(const StagingDirectory&) = delete;
  StagingDirectory& operator=(const StagingDirectory&) = delete;
  ~StagingDirectory() {
    std::error_code ignored;
    if (!renamed_) fs::remove_all(path_, ignored);
  }

  const fs::path& path() const { return path_; }

  // False if `target` exists and is not empty; a run directory never is.
  bool rename_to(const fs::path& target) {
    if (std::rename(path_.c_str(), target.c_str()) != 0) {
      if (errno == ENOTEMPTY || errno == EEXIST) return false;
      fail_io("make run directory", target, errno);
    }
    renamed_ = true;
    sync_directory(target.parent_path());
    return true;
  }

 private:
  fs::path path_;
  bool renamed_ = false;
};

[[noreturn]] void fail_occupied(const fs::path& path) {
  if (is_run_directory(path)) {
    throw Error(
        formatted("run directory {} already holds a run - go on with it by --resume {}, or use another "
                  "--run-dir",
                  path.string(), path.string()));
  }
  throw Error(
      formatted("run directory {} exists and is not empty, though it holds no run - use a new or empty "
                "--run-dir",
                path.string()));
}

// "runs/x/" and "." have an empty last component; names are taken from the path without it.
fs::path normal(const fs::path& path) {
  fs::path result = fs::absolute(path).lexically_normal();
  return result.has_filename() ? result : result.parent_path();
}

}  // namespace

RunDirectory RunDirectory::create(const Config& config, const std::optional<fs::path>& path, const fs::path& root,
                                  const std::function<void(const fs::path&)>& fill) {
  const fs::path first = path ? *path : root / run_name(config);
  if (path && is_run_directory(*path)) fail_occupied(*path);
  StagingDirectory staging(normal(first));
  File lock = lock_directory(staging.path(), first);
  write_run_config(staging.path(), config);
  if (fill) fill(staging.path());
  fs::path target = first;
  for (int suffix = 2; !staging.rename_to(normal(target)); ++suffix) {
    if (path) fail_occupied(*path);
    target = formatted("{}-{}", first.string(), suffix);
  }
  return {std::move(target), std::move(lock)};
}

RunDirectory RunDirectory::resume(const fs::path& path) {
  read_run_config(path);  // throws if it is no run directory
  File lock = lock_directory(path, path);
  remove_stale_temporaries(path);
  return {path, std::move(lock)};
}

fs::path config_path(const fs::path& run) { return run / "config.toml"; }
fs::path checkpoint_path(const fs::path& run) { return run / "checkpoint.safetensors"; }
fs::path previous_checkpoint_path(const fs::path& run) { return run / "checkpoint.previous.safetensors"; }
fs::path policy_path(const fs::path& run) { return run / "policy.safetensors"; }

fs::path best_policy_path(const fs::path& run) { return run / "best.safetensors"; }

bool is_run_directory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(config_path(path), ignored);
}

void write_run_config(const fs::path& run, const Config& config) { replace_file(config_path(run), to_toml(config)); }

Config read_run_config(const fs::path& run) {
  if (!is_run_directory(run)) {
    throw UsageError(
        formatted("{} is not a run directory: it has no config.toml - give a directory that "
                  "`perilune train` made",
                  run.string()));
  }
  Config config;
  apply_toml_file(config, config_path(run));
  return config;
}

std::vector<fs::path> existing_checkpoints(const fs::path& run) {
  std::vector<fs::path> found;
  for (const fs::path& path : {checkpoint_path(run), previous_checkpoint_path(run)}) {
    std::error_code ignored;
    if (fs::exists(path, ignored)) found.push_back(path);
  }
  return found;
}

}  // namespace perilune
