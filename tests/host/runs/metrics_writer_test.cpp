// Metrics files: their contents, and cutting them back when a run is resumed.
#include "host/runs/metrics_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "host/base/error.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using test::read_text;
namespace fs = std::filesystem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void write_row(MetricsWriter& writer, std::uint64_t iteration) {
  const std::vector<MetricValue> metrics = {{"charts/SPS", 1000.0 * static_cast<double>(iteration)},
                                            {"losses/value_loss", static_cast<double>(0.1f)}};
  writer.write({iteration, iteration * 512, 1.5 + static_cast<double>(iteration), metrics});
}

void write_rows(const fs::path& run, std::uint64_t first, std::uint64_t last) {
  MetricsWriter writer(run, {first - 1, (first - 1) * 512, 1});
  for (std::uint64_t iteration = first; iteration <= last; ++iteration) write_row(writer, iteration);
}

fs::path events_file(const fs::path& run) {
  fs::path found;
  for (const auto& entry : fs::directory_iterator(run)) {
    if (entry.path().filename().string().find("tfevents") == std::string::npos) continue;
    EXPECT_TRUE(found.empty()) << "two events files";
    found = entry.path();
  }
  return found;
}

// Bit by bit, as the definition has it.
std::uint32_t naive_crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (char byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
  }
  return ~crc;
}

TEST(MetricsWriter, Crc32cKnownAnswers) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  EXPECT_EQ(crc32c(""), 0u);
  std::string text;
  for (int size = 0; size < 70; ++size) {
    EXPECT_EQ(crc32c(text), naive_crc32c(text)) << size;
    text += static_cast<char>(size * 37 + 11);
  }
}

TEST(MetricsWriter, JsonLines) {
  const test::TemporaryDirectory run;
  {
    MetricsWriter writer(run.path());
    const std::vector<MetricValue> metrics = {{"charts/episodic_return", 22.25},
                                              {"losses/approx_kl", kNan},
                                              {"losses/entropy", static_cast<double>(0.1f)},
                                              {"x", 0.1},
                                              {"inf", std::numeric_limits<double>::infinity()},
                                              {"big", 1e300}};
    writer.write({1, 512, 1700000000.5, metrics});
    writer.write({2, 1024, 1700000001.5, {}});
  }
  EXPECT_EQ(read_text(run / "metrics.jsonl"),
            "{\"iteration\":1,\"step\":512,\"time\":1700000000.5,\"charts/episodic_return\":22.25,"
            "\"losses/approx_kl\":null,\"losses/entropy\":0.1,\"x\":0.1,\"inf\":null,\"big\":1e+300}\n"
            "{\"iteration\":2,\"step\":1024,\"time\":1700000001.5}\n");
}

TEST(MetricsWriter, EventBytes) {
  const test::TemporaryDirectory run;
  {
    MetricsWriter writer(run.path());
    const std::vector<MetricValue> metrics = {{"ab", 1.0}, {"nan", kNan}};
    writer.write({1, 300, 2.0, metrics});
  }
  const std::string bytes = read_text(events_file(run.path()));
  // wall_time 2.0; step 300 as varint AC 02; summary of 11 bytes: one value of 9 bytes: tag "ab",
  // simple_value 1.0f.
  const std::string event(
      "\x09\0\0\0\0\0\0\0\x40\x10\xac\x02\x2a\x0b\x0a\x09\x0a\x02"
      "ab\x15\0\0\x80\x3f",
      25);
  const std::size_t begin = bytes.size() - 4 - event.size();
  EXPECT_EQ(bytes.substr(begin, event.size()), event);
  const auto masked = [](std::string_view data) { return std::rotr(naive_crc32c(data), 15) + 0xA282EAD8u; };
  std::uint64_t length = 0;
  std::uint32_t length_crc = 0;
  std::uint32_t data_crc = 0;
  std::memcpy(&length, bytes.data() + begin - 12, 8);
  std::memcpy(&length_crc, bytes.data() + begin - 4, 4);
  std::memcpy(&data_crc, bytes.data() + begin + event.size(), 4);
  EXPECT_EQ(length, event.size());
  EXPECT_EQ(length_crc, masked(bytes.substr(begin - 12, 8)));
  EXPECT_EQ(data_crc, masked(event));
  EXPECT_NE(bytes.find("brain.Event:2"), std::string::npos);
}

TEST(MetricsWriter, ResumedRunHasTheSameFilesAsAnUninterruptedOne) {
  const test::TemporaryDirectory straight;
  const test::TemporaryDirectory resumed;
  write_rows(straight.path(), 1, 20);
  write_rows(resumed.path(), 1, 13);
  fs::copy_file(events_file(straight.path()), straight / "copy");
  write_rows(resumed.path(), 9, 20);  // the checkpoint was at iteration 8
  EXPECT_EQ(read_text(straight / "metrics.jsonl"), read_text(resumed / "metrics.jsonl"));
  // The first record (24 bytes and 12 + 4 of framing) holds the time at which the file was made.
  EXPECT_EQ(read_text(events_file(straight.path())).substr(40), read_text(events_file(resumed.path())).substr(40));
}

