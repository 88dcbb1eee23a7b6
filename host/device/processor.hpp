// Which processor this is, as far as a choice depends on it.
#pragma once

#include <string>

namespace perilune {

// As CPUID tells: the family with its extension, the model with its own.
struct Processor {
  std::string vendor;  // "AuthenticAMD", "GenuineIntel"; empty where there is no CPUID
  int family = 0, model = 0;
};

Processor this_processor();

// "AuthenticAMD family 25 model 17".
std::string processor_name(const Processor&);

// Whether bf16's dot products were measured to make training faster than fp32's multiply-adds. False for whatever was
// not measured.
bool bf16_is_faster(const Processor&);

}  // namespace perilune
