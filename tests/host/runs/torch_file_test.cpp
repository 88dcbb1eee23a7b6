// Files of tensors come back with the same bits, pickles that do more than describe tensors are refused by name, and
// what they describe must be there. Files of real PyTorch, and of Python's pickle:
// tests/tools/state_dictionary_test.py.
#include "host/runs/torch_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include <rapidcheck.h>

#include "host/base/error.hpp"
#include "host/base/zip.hpp"
#include "tests/support/temporary_directory.hpp"

namespace perilune {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

template <class Number>
std::string raw(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

using Contents = std::vector<std::pair<std::string, std::string>>;

std::string archive_of(const Contents& contents) {
  std::vector<ZipEntry> entries;
  for (const auto& [name, data] : contents) entries.push_back({name, std::as_bytes(std::span(data))});
  return zip_archive(entries, 64);
}

// ---- pickles by hand ----

std::string text(std::string_view word) {
  const auto size = static_cast<std::uint32_t>(word.size());
  return 'X' + std::string(reinterpret_cast<const char*>(&size), 4) + std::string(word);
}
std::string number(int value) { return 'J' + std::string(reinterpret_cast<const char*>(&value), 4); }
std::string tuple(const std::vector<std::string>& parts) {
  std::string all = "(";
  for (const std::string& part : parts) all += part;
  return all + 't';
}
std::string numbers(const std::vector<int>& values) {
  std::vector<std::string> parts;
  for (const int value : values) parts.push_back(number(value));
  return tuple(parts);
}
std::string global(const std::string& module, const std::string& name) { return 'c' + module + '\n' + name + '\n'; }
const std::string kNoHooks = global("collections", "OrderedDict") + ")R";

struct Described {
  std::string type = "FloatStorage", storage = "0";
  int size = 6, offset = 0;
  std::vector<int> shape = {2, 3}, strides = {3, 1};

  std::string pickled() const {
    const std::string id = tuple({text("storage"), global("torch", type), text(storage), text("cpu"), number(size)});
    return global("torch._utils", "_rebuild_tensor_v2") +
           tuple({id + 'Q', number(offset), numbers(shape), numbers(strides), "\x89", kNoHooks}) + 'R';
  }
};

std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string all = "}(";
  for (const auto& [name, value] : items) all += text(name) + value;
  return all + 'u';
}

const std::vector<float> kSix = {1, 2, 3, 4, 5, 6};

// A file whose pickle has this between its beginning and end.
TorchFile file_of(const std::string& pickle, const std::string& storage = raw(kSix)) {
  return TorchFile::parse(
      bytes_of(archive_of({{"f/data.pkl", "\x80\x02" + pickle + '.'}, {"f/data/0", storage}, {"f/version", "3\n"}})),
      "x.pt");
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    EXPECT_THAT(error.what(), AllOf(testing::StartsWith("x.pt"), HasSubstr(" - ")));
    return error.what();
  }
  return "no error";
}
std::string pickle_error(const std::string& pickle) {
  return error_of([&] { file_of(pickle); });
}
std::string tensor_error(const Described& tensor, const std::string& storage = raw(kSix)) {
  return error_of([&] { file_of(dict({{"w", tensor.pickled()}}), storage); });
}
std::vector<float> read(const Described& tensor, const std::string& storage = raw(kSix)) {
  const TorchFile file = file_of(dict({{"w", tensor.pickled()}}), storage);
  return file.numbers(*file.find("w"));
}

TEST(TorchFile, ArbitraryTensorsRoundTrip) {
  EXPECT_TRUE(rc::check("torch_file, parse", [] {
    const auto names = *rc::gen::unique<std::vector<std::string>>(rc::gen::arbitrary<std::string>());
    std::vector<std::vector<float>> values;
    std::vector<Tensor> tensors;
    for (const std::string& name : names) {
      const auto rows = *rc::gen::inRange<std::uint64_t>(0, 5), columns = *rc::gen::inRange<std::uint64_t>(0, 70);
      values.push_back(*rc::gen::container<std::vector<float>>(rows * columns, rc::gen::arbitrary<float>()));
      tensors.push_back({name, TensorType::kF32, {rows, columns}, {}});
    }
    for (std::size_t i = 0; i < names.size(); ++i) tensors[i].data = std::as_bytes(std::span(values[i]));
    const TorchFile file = TorchFile::parse(bytes_of(torch_file(tensors)), "x");
    RC_ASSERT(file.tensors().size() == names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      RC_ASSERT(file.tensors()[i].name == names[i] && file.tensors()[i].shape == tensors[i].shape);
      RC_ASSERT(file.numbers(file.tensors()[i]) == values[i]);
    }
  }));
}

