// Round trips, and every sort of damage.
#include "host/runs/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include <rapidcheck.h>

#include "host/base/error.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<std::byte> file_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::vector<std::byte> bytes(sizeof(length) + header.size() + data.size());
  std::memcpy(bytes.data(), &length, sizeof(length));
  std::memcpy(bytes.data() + sizeof(length), header.data(), header.size());
  if (!data.empty()) std::memcpy(bytes.data() + sizeof(length) + header.size(), data.data(), data.size());
  return bytes;
}

std::string parse_error(std::vector<std::byte> bytes) {
  try {
    SafetensorsFile::parse(std::move(bytes), "x.safetensors");
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(), testing::StartsWith("x.safetensors"));
    return error.what();
  }
  return "no error";
}

std::string parse_error(const std::string& header, const std::string& data = "") {
  return parse_error(file_bytes(header, data));
}

// One float tensor with this entry in the header and four bytes of data.
std::string entry_error(const std::string& entry) { return parse_error("{\"a\":" + entry + "}", "1234"); }

TEST(Safetensors, RoundTripsEveryType) {
  const test::TemporaryDirectory directory;
  const std::vector<float> f32 = {
      1.5f, -0.0f, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::infinity(), 2.0f, 3.0f};
  const std::vector<double> f64 = {0.1};
  const std::vector<std::uint8_t> u8 = {1, 2, 255};
  const std::vector<std::int32_t> i32 = {-1};
  const std::vector<std::uint32_t> u32 = {0xFFFFFFFF};
  const std::vector<std::int64_t> i64 = {std::numeric_limits<std::int64_t>::min()};
  const std::vector<std::uint64_t> u64 = {std::numeric_limits<std::uint64_t>::max()};
  const std::vector<Tensor> tensors = {make_tensor<float>("actor.0.weight", {2, 3}, f32),
                                       make_tensor<std::uint8_t>("u8", {3}, u8),
                                       make_tensor<double>("f64", {}, f64),
                                       make_tensor<std::int32_t>("i32", {1}, i32),
                                       make_tensor<std::uint32_t>("u32", {1, 1}, u32),
                                       make_tensor<std::int64_t>("i64", {1}, i64),
                                       make_tensor<std::uint64_t>("u64", {1}, u64),
                                       make_tensor<float>("empty", {0, 4}, {})};
  const Metadata metadata = {{"format", "perilune-1"}, {"config", "a = \"1\"\nb = 2\n"}};
  write_safetensors(directory / "x.safetensors", tensors, metadata);

  const SafetensorsFile file = SafetensorsFile::load(directory / "x.safetensors");
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.tensors().size(), tensors.size());
  std::vector<float> weights(6);
  file.copy<float>("actor.0.weight", {2, 3}, weights);
  EXPECT_EQ(std::memcmp(weights.data(), f32.data(), sizeof(float) * 6), 0);
  std::vector<std::uint64_t> numbers(1);
  file.copy<std::uint64_t>("u64", {1}, numbers);
  EXPECT_EQ(numbers, u64);
  for (const Tensor& tensor : tensors) {
    ASSERT_NE(file.find(tensor.name), nullptr) << tensor.name;
    EXPECT_EQ(file.find(tensor.name)->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(file.find(tensor.name)->type, tensor.type) << tensor.name;
  }
  EXPECT_EQ(safetensors_header(tensors, metadata).size() % 8, 0u);
}

