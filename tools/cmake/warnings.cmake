# perilune_flags: what every target is compiled with. Warnings are errors where CMAKE_COMPILE_WARNING_AS_ERROR says so.
# perilune_float_flags: what makes arithmetic the same everywhere.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# Libraries serve the program and the Python module, which exports nothing else. Hidden symbols are bound as in a
# program alone: position independence costs nothing measurable then.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g")

add_library(perilune_flags INTERFACE)
target_include_directories(perilune_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(perilune_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wconversion>)
target_compile_definitions(perilune_flags INTERFACE PERILUNE_HAS_CUDA=$<BOOL:${PERILUNE_HAS_CUDA}>)
if(PERILUNE_HAS_CUDA)
  target_compile_options(perilune_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:${PERILUNE_CUDA_FLAGS}>)
endif()

if(PERILUNE_SANITIZE)
  if(PERILUNE_HAS_CUDA)
    message(FATAL_ERROR "PERILUNE_SANITIZE (${PERILUNE_SANITIZE}) is for CPU builds - add -DPERILUNE_CUDA=OFF; "
                        "GPU code is checked with compute-sanitizer (tools/gpu-check)")
  endif()
  # Null and object-size checks find what the address sanitizer finds too, and double the time to compile the kernels.
  # Reports need files and lines only, which -g1 has, in less time than -g.
  target_compile_options(perilune_flags INTERFACE
    -g1 -fsanitize=${PERILUNE_SANITIZE} -fno-sanitize=null,object-size -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(perilune_flags INTERFACE -fsanitize=${PERILUNE_SANITIZE})
endif()
if(PERILUNE_FUZZ)
  target_compile_options(perilune_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
# For code that only drives the kernels: half the build time, and no measurable difference when it runs.
add_library(perilune_host_flags INTERFACE)
target_compile_options(perilune_host_flags INTERFACE -O1)

# -Wno-psabi: 512-bit vectors cross no binary boundary here.
add_library(perilune_float_flags INTERFACE)
target_compile_options(perilune_float_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off -fno-math-errno -fno-trapping-math -Wno-psabi>)
