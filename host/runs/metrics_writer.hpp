// The metrics of a run on disk: metrics.jsonl (one JSON object per row) and TensorBoard events.
//
// Rows come in order of iteration; an iteration has a row of its own, then one for each evaluation of its policy. Both
// files are only appended to, through a buffer: a row costs about as much as the formatting of its numbers, and reaches
// the files with the first row that comes a second or more after the last flush, by flush(), or at the end. Call
// flush() before a checkpoint is saved: resuming cuts both files back to the checkpoint, so that a resumed run has the
// same rows as one that was never interrupted, and each row once.
//
// jsonl: {"iteration":1,"step":2048,"time":1700000000.5,"charts/episodic_return":22.25,...}; NaN
// and Inf are null. Events: TFRecord framing (u64 length, masked CRC32C of it, data, masked CRC32C
// of data) of tensorflow.Event messages {1 wall_time: double, 2 step: int64, 3 file_version:
// string, 5 summary {1 value {1 tag, 2 simple_value: float}}}; NaN and Inf are left out. The step
// is the x axis: environment steps. Events also have the returns of episodes, where they are logged: the scalar
// `reward`, whose step is the episode's number in the run, from 0; those of an iteration come before its row.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "host/base/files.hpp"

namespace perilune {

struct MetricValue {
  const char* name;  // "losses/value_loss"; ASCII without quotes or backslashes
  double value;
};

// How far a run has come.
struct MetricsEnd {
  std::uint64_t iteration = 0;
  std::uint64_t step = 0;
  std::uint64_t rows = 0;      // of that iteration
  std::uint64_t episodes = 0;  // that were logged
};

struct MetricRow {
  std::uint64_t iteration;
  std::uint64_t step;  // environment steps so far
  double wall_time;    // seconds since 1970
  std::span<const MetricValue> metrics;
};

// CRC-32C (Castagnoli), as TFRecord files use it.
std::uint32_t crc32c(std::string_view bytes);

class MetricsWriter {
 public:
  // Of a new run directory.
  explicit MetricsWriter(const std::filesystem::path& run);
  // Of a run that goes on from a checkpoint ({}: from its start): drops rows after it and what a
  // killed process left half-written, and makes files that are missing.
  MetricsWriter(const std::filesystem::path& run, const MetricsEnd& end);
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;
  // Flushes, and drops errors: call flush() to see them.
  ~MetricsWriter();

  void write(const MetricRow& row);
  // Episodes from the one of number `first` on, to the events alone.
  void write_episodes(std::uint64_t first, double wall_time, std::span<const float> returns);
  // Hands all rows to the operating system. Throws Error, for example on a full disk; rows that
  // were not written are dropped then.
  void flush();

 private:
  void append_json(const MetricRow& row);
  void append_event(std::uint64_t step, double wall_time, std::span<const MetricValue> metrics);
  void flush_if_due();

  File json_file_;
  File events_file_;
  std::string json_buffer_;
  std::string events_buffer_;
  std::string event_;
  std::chrono::steady_clock::time_point last_flush_ = std::chrono::steady_clock::now();
};

}  // namespace perilune
