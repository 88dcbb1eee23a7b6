// See metrics_writer.hpp.
#include "host/runs/metrics_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "host/base/error.hpp"

namespace perilune {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "record fields are stored as they lie in memory");

constexpr auto kFlushInterval = std::chrono::seconds(1);
constexpr std::size_t kFlushBytes = 1 << 20;
constexpr std::string_view kJsonRowStart = "{\"iteration\":";

// Eight tables: table k advances a byte over k more zero bytes, so that eight bytes are looked up
// at once.
constexpr std::array<std::array<std::uint32_t, 256>, 8> make_crc_tables() {
  constexpr std::uint32_t kReversedPolynomial = 0x82F63B78;
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kReversedPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}
constexpr auto kCrcTables = make_crc_tables();

std::uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

template <class T>
void append_raw(std::string& out, T value) {
  std::array<char, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  out.append(bytes.data(), bytes.size());
}

template <class T>
std::optional<T> read_raw(std::string_view bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// Protobuf's wire format: a field begins with (number << 3 | type).
enum WireType : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr std::uint8_t field_tag(std::uint32_t number, WireType type) {
  return static_cast<std::uint8_t>(number << 3 | type);
}

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

std::size_t varint_size(std::uint64_t value) { return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7; }

void append_record(std::string& out, std::string_view data) {
  const std::size_t begin = out.size();
  append_raw(out, static_cast<std::uint64_t>(data.size()));
  append_raw(out, masked_crc(std::string_view(out).substr(begin)));
  out += data;
  append_raw(out, masked_crc(data));
}

std::string file_version_event(double wall_time) {
  constexpr std::string_view kVersion = "brain.Event:2";
  std::string event;
  event += static_cast<char>(field_tag(1, kFixed64));
  append_raw(event, wall_time);
  event += static_cast<char>(field_tag(3, kBytes));
  append_varint(event, kVersion.size());
  event += kVersion;
  return event;
}

constexpr const char* kEpisodeTag = "reward";

// Whether an event that append_event wrote is of an episode: that is the only scalar of this name.
bool is_episode(std::string_view event) {
  std::string name;
  name += static_cast<char>(field_tag(1, kBytes));
  append_varint(name, std::strlen(kEpisodeTag));
  name += kEpisodeTag;
  std::string value;
  value += static_cast<char>(field_tag(2, kFixed32));
  return event.size() > name.size() + value.size() + sizeof(float) &&
         event.substr(event.size() - name.size() - value.size() - sizeof(float)).starts_with(name + value);
}

// The step of an event that append_event wrote (its second field), 0 for the file version.
std::uint64_t event_step(std::string_view event) {
  constexpr std::size_t kStepField = 1 + sizeof(double);
  if (event.size() <= kStepField || static_cast<std::uint8_t>(event[kStepField]) != field_tag(2, kVarint)) return 0;
  std::uint64_t step = 0;
  int shift = 0;
  for (char byte : event.substr(kStepField + 1, 10)) {
    step |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    shift += 7;
    if ((byte & 0x80) == 0) break;
  }
  return step;
}

// The data of the record at the start of `bytes`, or nothing if it is not complete and intact.
std::optional<std::string_view> first_record(std::string_view bytes) {
  constexpr std::size_t kHeader = sizeof(std::uint64_t) + sizeof(std::uint32_t);
  const auto length = read_raw<std::uint64_t>(bytes);
  if (!length || bytes.size() < kHeader || *length > bytes.size() - kHeader) return std::nullopt;
  if (read_raw<std::uint32_t>(bytes.substr(sizeof(std::uint64_t))) != masked_crc(bytes.substr(0, 8))) {
    return std::nullopt;
  }
  const std::string_view data = bytes.substr(kHeader, *length);
  if (read_raw<std::uint32_t>(bytes.substr(kHeader + *length)) != masked_crc(data)) return std::nullopt;
  return data;
}

// How many bytes of each file to keep: whole rows up to the checkpoint, until the first that is
// later or damaged.
std::size_t kept_json_bytes(std::string_view text, const MetricsEnd& end) {
  std::size_t kept = 0;
  std::uint64_t rows = 0;  // of the last iteration
  while (kept < text.size()) {
    const std::size_t line_end = text.find('\n', kept);
    if (line_end == std::string_view::npos || !text.substr(kept).starts_with(kJsonRowStart)) break;
    std::uint64_t iteration = 0;
    const char* number = text.data() + kept + kJsonRowStart.size();
    if (std::from_chars(number, text.data() + line_end, iteration).ec != std::errc()) break;
    if (iteration > end.iteration || (iteration == end.iteration && ++rows > end.rows)) break;
    kept = line_end + 1;
  }
  return kept;
}

std::size_t kept_event_bytes(std::string_view bytes, const MetricsEnd& end) {
  std::size_t kept = 0;
  std::uint64_t rows = 0;  // of the last step
  while (const auto event = first_record(bytes.substr(kept))) {
    const std::uint64_t step = event_step(*event);
    if (is_episode(*event)) {
      if (step >= end.episodes) break;
    } else if (step > end.step || (step > 0 && step == end.step && ++rows > end.rows)) {
      break;
    }
    kept = static_cast<std::size_t>(event->data() - bytes.data()) + event->size() + sizeof(std::uint32_t);
  }
  return kept;
}

std::string read_whole(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

fs::path json_path(const fs::path& run) { return run / "metrics.jsonl"; }

// TensorBoard looks for "tfevents" in the name; a run has one such file.
fs::path events_path(const fs::path& run) {
  constexpr std::string_view kPrefix = "events.out.tfevents.";
  for (const auto& entry : fs::directory_iterator(run)) {
    if (entry.path().filename().string().starts_with(kPrefix)) return entry.path();
  }
  return run / (std::string(kPrefix) + std::to_string(std::time(nullptr)) + ".perilune");
}

File open_to_append(const fs::path& path, std::size_t kept_bytes) {
  File file(path, O_WRONLY | O_CREAT | O_APPEND, "write metrics to");
  if (::ftruncate(file.descriptor(), static_cast<off_t>(kept_bytes)) != 0) fail_io("write metrics to", path, errno);
  return file;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  while (bytes.size() >= 8) {
    const std::uint64_t word = *read_raw<std::uint64_t>(bytes) ^ crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= kCrcTables[7 - k][(word >> (8 * k)) & 0xFF];
    bytes.remove_prefix(8);
  }
  for (char byte : bytes) crc = (crc >> 8) ^ kCrcTables[0][(crc ^ static_cast<std::uint8_t>(byte)) & 0xFF];
  return ~crc;
}

MetricsWriter::MetricsWriter(const fs::path& run) : MetricsWriter(run, MetricsEnd{}) {}

MetricsWriter::MetricsWriter(const fs::path& run, const MetricsEnd& end) {
  const fs::path events = events_path(run);
  const std::size_t kept_events = kept_event_bytes(read_whole(events), end);
  json_file_ = open_to_append(json_path(run), kept_json_bytes(read_whole(json_path(run)), end));
  events_file_ = open_to_append(events, kept_events);
  if (kept_events == 0) append_record(events_buffer_, file_version_event(static_cast<double>(std::time(nullptr))));
}

MetricsWriter::~MetricsWriter() {
  try {
    flush();
  } catch (const Error&) {
  }
}

void MetricsWriter::write(const MetricRow& row) {
  append_json(row);
  append_event(row.step, row.wall_time, row.metrics);
  flush_if_due();
}

void MetricsWriter::write_episodes(std::uint64_t first, double wall_time, std::span<const float> returns) {
  for (const float total : returns) {
    const MetricValue metric = {kEpisodeTag, total};
    append_event(first++, wall_time, {&metric, 1});
  }
  flush_if_due();
}

void MetricsWriter::flush_if_due() {
  if (json_buffer_.size() + events_buffer_.size() > kFlushBytes ||
      std::chrono::steady_clock::now() - last_flush_ >= kFlushInterval) {
    flush();
  }
}

void MetricsWriter::flush() {
  last_flush_ = std::chrono::steady_clock::now();
  const std::string json = std::exchange(json_buffer_, {});
  const std::string events = std::exchange(events_buffer_, {});
  json_file_.write(json);
  events_file_.write(events);
}

void MetricsWriter::append_json(const MetricRow& row) {
  std::array<char, 40> digits;
  const auto append_number = [&](auto value) {
    char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    json_buffer_.append(digits.data(), end);
  };
  json_buffer_ += kJsonRowStart;
  append_number(row.iteration);
  json_buffer_ += ",\"step\":";
  append_number(row.step);
  json_buffer_ += ",\"time\":";
  append_number(row.wall_time);
  for (const MetricValue& metric : row.metrics) {
    json_buffer_ += ",\"";
    json_buffer_ += metric.name;
    json_buffer_ += "\":";
    if (!std::isfinite(metric.value)) {
      json_buffer_ += "null";
    } else if (const float narrow = static_cast<float>(metric.value); static_cast<double>(narrow) == metric.value) {
      append_number(narrow);  // most metrics are computed in float: the digits of a double would
                              // say nothing more
    } else {
      append_number(metric.value);
    }
  }
  json_buffer_ += "}\n";
}

void MetricsWriter::append_event(std::uint64_t step, double wall_time, std::span<const MetricValue> metrics) {
  const auto value_size = [](std::size_t name_size) {
    return 1 + varint_size(name_size) + name_size + 1 + sizeof(float);  // tag field, simple_value field
  };
  std::size_t summary_size = 0;
  for (const MetricValue& metric : metrics) {
    if (!std::isfinite(static_cast<float>(metric.value))) continue;
    const std::size_t size = value_size(std::strlen(metric.name));
    summary_size += 1 + varint_size(size) + size;
  }
  event_.clear();
  event_ += static_cast<char>(field_tag(1, kFixed64));
  append_raw(event_, wall_time);
  event_ += static_cast<char>(field_tag(2, kVarint));
  append_varint(event_, step);
  event_ += static_cast<char>(field_tag(5, kBytes));
  append_varint(event_, summary_size);
  for (const MetricValue& metric : metrics) {
    if (!std::isfinite(static_cast<float>(metric.value))) continue;
    const std::string_view name = metric.name;
    event_ += static_cast<char>(field_tag(1, kBytes));
    append_varint(event_, value_size(name.size()));
    event_ += static_cast<char>(field_tag(1, kBytes));
    append_varint(event_, name.size());
    event_ += name;
    event_ += static_cast<char>(field_tag(2, kFixed32));
    append_raw(event_, static_cast<float>(metric.value));
  }
  append_record(events_buffer_, event_);
}

}  // namespace perilune
