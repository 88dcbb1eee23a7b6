# What a build may choose. Every value has a default that works on a bare machine and builds what this machine can run.
set(PERILUNE_CPU_LEVELS native CACHE STRING
    "CPU kernels: native (this processor's level), all, or a list of v4, v3 and portable")
set(PERILUNE_CUDA AUTO CACHE STRING "GPU kernels: AUTO (where a GPU and a CUDA toolkit are), ON or OFF")
set_property(CACHE PERILUNE_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT PERILUNE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "PERILUNE_CUDA is \"${PERILUNE_CUDA}\" - allowed: AUTO, ON, OFF")
endif()
option(PERILUNE_ALL_GPUS "Machine code for every supported GPU instead of those of this machine" OFF)
set(PERILUNE_ENVIRONMENTS "" CACHE STRING "Only these of kernels/environments.def, for example CartPole; empty: all")
set(PERILUNE_WIDTHS "" CACHE STRING "Only these hidden widths of kernels/environments.def, for example 64; empty: all")
option(PERILUNE_TESTS "Build the tests (tools/setup --tests installs what they need)" OFF)
option(PERILUNE_PYTHON "Build the Python module (needs Python's headers and nanobind)" OFF)
set(PERILUNE_SANITIZE "" CACHE STRING "Sanitizers to build with, for example address,undefined")
option(PERILUNE_FUZZ "Build tests/fuzz as libFuzzer programs (needs clang)" OFF)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})

if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "${CMAKE_CXX_COMPILER} is GCC ${CMAKE_CXX_COMPILER_VERSION}, and 12 or newer is needed - "
                      "install one and name it: CXX=g++-12 cmake ... (in a fresh build folder)")
endif()

# A compiler cache is used where there is one, and nothing needs it.
find_program(CCACHE_PROGRAM ccache)
mark_as_advanced(CCACHE_PROGRAM)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
