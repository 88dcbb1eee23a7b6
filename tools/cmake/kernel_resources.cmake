# kernel_resources.{json,txt}: registers, shared memory and spills of every kernel, and what its PTX must not hold.
# Made for tests only: a user's build of the program does not wait for it.
file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cu)
if(NOT cuda_sources)
  return()
endif()
find_program(PERILUNE_PTXAS ptxas HINTS ${CUDAToolkit_BIN_DIR} REQUIRED)
mark_as_advanced(PERILUNE_PTXAS)

set(reports)
foreach(source IN LISTS cuda_sources)
  get_filename_component(name ${source} NAME_WE)
  foreach(arch IN ITEMS 90 75)
    set(base ${PROJECT_BINARY_DIR}/resources/${name}_${arch})
    add_custom_command(
      OUTPUT ${base}.ptx
      COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/resources
      COMMAND ${CCACHE_PROGRAM} ${CMAKE_CUDA_COMPILER} -std=c++20 ${PERILUNE_CUDA_CODE_FLAGS}
              -DPERILUNE_HAS_CUDA=1 -I${PROJECT_SOURCE_DIR} -ptx -arch=compute_${arch}
              -MD -MF ${base}.d -MT ${base}.ptx -o ${base}.ptx ${source}
      DEPENDS ${source} DEPFILE ${base}.d VERBATIM
      COMMENT "Compiling kernels/${name}.cu to PTX for sm_${arch}")
    add_custom_command(
      OUTPUT ${base}.log
      COMMAND ${PERILUNE_PTXAS} -v -O3 --generate-line-info -arch=sm_${arch} -o ${base}.cubin
              ${base}.ptx 2> ${base}.log
      DEPENDS ${base}.ptx VERBATIM
      COMMENT "Assembling kernels/${name}.cu for sm_${arch}")
    list(APPEND reports ${base}.ptx ${base}.log)
  endforeach()
endforeach()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(table ${PROJECT_BINARY_DIR}/kernel_resources)
add_custom_command(
  OUTPUT ${table}.json ${table}.txt
  COMMAND ${Python3_EXECUTABLE} -B ${PROJECT_SOURCE_DIR}/tools/cmake/kernel_resources.py
          ${PROJECT_BINARY_DIR}/resources ${table}
  DEPENDS ${reports} ${PROJECT_SOURCE_DIR}/tools/cmake/kernel_resources.py VERBATIM
  COMMENT "Writing kernel_resources.json")
add_custom_target(kernel_resources ALL DEPENDS ${table}.json)
