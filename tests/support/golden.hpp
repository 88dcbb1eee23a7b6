// Reads the recorded reference data in tests/golden: CSV files of numbers, with comment lines that
// start with '#'.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace perilune::test {

/// The rows of tests/golden/<name>, all of the same length; throws when the file is missing or
/// malformed.
inline std::vector<std::vector<double>> read_golden(const std::string& name) {
  const std::string path = std::string(PERILUNE_GOLDEN_DIR) + "/" + name;
  std::ifstream file(path);
  if (!file) {
    throw std::runtime_error("cannot open golden data (" + path +
                             ") - PERILUNE_GOLDEN_DIR must be the tests/golden folder");
  }
  std::vector<std::vector<double>> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<double> row;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) row.push_back(std::stod(cell));
    if (!rows.empty() && row.size() != rows[0].size()) {
      throw std::runtime_error("malformed golden data (" + path + ", data row " + std::to_string(rows.size()) + ": " +
                               std::to_string(row.size()) + " cells) - every row has " +
                               std::to_string(rows[0].size()) + " - copy the file again");
    }
    rows.push_back(row);
  }
  return rows;
}

}  // namespace perilune::test