TEST(TorchFile, KeepsSignsAndSubnormals) {
  const std::vector<float> values = {-0.0f, std::numeric_limits<float>::denorm_min(),
                                     std::numeric_limits<float>::max()};
  const std::vector<Tensor> tensors = {make_tensor<float>("w", {3}, values),
                                       make_tensor<float>("scalar", {}, {values.data(), 1})};
  const TorchFile file = TorchFile::parse(bytes_of(torch_file(tensors)), "x");
  const std::vector<float> read = file.numbers(*file.find("w"));
  EXPECT_EQ(std::memcmp(read.data(), values.data(), sizeof(float) * 3), 0);
  EXPECT_EQ(file.numbers(*file.find("scalar")).size(), 1u);
  EXPECT_EQ(file.find("v"), nullptr);
}

TEST(TorchFile, OtherTypes) {
  EXPECT_THAT(read({.type = "DoubleStorage", .size = 2, .shape = {2}, .strides = {1}}, raw<double>({0.1, -2.0})),
              testing::ElementsAre(0.1f, -2.0f));
  // 1, -2, the smallest subnormal, the largest subnormal, the largest number, -0.
  EXPECT_THAT(read({.type = "HalfStorage"}, raw<std::uint16_t>({0x3C00, 0xC000, 0x0001, 0x03FF, 0x7BFF, 0x8000})),
              testing::ElementsAre(1.0f, -2.0f, std::ldexp(1.0f, -24), std::ldexp(1023.0f, -24), 65504.0f, -0.0f));
  EXPECT_THAT(
      read({.type = "BFloat16Storage", .size = 2, .shape = {2}, .strides = {1}}, raw<std::uint16_t>({0x3F80, 0xC049})),
      testing::ElementsAre(1.0f, -3.140625f));
  EXPECT_THAT(tensor_error({.type = "LongStorage"}),
              AllOf(HasSubstr("tensor 'w' is of 'LongStorage'"), HasSubstr("allowed: FloatStorage")));
  EXPECT_THAT(tensor_error({.type = "EvilStorage"}), HasSubstr("'EvilStorage'"));
}

TEST(TorchFile, Views) {
  EXPECT_THAT(read({.shape = {3, 2}, .strides = {1, 3}}), testing::ElementsAre(1, 4, 2, 5, 3, 6));  // transposed
  EXPECT_THAT(read({.offset = 3, .shape = {3}, .strides = {1}}), testing::ElementsAre(4, 5, 6));
  EXPECT_THAT(read({.offset = 1, .shape = {3}, .strides = {2}}), testing::ElementsAre(2, 4, 6));
  EXPECT_THAT(read({.offset = 6, .shape = {0, 7}, .strides = {7, 1}}), testing::ElementsAre());
  EXPECT_THAT(tensor_error({.shape = {100, 100}, .strides = {0, 0}}), HasSubstr("repeats the 6 numbers"));
  EXPECT_THAT(tensor_error({.offset = 1}), HasSubstr("does not fit its storage of 6 numbers"));
  EXPECT_THAT(tensor_error({.offset = -1}), HasSubstr("does not fit"));
  EXPECT_THAT(tensor_error({.offset = 7, .shape = {0}, .strides = {1}}), HasSubstr("does not fit"));
  EXPECT_THAT(tensor_error({.shape = {2, -3}}), HasSubstr("does not fit"));
  EXPECT_THAT(tensor_error({.strides = {3, -1}}), HasSubstr("does not fit"));
  EXPECT_THAT(tensor_error({.strides = {1}}), HasSubstr("does not fit"));
  EXPECT_THAT(tensor_error({.shape = {1 << 30, 1 << 30, 1 << 30}, .strides = {1 << 30, 1 << 30, 1 << 30}}),
              HasSubstr("does not fit"));
  EXPECT_THAT(tensor_error({.shape = {1 << 30, 1 << 30, 1 << 30, 0}, .strides = {1, 1, 1, 1}}), "no error");
  EXPECT_THAT(tensor_error({.shape = std::vector<int>(9, 1), .strides = std::vector<int>(9, 1)}),
              HasSubstr("not up to 8 whole numbers"));
}

