// What the reader of PTX refuses, and by which name. That it understands what nvcc writes is shown by every other test
// here.
#include <gmock/gmock.h>

#include "tests/ptx/runtime.hpp"
#include "tests/ptx/small_kernel.hpp"

namespace perilune::ptx {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// The error that reading a text, and its kernel, ends with.
std::string error_of(const std::string& text) {
  try {
    Module module("some.ptx", text);
    module.function("k");
  } catch (const ReadError& error) {
    return error.what();
  }
  return "no error";
}

TEST(PtxReader, NamesWhatItDoesNotKnow) {
  EXPECT_EQ(error_of(text_of("ret;")), "no error");
  EXPECT_THAT(error_of(text_of("\tfrobnicate.f32 %f1, %f2;\n\tret;")),
              AllOf(HasSubstr("some.ptx:"), HasSubstr("frobnicate.f32"), HasSubstr("instructions.cpp")));
  EXPECT_THAT(error_of(text_of("\tadd.rz.f32 %f1, %f2, %f3;\n\tret;")), HasSubstr("add.rz.f32"));
  EXPECT_THAT(error_of(text_of("\tld.tensor.f32 %f1, [%rd1];\n\tret;")), HasSubstr("ld.tensor.f32"));
  EXPECT_THAT(error_of(text_of("\tld.global.v3.f32 {%f1, %f2, %f3}, [%rd1];\n\tret;")), HasSubstr("ld.global.v3.f32"));
  EXPECT_THAT(error_of(text_of("\tmov.u32 %r1, %clock;\n\tret;")), HasSubstr("mov.u32 %clock"));
  EXPECT_THAT(error_of(text_of("\tcp.async.ca.shared.global [table], [%rd1], 8;\n\tret;")),
              HasSubstr("cp.async.ca.shared.global 8"));
  EXPECT_THAT(error_of(text_of("\tcall.uni printf, (%r1);\n\tret;")), HasSubstr("%r1"));
  EXPECT_THAT(error_of(text_of("\tcall.uni malloc;\n\tret;")), HasSubstr("malloc, which is in no file and not known"));
  EXPECT_THAT(error_of(text_of("\t.tex .u64 t;\n\tret;")), HasSubstr("directive: .tex"));
  EXPECT_THAT(error_of(kHeader + ".surf .u64 t;\n"), HasSubstr("directive: .surf"));
}

TEST(PtxReader, NamesWhatIsMissing) {
  const std::string whole = text_of("\tadd.s32 %r3, %r1, %r2;\n\tret;");
  EXPECT_THAT(error_of(whole.substr(0, whole.size() - 3)), HasSubstr("ends in the middle of .visible .entry k"));
  EXPECT_THAT(error_of(text_of("\tadd.s32 %r3, %r1, %r2;\n\tret")), HasSubstr("without an end: ret"));
  EXPECT_THAT(error_of(text_of("\tadd.s32 %r3, %r1;\n\tret;")), HasSubstr("number of operands for add.s32"));
  EXPECT_THAT(error_of(text_of("\tbra $nowhere;\n\tret;")), HasSubstr("$nowhere, which is nowhere"));
  EXPECT_THAT(error_of(text_of("\tadd.s32 %r3, %r1, %r99;\n\tret;")), HasSubstr("%r99"));
  EXPECT_THAT(error_of(text_of("\tadd.s32 %r3, %r1, %rd1;\n\tret;")), HasSubstr("%rd1 has another width"));
  EXPECT_THAT(error_of(text_of("\tld.global.f32 %f1, [nothing];\n\tret;")),
              HasSubstr("nothing, which is not declared"));
  EXPECT_THAT(error_of(text_of("\tbar.sync 1;\n\tret;")), HasSubstr("barrier other than 0"));
  EXPECT_THAT(error_of(kHeader), HasSubstr("no function k"));
}

TEST(PtxReader, NamesAnotherVersion) {
  EXPECT_THAT(error_of(".version 12.1\n.target sm_90\n.address_size 64\n"),
              HasSubstr("version 12.1 - this reader knows 7.0 to 9.x"));
  EXPECT_THAT(error_of(".version x\n"), HasSubstr("no version"));
  EXPECT_THAT(error_of(".version 9.0\n.target sm_90\n.address_size 32\n"), HasSubstr("64 bits"));
  EXPECT_THAT(error_of("\x7f"
                       "ELF of another kind;"),
              HasSubstr("unknown directive"));
  EXPECT_THAT(error_of(""), HasSubstr("no .version"));
  EXPECT_THROW(Module::open("/no/such/file.ptx"), ReadError);
}

/// Any beginning of a text, and any text with a character changed, is read or refused, and nothing else.
TEST(PtxReader, SurvivesDamage) {
  const std::string whole = text_of(
      "\t.local .align 8 .b8 depot[16];\n\t.loc 1 2 3, function_name $x, inlined_at 1 4 5\n\tmov.u64 %rd5, depot;\n"
      "\tst.local.v2.f32 [%rd5+8], {%f1, 0f3F800000};\n\t@!%p1 bra $end;\n\t{ .reg .f32 r0; .param .b64 param0; "
      "st.param.b64 [param0+0], %rd5; call.uni cudaGraphSetConditional, (param0, param0); }\n"
      "\tshfl.sync.bfly.b32 %r3|%p1, %r1, 1, 31, -1;\n$end:\n\tret;");
  EXPECT_EQ(error_of(whole), "no error");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    error_of(whole.substr(0, i));
    for (const char c : {'}', '{', ';', '%', '9', ' '}) {
      std::string changed = whole;
      changed[i] = c;
      error_of(changed);
    }
  }
}

/// Of everything that was built; at their launch kernels are read one by one.
TEST(PtxReader, UnderstandsEveryKernel) {
  std::size_t kernels = 0;
  for (const std::string& file : runtime_files()) {
    const std::unique_ptr<Module> module = Module::open(file);
    for (const std::string& name : module->kernels()) {
      EXPECT_NO_THROW(module->function(name)) << name;
      ++kernels;
    }
  }
  EXPECT_GE(kernels, registered_kernels().size());
}

}  // namespace
}  // namespace perilune::ptx
