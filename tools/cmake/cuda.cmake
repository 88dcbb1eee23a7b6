# Finds the CUDA toolkit. Sets PERILUNE_HAS_CUDA; without a toolkit the build is for the CPU only, and says so.
set(PERILUNE_HAS_CUDA OFF)
if(PERILUNE_CUDA STREQUAL OFF)
  message(STATUS "PERILUNE_CUDA is OFF: building for the CPU only")
  return()
endif()

# The toolkit's installer does not put nvcc on the PATH.
if(NOT DEFINED ENV{CUDACXX})
  find_program(PERILUNE_NVCC nvcc PATHS /usr/local/cuda/bin)
  mark_as_advanced(PERILUNE_NVCC)
  if(PERILUNE_NVCC)
    set(ENV{CUDACXX} ${PERILUNE_NVCC})
  endif()
endif()

# Not `native`, which is an error without a GPU. sm_90 as machine code, PTX for all from sm_75 on; tensor-core kernels
# begin with 80, so that PTX of it is needed for all other GPUs that have them.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90-real 80-virtual 75-virtual)
  if(PERILUNE_ALL_GPUS)
    set(CMAKE_CUDA_ARCHITECTURES 75 80 86 89 90 100 120)
  endif()
endif()

include(CheckLanguage)
set(CMAKE_MESSAGE_LOG_LEVEL NOTICE)
check_language(CUDA)
unset(CMAKE_MESSAGE_LOG_LEVEL)
if(NOT CMAKE_CUDA_COMPILER)
  if(PERILUNE_CUDA STREQUAL AUTO)
    message(STATUS "CUDA toolkit not found: building for the CPU only")
    return()
  endif()
  message(FATAL_ERROR "PERILUNE_CUDA is ON but no CUDA compiler was found - install a CUDA toolkit, "
                      "set CUDACXX to its nvcc, or configure with -DPERILUNE_CUDA=AUTO")
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

# What the generated code depends on; the resource table is compiled with the same list.
set(PERILUNE_CUDA_CODE_FLAGS -O3 -fmad=false --expt-relaxed-constexpr -lineinfo)
set(PERILUNE_CUDA_FLAGS
    ${PERILUNE_CUDA_CODE_FLAGS}
    -Werror=cross-execution-space-call,default-stream-launch
    -Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion,-Werror)
if(PERILUNE_ALL_GPUS)
  list(APPEND PERILUNE_CUDA_FLAGS --compress-mode=size --threads 2)
endif()
