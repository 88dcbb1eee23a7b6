// The directory of one training run, and who may write to it.
//
// runs/<env>__<name>__<seed>__<unix time>/ holds config.toml, checkpoint.safetensors and the one
// before it, policy.safetensors, best.safetensors, metrics.jsonl, TensorBoard events and the evaluation. It is made
// under a temporary name and renamed when config.toml is in it: a run directory that exists can
// always be resumed. A lock (flock on .lock, which ends with the process however that ends) keeps a
// second writer out.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "host/base/files.hpp"
#include "host/settings/config.hpp"

namespace perilune {

class RunDirectory {
 public:
  // Makes and locks a new run directory: `path` if given, else a fresh name under `root`. What
  // `fill` writes into it is there when it appears. Throws Error if `path` holds a run or anything
  // else already, or cannot be written.
  static RunDirectory create(const Config& config, const std::optional<std::filesystem::path>& path,
                             const std::filesystem::path& root = "runs",
                             const std::function<void(const std::filesystem::path&)>& fill = {});
  // Locks an existing run directory and clears what a killed process left half-written. Throws
  // Error if it is no run directory, is in use or cannot be written.
  static RunDirectory resume(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }

 private:
  RunDirectory(std::filesystem::path path, File lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::filesystem::path path_;
  File lock_;
};

// Places inside a run directory.
std::filesystem::path config_path(const std::filesystem::path& run);
std::filesystem::path checkpoint_path(const std::filesystem::path& run);
std::filesystem::path previous_checkpoint_path(const std::filesystem::path& run);
std::filesystem::path policy_path(const std::filesystem::path& run);
std::filesystem::path best_policy_path(const std::filesystem::path& run);

// Whether `path` is a run directory: a directory with a config.toml.
bool is_run_directory(const std::filesystem::path& path);

// Writes the configuration of a run, atomically.
void write_run_config(const std::filesystem::path& run, const Config& config);

// The resolved configuration of a run. Throws UsageError if `run` is no run directory.
Config read_run_config(const std::filesystem::path& run);

// The checkpoints that exist, newest first: none before the first one was saved, only the previous
// one when the process was killed between two renames.
std::vector<std::filesystem::path> existing_checkpoints(const std::filesystem::path& run);

}  // namespace perilune