TEST(TorchFile, StoragesAreAsLargeAsTheySay) {
  EXPECT_THAT(tensor_error({.size = 1000000, .shape = {1000, 1000}, .strides = {1000, 1}}),
              HasSubstr("its storage has 1000000 numbers, but that has 24 bytes"));
  EXPECT_THAT(tensor_error({.size = 5, .shape = {5}, .strides = {1}}),
              HasSubstr("has 5 numbers, but that has 24 bytes"));
  EXPECT_THAT(tensor_error({}, raw(kSix) + "x"), HasSubstr("but that has 25 bytes"));
  EXPECT_THAT(tensor_error({.size = -6}), HasSubstr("-6 numbers"));
  EXPECT_THAT(tensor_error({.storage = "1"}), HasSubstr("no storage '1'"));
  EXPECT_THAT(tensor_error({.storage = "../version"}), HasSubstr("no storage '../version'"));
}

TEST(TorchFile, NumbersAreFinite) {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  const auto error = [](const Described& tensor, const std::string& storage) {
    return error_of([&] { read(tensor, storage); });
  };
  EXPECT_THAT(error({}, raw<float>({1, 2, 3, 4, nan, 6})), HasSubstr("tensor 'w' has nan at [1, 1]"));
  EXPECT_THAT(error({}, raw<float>({1, 2, -INFINITY, 4, 5, 6})), HasSubstr("-inf at [0, 2]"));
  EXPECT_THAT(error({.type = "DoubleStorage"}, raw<double>({1, 1e39, 3, 4, 5, 6})), HasSubstr("1e+39 at [0, 1]"));
  EXPECT_THAT(error({.type = "HalfStorage"}, raw<std::uint16_t>({0x7C00, 0, 0, 0, 0, 0})), HasSubstr("inf at [0, 0]"));
  EXPECT_THAT(error({.type = "HalfStorage"}, raw<std::uint16_t>({0, 0xFE00, 0, 0, 0, 0})), HasSubstr("nan at [0, 1]"));
}

TEST(TorchFile, CodeIsRefusedByName) {
  const std::string run = tuple({text("touch /tmp/was-here")}) + 'R';
  EXPECT_THAT(pickle_error(global("os", "system") + run), HasSubstr("asks for 'system' of the module 'os'"));
  EXPECT_THAT(pickle_error(dict({{"w", global("builtins", "eval") + run}})),
              HasSubstr("'eval' of the module 'builtins'"));
  EXPECT_THAT(pickle_error(dict({{"w", global("torch", "load") + run}})), HasSubstr("'load' of the module 'torch'"));
  EXPECT_THAT(pickle_error(dict({{"w", global("torch", "FloatStorage") + run}})), HasSubstr("damaged"));
  EXPECT_THAT(pickle_error(dict({{"w", global("collections", "OrderedDict") + run}})),
              HasSubstr("OrderedDict is made of"));
  EXPECT_THAT(pickle_error("cos\nsystem\n" + run), HasSubstr("nothing in it was run"));
  EXPECT_THAT(pickle_error(global(std::string(100000, 'm'), "f")), HasSubstr("of the module 'mmm"));
  for (const std::string opcode :
       {"i", "o", "\x81", "\x92", "\x93", "P", "B", "\x8b", "\x8c", "\x95", "2",    "0",    "1",   "I",
        "L", "S", "U",    "T",    "d",    "l", "p", "g",    "\x82", "\x83", "\x84", "\x94", "\x80"}) {
    EXPECT_THAT(pickle_error("N" + opcode + "os\nsystem\n"), HasSubstr("has the opcode 0x")) << opcode;
  }
}

