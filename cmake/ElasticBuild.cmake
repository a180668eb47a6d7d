# SPDX-License-Identifier: Apache-2.0
# How elastic's own tests, samples and benches are compiled: warnings, sanitizers, instruction set.

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release or RelWithDebInfo" FORCE)
endif()
set(native_default OFF)
if(PROJECT_IS_TOP_LEVEL AND CMAKE_BUILD_TYPE STREQUAL "Release")
  set(native_default ON)
endif()
option(ELASTIC_NATIVE "Compile for this machine's instruction set" ${native_default})
option(ELASTIC_WERROR "Warnings are errors" ON)
set(ELASTIC_SANITIZE "" CACHE STRING "'address,undefined' or 'thread'; empty: none")
if(NOT ELASTIC_SANITIZE MATCHES "^(|address|undefined|address,undefined|thread)$")
  message(FATAL_ERROR "ELASTIC_SANITIZE is '${ELASTIC_SANITIZE}'; expected address,undefined or thread")
endif()

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# What every own executable links besides the components it needs. CMake before 3.26 does
# not know that nvcc can C++20; nvcc warns of template lambdas that name no parameter by their type (445), and of
# references to [[nodiscard]] classes that emplace() returns (2810).
add_library(elastic_build INTERFACE)
target_link_libraries(elastic_build INTERFACE elastic::elastic)
target_compile_options(elastic_build INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wconversion -Wshadow>
                                               $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 -Xcompiler=-Wall,-Wextra,-Wno-parentheses --diag-suppress=445,2810>)
if(ELASTIC_WERROR)
  target_compile_options(elastic_build INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>
                                                 $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()
if(ELASTIC_NATIVE)
  target_compile_options(elastic_build INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU") # g++ 12's tuning for znver3 and 4 costs Eigen 15-25 %
    target_compile_options(elastic_build INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-mtune=generic>)
  endif()
endif()
if(ELASTIC_SANITIZE)
  set(flags -fsanitize=${ELASTIC_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_compile_options(elastic_build INTERFACE ${flags})
  target_link_options(elastic_build INTERFACE ${flags})
endif()

find_package(fmt QUIET)
if(fmt_FOUND) # the samples print with it; elastic itself never needs it
  add_library(elastic::fmt INTERFACE IMPORTED GLOBAL)
  target_link_libraries(elastic::fmt INTERFACE fmt::fmt)
endif()
