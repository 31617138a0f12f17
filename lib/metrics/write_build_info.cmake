# cmake -DSOURCE=... -DOUTPUT=... -DKOIOS_VERSION=... -P write_build_info.cmake
# Writes build_info.cpp; configure_file leaves it alone when nothing changed.
set(KOIOS_GIT_COMMIT unknown)
find_program(git git)
if(git)
  execute_process(COMMAND ${git} -C ${SOURCE} describe --always --abbrev=12 --dirty --exclude=*
                  OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE
                  RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed)
    set(KOIOS_GIT_COMMIT ${described})
  endif()
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/build_info.cpp.in ${OUTPUT} @ONLY)
