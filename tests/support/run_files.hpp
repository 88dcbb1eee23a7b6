// What a run directory holds, read back.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "tests/support/temporary_directory.hpp"

namespace perilune::test {

/// The rows of metrics.jsonl without what depends on the clock.
inline std::vector<nlohmann::json> metrics_rows(const std::filesystem::path& run) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(read_text(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    rows.push_back(nlohmann::json::parse(line));
    rows.back().erase("time");
    rows.back().erase("charts/SPS");
  }
  return rows;
}

}  // namespace perilune::test
