# Decides whether GPU kernels are built, and for which GPUs. Sets PERILUNE_HAS_CUDA; where it is OFF, PERILUNE_NO_CUDA
# says why; PERILUNE_GPUS describes what is built for.
set(PERILUNE_HAS_CUDA OFF)
set(PERILUNE_GPUS none)

# This machine's GPUs: 90, or 89;86 for two kinds, best first; empty without one.
set(compute_capabilities)
find_program(PERILUNE_NVIDIA_SMI nvidia-smi PATHS /usr/lib/wsl/lib)
mark_as_advanced(PERILUNE_NVIDIA_SMI)
if(PERILUNE_NVIDIA_SMI AND NOT PERILUNE_CUDA STREQUAL OFF)
  execute_process(COMMAND ${PERILUNE_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE answer RESULT_VARIABLE status ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(status EQUAL 0)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]" compute_capabilities "${answer}")
    list(TRANSFORM compute_capabilities REPLACE "\\." "")
    list(REMOVE_DUPLICATES compute_capabilities)
    list(SORT compute_capabilities COMPARE NATURAL ORDER DESCENDING)
  endif()
endif()

if(PERILUNE_CUDA STREQUAL OFF)
  set(PERILUNE_NO_CUDA "PERILUNE_CUDA=OFF")
  return()
endif()
if(PERILUNE_CUDA STREQUAL AUTO AND NOT compute_capabilities)
  set(PERILUNE_NO_CUDA "no GPU was found")
  return()
endif()

# cuda_missing(<problem> <what to do>): an error where GPU kernels were asked for, elsewhere why there are none.
macro(cuda_missing problem remedy)
  if(PERILUNE_CUDA STREQUAL AUTO)
    set(PERILUNE_NO_CUDA "${problem}")
    message(STATUS "A GPU is here, but ${problem}: building for the CPU only - ${remedy}, then build again")
    return()
  endif()
  message(FATAL_ERROR "PERILUNE_CUDA is ON, but ${problem} - ${remedy}, or configure with -DPERILUNE_CUDA=AUTO")
endmacro()

# The toolkit's installer does not put nvcc on the PATH.
if(NOT DEFINED ENV{CUDACXX})
  find_program(PERILUNE_NVCC nvcc PATHS /usr/local/cuda/bin)
  mark_as_advanced(PERILUNE_NVCC)
  if(PERILUNE_NVCC)
    set(ENV{CUDACXX} ${PERILUNE_NVCC})
  endif()
endif()
if(NOT DEFINED ENV{CUDACXX})
  cuda_missing("no CUDA compiler was found" "install a CUDA toolkit (13.0 or newer) or set CUDACXX to its nvcc")
endif()
execute_process(COMMAND $ENV{CUDACXX} --version OUTPUT_VARIABLE answer ERROR_VARIABLE answer RESULT_VARIABLE status)
if(NOT status EQUAL 0 OR NOT answer MATCHES "release ([0-9]+\\.[0-9]+)")
  cuda_missing("$ENV{CUDACXX} does not run" "set CUDACXX to a working nvcc")
endif()
if(CMAKE_MATCH_1 VERSION_LESS 13.0)  # whose interface to graphs host/device/device_cuda.cpp uses
  cuda_missing("$ENV{CUDACXX} is of CUDA ${CMAKE_MATCH_1}, and 13.0 or newer is needed"
               "install a newer toolkit or set CUDACXX to its nvcc")
endif()
execute_process(COMMAND $ENV{CUDACXX} --list-gpu-arch OUTPUT_VARIABLE answer)
string(REGEX MATCHALL "[0-9]+" known "${answer}")

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  if(PERILUNE_ALL_GPUS)
    set(CMAKE_CUDA_ARCHITECTURES 75 80 86 89 90 100 120)
  elseif(compute_capabilities)
    # What a toolkit does not know yet runs the newest code it does know, as PTX.
    foreach(capability IN LISTS compute_capabilities)
      if(capability IN_LIST known)
        list(APPEND CMAKE_CUDA_ARCHITECTURES ${capability}-real)
      elseif(capability GREATER 75)
        list(GET known -1 newest)
        list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
      endif()
    endforeach()
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      cuda_missing("the GPU's compute capability (${compute_capabilities}) is below 7.5" "use another GPU")
    endif()
  else()  # H100 and H200, and as PTX for what comes after them
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  # Tests look at what is compiled for the newest one that is supported everywhere, and run its PTX.
  if(PERILUNE_TESTS AND NOT "${CMAKE_CUDA_ARCHITECTURES}" MATCHES "90")
    list(APPEND CMAKE_CUDA_ARCHITECTURES 90-real)
  endif()
endif()
list(JOIN CMAKE_CUDA_ARCHITECTURES " " PERILUNE_GPUS)
string(PREPEND PERILUNE_GPUS "sm_")
string(REPLACE " " " sm_" PERILUNE_GPUS "${PERILUNE_GPUS}")
string(REPLACE "-real" "" PERILUNE_GPUS "${PERILUNE_GPUS}")

include(CheckLanguage)
set(CMAKE_MESSAGE_LOG_LEVEL NOTICE)
check_language(CUDA)
unset(CMAKE_MESSAGE_LOG_LEVEL)
if(NOT CMAKE_CUDA_COMPILER)
  cuda_missing("$ENV{CUDACXX} cannot compile a program (has it a host compiler it supports?)"
               "see CMakeFiles/CMakeError.log or CMakeConfigureLog.yaml in the build folder, or set CUDAHOSTCXX")
endif()

enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(PERILUNE_HAS_CUDA ON)

# CMake 3.25 does not know how nvcc spells C++20.
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_FLAGS_RELEASE "-DNDEBUG")  # optimisation is in the list below, for every build type
set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "")

# Compressed for size, GPU code is a fifth as large, and takes no longer to compile.
set(PERILUNE_CUDA_FLAGS
    -O3 -fmad=false --expt-relaxed-constexpr -lineinfo --compress-mode=size
    -Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion)
if(CMAKE_COMPILE_WARNING_AS_ERROR)
  list(APPEND PERILUNE_CUDA_FLAGS -Werror=cross-execution-space-call,default-stream-launch -Xcompiler=-Werror)
endif()
if(PERILUNE_TESTS)
  list(PREPEND CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/tools/cmake/nvcc_with_report)
endif()
if(PERILUNE_ALL_GPUS)
  list(APPEND PERILUNE_CUDA_FLAGS --threads 2)
endif()