TEST(MetricsWriter, OfTheLastIterationOnlyTheRowsOfTheCheckpointStay) {
  const auto lines = [](const fs::path& run) {
    const std::string text = read_text(run / "metrics.jsonl");
    return std::count(text.begin(), text.end(), '\n');
  };
  for (std::uint64_t rows = 1; rows <= 4; ++rows) {
    const test::TemporaryDirectory run;
    write_rows(run.path(), 1, 7);
    std::size_t bytes_of_one = fs::file_size(events_file(run.path()));
    {
      MetricsWriter writer(run.path(), {7, 7 * 512, 1});
      for (int evaluation = 0; evaluation < 2; ++evaluation) write_row(writer, 7);
      for (int row = 0; row < 3; ++row) write_row(writer, 8);
    }
    EXPECT_EQ(lines(run.path()), 7 + 2 + 3);
    bytes_of_one = (fs::file_size(events_file(run.path())) - bytes_of_one) / 5;
    const std::size_t before = fs::file_size(events_file(run.path()));
    { MetricsWriter writer(run.path(), {7, 7 * 512, rows}); }
    const std::uint64_t kept = std::min<std::uint64_t>(rows, 3);
    EXPECT_EQ(lines(run.path()), static_cast<std::ptrdiff_t>(6 + kept));
    EXPECT_EQ(fs::file_size(events_file(run.path())), before - (6 - kept) * bytes_of_one) << rows;
  }
}

// Episodes are numbered apart from steps: those of iteration i, of which there are i % 3, come before its row.
void write_with_episodes(const fs::path& run, std::uint64_t first, std::uint64_t last) {
  std::uint64_t episodes = 0;
  for (std::uint64_t iteration = 1; iteration < first; ++iteration) episodes += iteration % 3;
  MetricsWriter writer(run, {first - 1, (first - 1) * 512, 1, episodes});
  for (std::uint64_t iteration = first; iteration <= last; ++iteration) {
    const std::vector<float> returns(iteration % 3, static_cast<float>(iteration));
    writer.write_episodes(episodes, 1.5, returns);
    episodes += returns.size();
    write_row(writer, iteration);
  }
}

TEST(MetricsWriter, EpisodesAreCutBackWithTheirIterations) {
  const test::TemporaryDirectory straight;
  write_with_episodes(straight.path(), 1, 20);
  for (const std::uint64_t checkpoint : {0, 1, 4, 8, 12}) {
    const test::TemporaryDirectory resumed;
    write_with_episodes(resumed.path(), 1, 13);
    write_with_episodes(resumed.path(), checkpoint + 1, 20);
    EXPECT_EQ(read_text(straight / "metrics.jsonl"), read_text(resumed / "metrics.jsonl"));
    EXPECT_EQ(read_text(events_file(straight.path())).substr(40), read_text(events_file(resumed.path())).substr(40))
        << checkpoint;
  }
}

TEST(MetricsWriter, CutsOffWhatAKilledProcessLeft) {
  const test::TemporaryDirectory whole;
  write_rows(whole.path(), 1, 5);
  const std::string json = read_text(whole / "metrics.jsonl");
  const std::string events = read_text(events_file(whole.path()));
  for (std::size_t missing = 1; missing < 60; missing += 7) {
    const test::TemporaryDirectory run;
    test::write_text(run / "metrics.jsonl", json.substr(0, json.size() - missing));
    test::write_text(run / "events.out.tfevents.1.perilune", events.substr(0, events.size() - missing));
    { MetricsWriter writer(run.path(), {4, 4 * 512, 1}); }
    write_rows(run.path(), 5, 5);
    EXPECT_EQ(read_text(run / "metrics.jsonl"), json) << missing;
    EXPECT_EQ(read_text(events_file(run.path())), events) << missing;
  }
}

TEST(MetricsWriter, SurvivesForeignAndDamagedFiles) {
  const test::TemporaryDirectory run;
  test::write_text(run / "metrics.jsonl", "{\"iteration\":1}\n{\"iteration\":x}\n{\"iteration\":2}\n");
  test::write_text(run / "events.out.tfevents.1.perilune", std::string(100, '\xff'));
  { MetricsWriter writer(run.path(), {9, 9, 1}); }
  EXPECT_EQ(read_text(run / "metrics.jsonl"), "{\"iteration\":1}\n");
  EXPECT_EQ(read_text(run / "events.out.tfevents.1.perilune").size(),
            40u);  // the file version alone
}

TEST(MetricsWriter, FullDiskIsAnError) {
  const test::TemporaryDirectory run;
  const std::string message = test::in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    MetricsWriter writer(run.path());
    for (std::uint64_t iteration = 1; iteration <= 100; ++iteration) write_row(writer, iteration);
    writer.flush();
    return std::string("no error");
  });
  EXPECT_THAT(message, testing::HasSubstr("metrics.jsonl: File too large"));
  write_rows(run.path(), 3, 5);
  const std::string json = read_text(run / "metrics.jsonl");
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 5);
}

}  // namespace
}  // namespace perilune