TEST(Safetensors, CopyRefusesOtherNamesShapesAndTypes) {
  const std::vector<float> values = {1, 2};
  const std::vector<Tensor> tensors = {make_tensor<float>("a", {2}, values)};
  const test::TemporaryDirectory directory;
  write_safetensors(directory / "x", tensors, {});
  const SafetensorsFile file = SafetensorsFile::load(directory / "x");
  const auto copy_error = [&](auto example, const std::string& name, const Shape& shape) {
    std::vector<decltype(example)> out(2);
    try {
      file.copy<decltype(example)>(name, shape, out);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(copy_error(0.0f, "a", {2}), "no error");
  EXPECT_THAT(copy_error(0.0f, "b", {2}), HasSubstr("has no tensor 'b'"));
  EXPECT_THAT(copy_error(0.0f, "a", {1, 2}), HasSubstr("tensor 'a' is F32 [2], expected F32 [1, 2]"));
  EXPECT_THAT(copy_error(std::int32_t{0}, "a", {2}), HasSubstr("expected I32 [2]"));
}

TEST(Safetensors, WriterRefusesImpossibleTensors) {
  const std::vector<float> values = {1, 2};
  const std::vector<Tensor> twice = {make_tensor<float>("a", {2}, values), make_tensor<float>("a", {2}, values)};
  EXPECT_THROW(safetensors_header(twice, {}), Error);
  const std::vector<Tensor> wrong_size = {make_tensor<float>("a", {3}, values)};
  EXPECT_THROW(safetensors_header(wrong_size, {}), Error);
  const std::vector<Tensor> reserved = {make_tensor<float>("__metadata__", {2}, values)};
  EXPECT_THROW(safetensors_header(reserved, {}), Error);
}

TEST(Safetensors, ReadsAnEmptyFileOfTheFormat) {
  EXPECT_EQ(parse_error("{}"), "no error");
  EXPECT_EQ(parse_error("{}      "), "no error");
}

TEST(Safetensors, ForeignFiles) {
  EXPECT_THAT(parse_error(std::vector<std::byte>{}), HasSubstr("too few for a header"));
  EXPECT_THAT(parse_error(std::vector<std::byte>(7)), HasSubstr("too few for a header"));
  EXPECT_THAT(parse_error(std::vector<std::byte>(100, std::byte{'x'})), HasSubstr("header length"));
  EXPECT_THAT(parse_error(std::vector<std::byte>(100)), HasSubstr("not JSON"));
  EXPECT_THAT(parse_error("[1, 2]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(parse_error("{} trailing"), HasSubstr("not JSON"));
  EXPECT_THAT(parse_error("{\"a\": \"\xff\"}"), HasSubstr("not JSON"));
  EXPECT_THAT(parse_error("{\"a\": " + std::string(100000, '[')), HasSubstr("nested too deeply"));
}

TEST(Safetensors, DamagedEntries) {
  EXPECT_EQ(entry_error(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "no error");
  EXPECT_THAT(entry_error(R"({"dtype":"F16","shape":[2],"data_offsets":[0,4]})"),
              HasSubstr("dtype 'F16' - allowed: U8"));
  EXPECT_THAT(entry_error(R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})"), HasSubstr("no dtype"));
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"),
              HasSubstr("4 bytes, which is not F32"));
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"), HasSubstr("whole numbers in shape"));
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})"),
              HasSubstr("whole numbers in shape"));
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]})"),
              HasSubstr("which is not F32 of shape"));  // the byte count overflows to 4
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"), HasSubstr("impossible data_offsets"));
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})"), HasSubstr("impossible data_offsets"));
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[1]})"), HasSubstr("something but dtype"));
  EXPECT_THAT(entry_error(R"({"dtype":"F32","shape":[1],"offsets":[0,4]})"), HasSubstr("no array data_offsets"));
  EXPECT_THAT(entry_error("5"), HasSubstr("something but dtype"));
  EXPECT_THAT(entry_error(R"({"dtype":"U8","shape":[3],"data_offsets":[1,4]})"), HasSubstr("begins at byte 1"));
  EXPECT_THAT(entry_error(R"({"dtype":"U8","shape":[3],"data_offsets":[0,3]})"), HasSubstr("1 bytes at its end"));
  EXPECT_THAT(entry_error(R"({"dtype":"F64","shape":[1],"data_offsets":[0,8]})"), HasSubstr("is truncated"));
}

TEST(Safetensors, OverlapsDuplicatesAndMetadata) {
  const std::string a = R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]})";
  const std::string b = R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]})";
  EXPECT_THAT(parse_error("{" + a + "," + b + "}", "1234"), HasSubstr("'b' begins at byte 2"));
  EXPECT_THAT(parse_error("{" + a + "," + a + "}", "123"), HasSubstr("'a' appears twice"));
  EXPECT_THAT(parse_error(R"({"__metadata__":{"x":"1","x":"2"}})"), HasSubstr("'x' appears twice"));
  EXPECT_THAT(parse_error(R"({"__metadata__":{"x":1}})"), HasSubstr("is not a string"));
  EXPECT_THAT(parse_error(R"({"__metadata__":[]})"), HasSubstr("is not an object of strings"));
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::vector<float> values = {1, 2, 3};
  const std::vector<Tensor> tensors = {make_tensor<float>("a", {3}, values)};
  const std::string header = safetensors_header(tensors, {{"k", "v"}});
  std::string whole = header;
  whole.append(reinterpret_cast<const char*>(values.data()), 12);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> bytes(size);
    if (size != 0) std::memcpy(bytes.data(), whole.data(), size);
    EXPECT_NE(parse_error(std::move(bytes)), "no error") << size;
  }
}

TEST(Safetensors, FilesThatCannotBeRead) {
  const test::TemporaryDirectory directory;
  EXPECT_THROW(SafetensorsFile::load(directory / "missing"), Error);
  EXPECT_THROW(SafetensorsFile::load(directory.path()), Error);
  EXPECT_THROW(SafetensorsFile::load("/dev/zero"), Error);
}

TEST(Safetensors, ArbitraryTensorsRoundTrip) {
  EXPECT_TRUE(rc::check("header, parse", [] {
    const auto names = *rc::gen::unique<std::vector<std::string>>(
        rc::gen::nonEmpty(rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127))));
    std::vector<std::vector<std::uint32_t>> values;
    std::vector<Tensor> tensors;
    for (const std::string& name : names) {
      values.push_back(*rc::gen::arbitrary<std::vector<std::uint32_t>>());
      tensors.push_back(make_tensor<std::uint32_t>(name, {values.back().size(), 1}, values.back()));
    }
    const std::string header = safetensors_header(tensors, {});
    std::vector<std::byte> bytes(header.size());
    std::memcpy(bytes.data(), header.data(), header.size());
    for (const Tensor& tensor : tensors) bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
    const SafetensorsFile file = SafetensorsFile::parse(std::move(bytes), "x");
    RC_ASSERT(file.tensors().size() == names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      std::vector<std::uint32_t> read(values[i].size());
      file.copy<std::uint32_t>(names[i], {values[i].size(), 1}, read);
      RC_ASSERT(read == values[i]);
    }
  }));
}

}  // namespace
}  // namespace perilune