TEST(TorchFile, OnlyTensorsInADict) {
  const std::string w = Described{}.pickled();
  EXPECT_EQ(pickle_error(dict({{"w", w}, {"v", w}})), "no error");
  EXPECT_EQ(pickle_error("}" + text("w") + w + "s"), "no error");
  EXPECT_EQ(pickle_error("}"), "no error");
  const std::pair<std::string, std::string> wrong[] = {{"N", "None"},
                                                       {number(3), "an integer"},
                                                       {"G12345678", "a number"},
                                                       {"\x88", "a boolean"},
                                                       {text("x"), "a text"},
                                                       {numbers({1, 2}), "a tuple"},
                                                       {"](" + w + "e", "a list"},
                                                       {"]" + w + "a", "a list"},
                                                       {dict({{"u", w}}), "a dict"},
                                                       {global("torch", "FloatStorage"), "a class of storages"},
                                                       {global("collections", "OrderedDict"), "a class or function"}};
  for (const auto& [pickle, kind] : wrong) {
    EXPECT_THAT(pickle_error(dict({{"w", w}, {"epoch", pickle}})), HasSubstr("'epoch' is " + kind)) << kind;
    EXPECT_EQ(pickle_error(pickle) == "no error", kind == "a dict");
  }
  EXPECT_THAT(pickle_error(w), HasSubstr("it holds a tensor"));
  EXPECT_THAT(pickle_error("}" + number(1) + w + "s"), HasSubstr("a key of its dict is an integer"));
  EXPECT_THAT(pickle_error(dict({{"w", w}, {"w", w}})), HasSubstr("'w' is there twice"));
}

TEST(TorchFile, ParametersAndAttributesOfDictsAreTaken) {
  const std::string w = Described{}.pickled();
  const std::string parameter = global("torch._utils", "_rebuild_parameter") + tuple({w, "\x88", kNoHooks}) + 'R';
  EXPECT_EQ(pickle_error(dict({{"w", parameter}})), "no error");
  const std::string noted = kNoHooks + "(" + text("w") + w + "u" + dict({{"_metadata", kNoHooks}}) + "b";
  EXPECT_EQ(pickle_error(noted), "no error");
  EXPECT_THAT(pickle_error(dict({{"w", w + dict({{"data", kNoHooks}}) + "b"}})), HasSubstr("damaged"));
}

TEST(TorchFile, PicklesThatGoInCirclesOrGrow) {
  const std::string w = Described{}.pickled();
  // A dict and a tuple that hold themselves.
  EXPECT_THAT(pickle_error("}q" + std::string(1, '\0') + text("w") + "h" + std::string(1, '\0') + "s"),
              HasSubstr("'w' is a dict"));
  EXPECT_THAT(pickle_error("]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a\x85"), HasSubstr("a tuple"));
  EXPECT_THAT(pickle_error("h\x05"), HasSubstr("value 5 is asked for, which was not kept"));
  EXPECT_THAT(pickle_error("Nr\xff\xff\xff\xff" + dict({{"w", "j\xff\xff\xff\xff"}})), HasSubstr("one value"));
  // A million tuples in each other, and lists that double a million times.
  EXPECT_THAT(pickle_error(")" + std::string(1000000, '\x85')), HasSubstr("it holds a tuple"));
  std::string doubling = "]q" + std::string(1, '\0');
  for (int i = 0; i < 100000; ++i) doubling += "(h" + std::string(1, '\0') + "h" + std::string(1, '\0') + "e";
  EXPECT_THAT(pickle_error(doubling), HasSubstr("it holds a list"));
  EXPECT_THAT(pickle_error(std::string(1000000, '(')), HasSubstr("one value"));
  EXPECT_THAT(pickle_error(std::string(5 << 20, 'N')), HasSubstr("more than 4194304"));
  // A long tuple that is taken for the shape of many tensors.
  std::string shapes = "(" + std::string(100000, 'N') + "tq" + std::string(1, '\1') + "}";
  EXPECT_THAT(pickle_error(shapes + global("torch._utils", "_rebuild_tensor_v2") + "(NNh\1h\1N}tR"),
              HasSubstr("damaged"));
}

