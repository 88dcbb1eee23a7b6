# kernel_resources.{json,txt}: registers, shared memory and spills of every kernel, and what its PTX must not hold, from
# what nvcc_with_report kept when the kernels were compiled. Made for tests only: a user's build does not wait for it.
set(table ${PROJECT_BINARY_DIR}/kernel_resources)
set(objects)
foreach(target kernels kernels_oldest_gpu)
  string(APPEND objects "$<JOIN:$<FILTER:$<TARGET_OBJECTS:${target}>,INCLUDE,[.]cu[.]o$>,\n>\n")
endforeach()
file(GENERATE OUTPUT ${table}_objects.list CONTENT "${objects}")

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_custom_command(
  OUTPUT ${table}.json ${table}.txt
  COMMAND ${Python3_EXECUTABLE} -B ${PROJECT_SOURCE_DIR}/tools/cmake/kernel_resources.py ${table}_objects.list ${table}
  DEPENDS kernels $<TARGET_OBJECTS:kernels_oldest_gpu> ${table}_objects.list
          ${PROJECT_SOURCE_DIR}/tools/cmake/kernel_resources.py VERBATIM
  COMMENT "Writing kernel_resources.json")
add_custom_target(kernel_resources ALL DEPENDS ${table}.json)
