# PERILUNE_PROCESSOR: the CPU levels that this processor runs, best first, and bf16 where it has those instructions.
# PERILUNE_BUILT_LEVELS: those that are built, from PERILUNE_CPU_LEVELS.
set(PERILUNE_PROCESSOR portable)
if(NOT CMAKE_CROSSCOMPILING)
  try_run(ran compiled SOURCE_FROM_CONTENT processor.cpp [[
#include <cstdio>
#include "kernels/machine/processor.hpp"
int main() {
  std::printf("%s%sportable%s", perilune::processor_has_v4() ? "v4;" : "", perilune::processor_has_v3() ? "v3;" : "",
              perilune::processor_has_bf16() ? ";bf16" : "");
}
]]
    NO_CACHE CMAKE_FLAGS -DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR}
    COMPILE_OUTPUT_VARIABLE said RUN_OUTPUT_VARIABLE PERILUNE_PROCESSOR)
  if(NOT compiled OR NOT ran EQUAL 0)
    message(FATAL_ERROR "A small program that asks for this processor's instruction sets does not compile or run:\n"
                        "${said}")
  endif()
endif()

set(levels portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(levels v4 v3 portable)
endif()
if(PERILUNE_CPU_LEVELS STREQUAL native)
  list(GET PERILUNE_PROCESSOR 0 PERILUNE_BUILT_LEVELS)
elseif(PERILUNE_CPU_LEVELS STREQUAL all)
  set(PERILUNE_BUILT_LEVELS ${levels})
else()
  set(PERILUNE_BUILT_LEVELS)
  foreach(level IN LISTS levels)  # in this order, once
    if(level IN_LIST PERILUNE_CPU_LEVELS)
      list(APPEND PERILUNE_BUILT_LEVELS ${level})
    endif()
  endforeach()
  set(unknown ${PERILUNE_CPU_LEVELS})
  list(REMOVE_ITEM unknown ${levels})
  if(unknown OR NOT PERILUNE_BUILT_LEVELS)
    message(FATAL_ERROR "PERILUNE_CPU_LEVELS is \"${PERILUNE_CPU_LEVELS}\" - "
                        "allowed: native, all, or some of ${levels}")
  endif()
endif()
