# The three functions by which every folder declares what it builds. Source lists are explicit.
#
#   koios_add_module(<name> SOURCES a.cpp... [KOKKOS_SOURCES k.cpp...]
#                    [DEPENDS core comm ...] [LIBRARIES MPI::MPI_CXX ...])
#     static library koios_<name>, alias koios::<name>. DEPENDS and LIBRARIES are public.
#   koios_add_executable(<name> SOURCES ... [KOKKOS_SOURCES ...] [MODULES core ...] [LIBRARIES ...]
#                        [OUTPUT_NAME koios-tokenize] [IS_UNIT_PROGRAM])
#     the target device_programs builds all of them but unit programs, which are the same on hosts.
#   koios_add_test(<name> SOURCES ... [KOKKOS_SOURCES ...] [MODULES core ...] [LIBRARIES ...]
#                  [LABELS unit] [RANKS 1 2 4] [TIMEOUT 120])
#     a GoogleTest program and its CTest entries: one labelled `unit` and `program` (the target
#     unit_programs builds all of those), or with RANKS one per number of ranks, <name>_np<n>,
#     labelled `mpi`.
#   koios_test_load(<test> <half cores> <seconds>)
#     how busy a test keeps a machine of two cores, and for how long. ctest runs side by side what
#     four half cores carry (`jobs` of the test presets), and starts the busiest first, so that
#     those which mostly wait run beside them. A test of koios_add_test: two half cores a rank.
#
# SOURCES are plain C++ for the host compiler and must not include Kokkos. KOKKOS_SOURCES may: they
# are C++ in the host build and CUDA in the cuda build, where KOIOS_CUDA is also defined.

function(koios_compile_options target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/lib ${CMAKE_SOURCE_DIR})
  set(warnings -Wall -Wextra)
  if(KOIOS_WERROR)
    list(APPEND warnings -Werror)
  endif()
  if(KOIOS_HOST_ARCH)
    list(APPEND warnings -march=${KOIOS_HOST_ARCH})
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12.3)
    list(APPEND warnings -Wno-restrict) # false alarms on std::string::insert, gcc bug 105651
  endif()
  list(JOIN warnings "," forwarded)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>"
    "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${forwarded}>")
  if(KOIOS_CUDA)
    target_compile_definitions(${target} PRIVATE KOIOS_CUDA)
    if(KOIOS_WERROR)
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
    endif()
  endif()
endfunction()

# Kokkos is linked whole by who has KOKKOS_SOURCES; others get its libraries at the final link only.
function(koios_use_kokkos target)
  target_link_libraries(${target} PRIVATE Kokkos::kokkos)
  if(NOT KOIOS_CUDA)
    return()
  endif()
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CUDA)
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}"
                        CUDA_SEPARABLE_COMPILATION OFF)
  if(koios_cuda13_shim)
    target_compile_options(${target} PRIVATE
      "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-include ${PROJECT_SOURCE_DIR}/tools/cmake/cuda13_compat.hpp>")
  endif()
endfunction()

function(koios_add_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;KOKKOS_SOURCES;DEPENDS;LIBRARIES")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "koios_add_module(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_SOURCES OR arg_KOKKOS_SOURCES)
    add_library(koios_${name} STATIC ${arg_SOURCES} ${arg_KOKKOS_SOURCES})
  else()
    message(FATAL_ERROR "koios_add_module(${name}): no sources")
  endif()
  add_library(koios::${name} ALIAS koios_${name})
  koios_compile_options(koios_${name})
  list(TRANSFORM arg_DEPENDS PREPEND koios::)
  target_link_libraries(koios_${name} PUBLIC ${arg_DEPENDS} ${arg_LIBRARIES})
  if(arg_KOKKOS_SOURCES)
    koios_use_kokkos(koios_${name} ${arg_KOKKOS_SOURCES})
  endif()
endfunction()

function(koios_add_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "IS_UNIT_PROGRAM" "OUTPUT_NAME"
                        "SOURCES;KOKKOS_SOURCES;MODULES;LIBRARIES")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "koios_add_executable(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  add_executable(${name} ${arg_SOURCES} ${arg_KOKKOS_SOURCES})
  koios_compile_options(${name})
  list(TRANSFORM arg_MODULES PREPEND koios::)
  target_link_libraries(${name} PRIVATE ${arg_MODULES} ${arg_LIBRARIES})
  if(arg_KOKKOS_SOURCES)
    koios_use_kokkos(${name} ${arg_KOKKOS_SOURCES})
  endif()
  if(NOT arg_IS_UNIT_PROGRAM)
    if(NOT TARGET device_programs)
      add_custom_target(device_programs)
    endif()
    add_dependencies(device_programs ${name})
  endif()
  if(arg_OUTPUT_NAME)
    set_target_properties(${name} PROPERTIES OUTPUT_NAME ${arg_OUTPUT_NAME})
  endif()
  if(KOIOS_CUDA)
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  endif()
endfunction()

# What Open MPI needs to run tests as root, in containers and on fewer cores than ranks.
set(koios_mpi_test_environment
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
    OMP_NUM_THREADS=1 KOKKOS_DISABLE_WARNINGS=1)

function(koios_test_load name half_cores seconds)
  math(EXPR cost "1000 * ${half_cores} + ${seconds}") # ctest's order: the greatest first
  set_tests_properties(${name} PROPERTIES PROCESSORS ${half_cores} COST ${cost})
endfunction()

function(koios_add_test name)
  if(NOT GTest_FOUND)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT"
                        "SOURCES;KOKKOS_SOURCES;MODULES;LIBRARIES;LABELS;RANKS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "koios_add_test(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(arg_RANKS)
    list(APPEND arg_SOURCES ${CMAKE_SOURCE_DIR}/tests/mpi_gtest_main.cpp)
    list(APPEND arg_LIBRARIES GTest::gtest MPI::MPI_CXX)
    list(APPEND arg_LABELS mpi)
  else()
    list(APPEND arg_LIBRARIES GTest::gtest_main)
    if(NOT arg_LABELS)
      set(arg_LABELS unit program)
    endif()
  endif()
  set(is_unit_program)
  if(program IN_LIST arg_LABELS AND NOT arg_RANKS)
    set(is_unit_program IS_UNIT_PROGRAM)
  endif()
  koios_add_executable(${name} SOURCES ${arg_SOURCES} KOKKOS_SOURCES ${arg_KOKKOS_SOURCES}
                       MODULES ${arg_MODULES} LIBRARIES ${arg_LIBRARIES} ${is_unit_program})
  if(NOT arg_RANKS)
    if(program IN_LIST arg_LABELS)
      if(NOT TARGET unit_programs)
        add_custom_target(unit_programs)
      endif()
      add_dependencies(unit_programs ${name})
    endif()
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
                         PROCESSORS 2 ENVIRONMENT "${koios_mpi_test_environment}")
    return()
  endif()
  foreach(ranks ${arg_RANKS})
    math(EXPR half_cores "2 * ${ranks}")
    add_test(NAME ${name}_np${ranks}
             COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none
                     ${MPIEXEC_NUMPROC_FLAG} ${ranks} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}_np${ranks} PROPERTIES LABELS "${arg_LABELS}" PROCESSORS ${half_cores}
                         TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "${koios_mpi_test_environment}")
  endforeach()
endfunction()
