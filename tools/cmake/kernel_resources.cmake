# kernel_resources.{json,txt}: registers, shared memory and spills of every kernel, and what its PTX must not hold, from what
# nvcc_with_report kept when the kernels were compiled. Made for tests only: a user's build does not wait for it.
set(units)
foreach(source IN LISTS PERILUNE_CUDA_SOURCES)
  cmake_path(GET source STEM name)
  string(APPEND units "${name}\n")
endforeach()
set(table ${PROJECT_BINARY_DIR}/kernel_resources)
file(CONFIGURE OUTPUT ${table}_units.list CONTENT "${units}" @ONLY)

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_custom_command(
  OUTPUT ${table}.json ${table}.txt
  COMMAND ${Python3_EXECUTABLE} -B ${PROJECT_SOURCE_DIR}/tools/cmake/kernel_resources.py
          $<TARGET_PROPERTY:kernels,BINARY_DIR>/CMakeFiles/kernels.dir ${table}_units.list ${table}
  DEPENDS kernels ${table}_units.list ${PROJECT_SOURCE_DIR}/tools/cmake/kernel_resources.py VERBATIM
  COMMENT "Writing kernel_resources.json")
add_custom_target(kernel_resources ALL DEPENDS ${table}.json)
