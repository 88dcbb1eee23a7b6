# What a build may choose. Every value has a default that works on a bare machine.
set(PERILUNE_CUDA AUTO CACHE STRING "GPU kernels: AUTO (when a CUDA toolkit is found), ON or OFF")
set(PERILUNE_SANITIZE "" CACHE STRING "Sanitizers to build with, for example address,undefined")
option(PERILUNE_ALL_GPUS "Machine code for every supported GPU instead of sm_90 and PTX" OFF)
option(PERILUNE_FUZZ "Build tests/fuzz as libFuzzer programs (needs clang)" OFF)

# Tests need packages that the program does not: AUTO builds them where GoogleTest is.
set(PERILUNE_TESTS AUTO CACHE STRING "Build the tests: AUTO, ON or OFF")
set_property(CACHE PERILUNE_CUDA PERILUNE_TESTS PROPERTY STRINGS AUTO ON OFF)
if(PERILUNE_TESTS STREQUAL AUTO)
  find_package(GTest QUIET)
  set(PERILUNE_TESTS ${GTest_FOUND})
elseif(PERILUNE_TESTS)
  find_package(GTest REQUIRED)
endif()

# The Python module needs nanobind, which is looked for where tools/setup --tests and pip put it.
set(PERILUNE_PYTHON AUTO CACHE STRING "Build the Python module: AUTO (where nanobind is found), ON or OFF")
set_property(CACHE PERILUNE_PYTHON PROPERTY STRINGS AUTO ON OFF)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})

find_program(CCACHE_PROGRAM ccache)
mark_as_advanced(CCACHE_PROGRAM)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