TEST(TorchFile, BrokenPickles) {
  const std::string w = Described{}.pickled();
  EXPECT_THAT(pickle_error(""), HasSubstr("one value"));
  for (const char* pickle : {"t",
                             "u",
                             "e",
                             "s",
                             "R",
                             "b",
                             "Q",
                             "\x85",
                             "\x87",
                             "q",
                             "Na",
                             ")s",
                             "(s",
                             "N(R",
                             "Nb",
                             "}Nb",
                             "X\xff\xff\xff\xffw",
                             "X",
                             "J1",
                             "c",
                             "cos",
                             "cos\nsystem",
                             "\x8a\x09"
                             "123456789",
                             "\x8a",
                             "(Nu",
                             "}(Nu",
                             "NQ",
                             ")Q",
                             "G123"}) {
    EXPECT_THAT(pickle_error(pickle), testing::AnyOf(HasSubstr("damaged"), HasSubstr("one value"))) << pickle;
  }
  EXPECT_THAT(error_of([&] { file_of("}.}"); }), HasSubstr("one value"));
  const std::string whole = dict({{"w", w}});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = "\x80\x02" + whole.substr(0, size);
    EXPECT_NE(error_of([&] {
                TorchFile::parse(bytes_of(archive_of({{"f/data.pkl", cut}})), "x.pt");
              }),
              "no error")
        << size;
  }
  const auto beginning = [](const std::string& pickle) {
    return error_of([&] { TorchFile::parse(bytes_of(archive_of({{"f/data.pkl", pickle}})), "x.pt"); });
  };
  EXPECT_THAT(beginning(std::string("\x80\x04}.")), HasSubstr("protocol 4, not 2"));
  EXPECT_THAT(beginning("}."), HasSubstr("does not begin as a pickle"));
  EXPECT_THAT(beginning(""), HasSubstr("ends in the middle"));
}

TEST(TorchFile, ForeignArchives) {
  const auto error = [](const std::string& bytes) {
    return error_of([&] { TorchFile::parse(bytes_of(bytes), "x.pt"); });
  };
  const std::string pickle = "\x80\x02}.";
  EXPECT_EQ(error(archive_of({{"f/data.pkl", pickle}, {"f/byteorder", "little"}, {"f/more", ""}, {"other", ""}})),
            "no error");
  EXPECT_THAT(error(archive_of({{"f/data.pkl", pickle}, {"f/byteorder", "big"}})), HasSubstr("byte order 'big'"));
  EXPECT_THAT(error(archive_of({{"data.pkl", pickle}})), HasSubstr("no folder with data.pkl"));
  EXPECT_THAT(error(archive_of({{"f/data.pkl", pickle}, {"g/data.pkl", pickle}})), HasSubstr("more than one data.pkl"));
  EXPECT_THAT(error(archive_of({{"f/data.pkl", pickle}, {"f/constants.pkl", pickle}})), HasSubstr("TorchScript"));
  EXPECT_THAT(error("\x80\x02\x8a\x0alfc\x9c"
                    "F\xf9 j\xa8P\x19."),
              HasSubstr("before 1.6"));
  EXPECT_THAT(error("PAR1"), HasSubstr("no zip archive"));
}

TEST(TorchFile, FilesThatCannotBeRead) {
  const test::TemporaryDirectory directory;
  EXPECT_THROW(TorchFile::load(directory / "missing"), Error);
  EXPECT_THROW(TorchFile::load(directory.path()), Error);
  EXPECT_THROW(TorchFile::load("/dev/zero"), Error);
  test::write_text(directory / "large", "");
  std::filesystem::resize_file(directory / "large", std::uintmax_t{1} << 38);  // a hole, which takes no room
  EXPECT_THAT([&] { TorchFile::load(directory / "large"); },
              testing::ThrowsMessage<Error>(HasSubstr("has 274877906944 bytes - allowed: less than 4294967296")));
}

}  // namespace
}  // namespace perilune
