# Translation units from lists of environments like kernels/environments.def: one for each environment on the CPU
# (compiled once a level), and one for each environment and precision on the GPU, so that all cores compile, and an
# edited simulator alone.
#
# perilune_units(<prefix> <file> <environments> <widths>) sets <prefix>_CPU_UNITS, <prefix>_CUDA_UNITS,
# <prefix>_ENVIRONMENT_LIST, the list to compile with: what is left of the file with these environments and widths,
# where empty means all; and <prefix>_ENVIRONMENT_HEADERS, a header that includes theirs.
function(perilune_write_unit path text)
  set(now)
  if(EXISTS ${path})
    file(READ ${path} now)
  endif()
  if(NOT now STREQUAL text)  # an unchanged file is not compiled again
    file(WRITE ${path} "${text}")
  endif()
endfunction()

function(perilune_units prefix file environments only_widths)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/units)
  set(cpu_units)
  set(cuda_units)
  set(kept)
  set(headers)
  set(known)
  set(made_of "// Made of ${file} by tools/cmake/kernel_units.cmake.\n")
  file(STRINGS ${file} lines REGEX "^PERILUNE_ENVIRONMENT\\(")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES "^PERILUNE_ENVIRONMENT\\(([A-Za-z0-9_]+), *(\"[^\"]+\"), *([0-9, ]+)\\)$")
      message(FATAL_ERROR "${file} has the line ${line} - allowed: "
                          "PERILUNE_ENVIRONMENT(type, \"its/header.hpp\", width, ...)")
    endif()
    set(environment ${CMAKE_MATCH_1})
    set(header ${CMAKE_MATCH_2})
    string(REGEX MATCHALL "[0-9]+" widths ${CMAKE_MATCH_3})
    list(APPEND known ${environment})
    if(environments AND NOT environment IN_LIST environments)
      continue()
    endif()
    if(only_widths)
      set(all ${widths})
      string(REPLACE ";" "|" pattern "${only_widths}")
      list(FILTER widths INCLUDE REGEX "^(${pattern})$")
      if(NOT widths)
        message(FATAL_ERROR "PERILUNE_WIDTHS is \"${PERILUNE_WIDTHS}\", and ${environment} has none of these - "
                            "allowed: some of ${all}")
      endif()
    endif()
    list(JOIN widths ", " widths)
    string(APPEND kept "PERILUNE_ENVIRONMENT(${environment}, ${header}, ${widths})\n")
    list(APPEND headers "#include ${header}\n")
    set(unit "${made_of}#include ${header}\n")
    set(space "namespace perilune::inline PERILUNE_LEVEL {\n")

    perilune_write_unit(${folder}/${environment}.cpp "${unit}#include \"kernels/cpu_launcher.hpp\"\n\n${space}\
void add_${environment}(KernelList& table) { add_kernels<${environment}, ${widths}>(table); }\n}\n")
    list(APPEND cpu_units ${folder}/${environment}.cpp)

    string(APPEND unit "#include \"kernels/cuda_launcher.cuh\"\n\n${space}")
    perilune_write_unit(${folder}/${environment}_fp32.cu "${unit}\
void add_${environment}(KernelList& table) { add_kernels<${environment}, ${widths}>(table); }\n}\n")
    list(APPEND cuda_units ${folder}/${environment}_fp32.cu)
    foreach(precision IN ITEMS Tf32 Bf16)
      string(TOLOWER ${precision} name)
      perilune_write_unit(${folder}/${environment}_${name}.cu "${unit}\
void set_${name}_${environment}(Kernels* kernels) {
  set_precision<${environment}, Precision::k${precision}, ${widths}>(kernels);
}\n}\n")
      list(APPEND cuda_units ${folder}/${environment}_${name}.cu)
    endforeach()
  endforeach()
  set(unknown ${environments})
  list(REMOVE_ITEM unknown ${known})
  if(unknown OR NOT cpu_units)
    message(FATAL_ERROR "PERILUNE_ENVIRONMENTS is \"${PERILUNE_ENVIRONMENTS}\" - "
                        "allowed: some of ${known}, or empty for all")
  endif()
  perilune_write_unit(${folder}/environments.def "${kept}")
  list(REMOVE_DUPLICATES headers)
  list(JOIN headers "" headers)
  perilune_write_unit(${folder}/headers.hpp "${made_of}#pragma once\n\n${headers}")
  set(${prefix}_CPU_UNITS ${cpu_units} PARENT_SCOPE)
  set(${prefix}_CUDA_UNITS ${cuda_units} PARENT_SCOPE)
  set(${prefix}_ENVIRONMENT_LIST ${folder}/environments.def PARENT_SCOPE)
  set(${prefix}_ENVIRONMENT_HEADERS ${folder}/headers.hpp PARENT_SCOPE)
endfunction()
