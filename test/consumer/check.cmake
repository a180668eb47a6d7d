# SPDX-License-Identifier: Apache-2.0
# cmake -D WAY=find_package|add_subdirectory|pkg_config -D TREE=<repository> -D BUILT=<its build folder>
#       -D WORK=<scratch folder> -D CXX=<compiler> -D COMPONENTS=a|b -P check.cmake
# Builds and runs the consumer one way, from a copy outside the tree under a path with a space in it.
cmake_minimum_required(VERSION 3.22)

# run(<command>...) fails with the command's output; refuse(<sentence> <command>...) fails unless the command
# fails and says the sentence.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}: exit status ${status}\n${output}")
  endif()
  message("${output}")
endfunction()
function(refuse sentence)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}") # CMake wraps messages
  string(FIND "${output}" "${sentence}" at)
  if(status EQUAL 0 OR at EQUAL -1)
    message(FATAL_ERROR "expected a refusal that says '${sentence}', got status ${status}:\n${output}")
  endif()
endfunction()
# A header that warns: a consumer must not see it.
function(make_sloppy include)
  file(APPEND "${include}/elastic/version.hpp" "inline int sloppy(double x) { return (int)x + (x > 1e9 ? x : 0); }\n")
endfunction()

set(WORK "${WORK}/${WAY} with a space")
file(REMOVE_RECURSE "${WORK}")
file(COPY "${TREE}/test/consumer/CMakeLists.txt" "${TREE}/test/consumer/main.cpp" DESTINATION "${WORK}/consumer")
set(configure ${CMAKE_COMMAND} -S "${WORK}/consumer" -B "${WORK}/build" "-DCMAKE_CXX_COMPILER=${CXX}")
string(REPLACE "|" "\;" components "${COMPONENTS}")

if(WAY STREQUAL "add_subdirectory")
  file(COPY "${TREE}/CMakeLists.txt" "${TREE}/cmake" "${TREE}/include" DESTINATION "${WORK}/tree")
  make_sloppy("${WORK}/tree/include")
  run(${configure} "-DELASTIC_TREE=${WORK}/tree" "-DELASTIC_COMPONENTS=${components}")
else()
  run(${CMAKE_COMMAND} --install "${BUILT}" --prefix "${WORK}/installed")
  file(RENAME "${WORK}/installed" "${WORK}/moved") # relocatable
endif()
if(WAY STREQUAL "find_package")
  make_sloppy("${WORK}/moved/include")
  list(APPEND configure "-DCMAKE_PREFIX_PATH=${WORK}/moved")
  refuse("there is no component 'telepathy'; the components are eigen" ${configure} -DELASTIC_COMPONENTS=telepathy)
  refuse("component 'eigen' needs Eigen 3.3, which was not found (Debian: libeigen3-dev)" ${configure}
         -DELASTIC_COMPONENTS=eigen -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
  file(REMOVE_RECURSE "${WORK}/build")
  run(${configure} "-DELASTIC_COMPONENTS=${components}")
endif()
if(WAY STREQUAL "pkg_config")
  find_program(pkg_config NAMES pkg-config pkgconf)
  if(NOT pkg_config)
    message("skipped: pkg-config was not found")
    return()
  endif()
  file(MAKE_DIRECTORY "${WORK}/build")
  file(WRITE "${WORK}/compile" "export PKG_CONFIG_PATH='${WORK}/moved/share/pkgconfig'\n"
       "flags=$('${pkg_config}' --cflags --libs elastic) || exit\n"
       "eval \"'${CXX}' -std=c++20 -Wall -Wextra -Werror '${WORK}/consumer/main.cpp' -o '${WORK}/build/consumer' $flags\"\n")
  run(sh "${WORK}/compile")
else()
  run(${CMAKE_COMMAND} --build "${WORK}/build")
endif()
run("${WORK}/build/consumer")
