# koios_kokkos_unfit(<backend> <variable>): why the Kokkos just found cannot serve that build, or
# empty. Also says, in koios_cuda13_shim, whether its users need cuda13_compat.hpp.
set(koios_cuda13_shim OFF)

function(koios_kokkos_unfit backend variable)
  set(reason "")
  if(backend STREQUAL "host")
    if("CUDA" IN_LIST Kokkos_DEVICES)
      set(reason "is built for CUDA, which the host build cannot include")
    elseif(NOT "OPENMP" IN_LIST Kokkos_DEVICES)
      set(reason "is built without OpenMP")
    endif()
  elseif(NOT "CUDA" IN_LIST Kokkos_DEVICES)
    set(reason "is built without CUDA")
  elseif(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 13 AND Kokkos_VERSION VERSION_LESS 4.7.1)
    # Kernels that capture its default (mdspan-based) View read garbage there, without a warning.
    set(koios_cuda13_shim ON PARENT_SCOPE)
    if(NOT "IMPL_VIEW_LEGACY" IN_LIST Kokkos_OPTIONS)
      set(reason "(${Kokkos_VERSION}) computes garbage with CUDA 13 unless built with -DKokkos_ENABLE_IMPL_VIEW_LEGACY=ON; 4.7.1 and later are fine")
    endif()
  endif()
  set(${variable} "${reason}" PARENT_SCOPE)
endfunction()
