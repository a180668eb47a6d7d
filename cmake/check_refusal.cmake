# SPDX-License-Identifier: Apache-2.0
# cmake -D COMPILER=c++ -D SOURCE=refuse/x.cpp -D INCLUDES=a|b -P check_refusal.cmake
# Fails unless SOURCE is refused by the compiler with the sentence of its comment `// expect: <sentence>`,
# which may go on in the comment lines after it.
cmake_minimum_required(VERSION 3.22)
file(READ "${SOURCE}" text)
string(REGEX MATCH "// expect: *([^\n]+(\n// [^\n]+)*)" line "${text}")
string(REPLACE "\n// " " " expect "${CMAKE_MATCH_1}")
if(NOT expect)
  message(FATAL_ERROR "${SOURCE} has no line '// expect: <sentence>'")
endif()
string(REPLACE "|" ";" includes "${INCLUDES}")
list(TRANSFORM includes PREPEND "-I")
execute_process(COMMAND "${COMPILER}" -std=c++20 -fsyntax-only ${includes} "${SOURCE}"
                RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, but must be refused with: ${expect}")
endif()
string(FIND "${output}" "${expect}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "${SOURCE} is refused, but not with: ${expect}\n${output}")
endif()
