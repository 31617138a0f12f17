# Finds all that Koios links. The site's own libraries come first; for Kokkos and the cuDNN frontend
# the cache of tools/setup.sh comes second. Every message names the fix.

# koios_missing(WHAT FIX): the one way in which a missing dependency is reported.
function(koios_missing what fix)
  message(FATAL_ERROR "${what} not found. ${fix}")
endfunction()
set(koios_setup_hint "On Debian: tools/setup.sh; elsewhere load the site's module or set CMAKE_PREFIX_PATH.")

if(DEFINED ENV{KOIOS_DEPS})
  set(koios_cache $ENV{KOIOS_DEPS})
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(koios_cache $ENV{XDG_CACHE_HOME}/koios)
else()
  set(koios_cache $ENV{HOME}/.cache/koios)
endif()

# ---- ccache, unless a launcher is already chosen --------------------------------------------------
find_program(KOIOS_CCACHE ccache)
mark_as_advanced(KOIOS_CCACHE)
foreach(language C CXX CUDA)
  if(KOIOS_CCACHE AND NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
    set(CMAKE_${language}_COMPILER_LAUNCHER ${KOIOS_CCACHE})
  endif()
endforeach()

# ---- CUDA -----------------------------------------------------------------------------------------
if(KOIOS_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90 CACHE STRING "GPU architectures, 90 = H100 and H200")
  endif()
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(koios_nvcc nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(koios_nvcc)
    if(NOT koios_nvcc)
      koios_missing("nvcc" "The cuda preset needs the CUDA toolkit (12 or later): set CUDACXX, or use --preset host.")
    endif()
    set(CMAKE_CUDA_COMPILER ${koios_nvcc} CACHE FILEPATH "CUDA compiler")
  endif()
  enable_language(CUDA)
  if(NOT "cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES) # CMake before 3.25.2
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -g -lineinfo -DNDEBUG")
  find_package(CUDAToolkit 12.0 REQUIRED)
  find_package(NCCL)
  if(NOT NCCL_FOUND)
    koios_missing("NCCL" "Install libnccl-dev, or set NCCL_ROOT to the folder that holds include/nccl.h.")
  endif()
  find_package(CUDNN) # optional: without it attention is our own kernel
endif()

# ---- Kokkos ---------------------------------------------------------------------------------------
include(KokkosFitness)
if("${Kokkos_DIR}" MATCHES "^${koios_cache}/")
  unset(Kokkos_DIR CACHE) # found by an earlier configure; the pin may have moved since
endif()
find_package(Kokkos 4.7 QUIET)
if(NOT Kokkos_FOUND)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/setup.sh --kokkos-prefix ${KOIOS_BACKEND}
                  OUTPUT_VARIABLE koios_kokkos_prefix OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  unset(Kokkos_DIR CACHE)
  find_package(Kokkos 4.7 QUIET PATHS "${koios_kokkos_prefix}" NO_DEFAULT_PATH)
endif()
if(NOT Kokkos_FOUND)
  koios_missing("Kokkos 4.7 or later for the ${KOIOS_BACKEND} build"
                "Run tools/setup.sh, or set Kokkos_ROOT to the site's own.")
endif()
koios_kokkos_unfit(${KOIOS_BACKEND} unfit)
if(unfit)
  message(FATAL_ERROR "Kokkos in ${Kokkos_DIR} ${unfit}. Set Kokkos_ROOT to another; or run tools/setup.sh, then add -DKokkos_ROOT=$(tools/setup.sh --kokkos-prefix ${KOIOS_BACKEND}).")
endif()
message(STATUS "Kokkos ${Kokkos_VERSION} in ${Kokkos_DIR}: ${Kokkos_DEVICES}")

# ---- MPI, OpenMP, HDF5 ----------------------------------------------------------------------------
set(MPI_CXX_SKIP_MPICXX ON) # the C API only
find_package(MPI COMPONENTS CXX)
if(NOT MPI_CXX_FOUND)
  koios_missing("MPI" "${koios_setup_hint}")
endif()
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)

set(HDF5_PREFER_PARALLEL ON)
find_package(HDF5 QUIET COMPONENTS C)
if(NOT HDF5_FOUND)
  koios_missing("HDF5" "${koios_setup_hint}")
elseif(NOT HDF5_IS_PARALLEL)
  koios_missing("Parallel HDF5 (only a serial one is there)" "${koios_setup_hint}")
endif()

add_library(koios_hdf5 INTERFACE) # the parallel hdf5.h includes mpi.h
add_library(koios::hdf5 ALIAS koios_hdf5)
target_link_libraries(koios_hdf5 INTERFACE HDF5::HDF5 MPI::MPI_CXX)

# ---- libraries known to pkg-config only -----------------------------------------------------------
find_package(PkgConfig REQUIRED)
foreach(library inih sentencepiece)
  pkg_check_modules(${library} QUIET IMPORTED_TARGET ${library})
  if(NOT ${library}_FOUND)
    koios_missing("${library}" "${koios_setup_hint}")
  endif()
endforeach()
# The training half of SentencePiece is not used.
list(FILTER sentencepiece_LINK_LIBRARIES EXCLUDE REGEX "sentencepiece_train")
set_property(TARGET PkgConfig::sentencepiece
             PROPERTY INTERFACE_LINK_LIBRARIES ${sentencepiece_LINK_LIBRARIES})

foreach(library nlohmann_json fmt)
  find_package(${library} QUIET)
  if(NOT ${library}_FOUND)
    koios_missing("${library}" "${koios_setup_hint}")
  endif()
endforeach()

# ---- compressed data -----------------------------------------------------------------------------
find_package(ZLIB QUIET)
if(NOT ZLIB_FOUND)
  koios_missing("zlib" "${koios_setup_hint}")
endif()
foreach(library zstd lzma)
  pkg_check_modules(${library} QUIET IMPORTED_TARGET lib${library})
  if(NOT ${library}_FOUND)
    koios_missing("lib${library}" "${koios_setup_hint}")
  endif()
endforeach()

# ---- cuDNN frontend: headers only, for one file ---------------------------------------------------
if(KOIOS_CUDA AND CUDNN_FOUND)
  find_path(CUDNN_FRONTEND_INCLUDE cudnn_frontend.h
            PATHS ${koios_cache}/cudnn-frontend-1.14.1 PATH_SUFFIXES include)
  if(CUDNN_FRONTEND_INCLUDE)
    add_library(koios_cudnn_frontend INTERFACE)
    add_library(koios::cudnn_frontend ALIAS koios_cudnn_frontend)
    target_include_directories(koios_cudnn_frontend SYSTEM INTERFACE ${CUDNN_FRONTEND_INCLUDE})
    target_link_libraries(koios_cudnn_frontend INTERFACE CUDNN::cudnn CUDA::cudart)
  else()
    message(STATUS "cuDNN frontend headers not found (tools/setup.sh --cuda brings them): attention without cuDNN")
  endif()
endif()

find_package(GTest QUIET)
if(NOT GTest_FOUND)
  message(STATUS "GoogleTest not found: no tests are built. ${koios_setup_hint}")
endif()
