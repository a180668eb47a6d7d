# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=<program> -D PAGE=docs/x.md -P check_page.cmake
# Fails unless PAGE is what PROGRAM prints: some pages of docs/ are made from the code they describe.
cmake_minimum_required(VERSION 3.22)
execute_process(COMMAND "${PROGRAM}" RESULT_VARIABLE status OUTPUT_VARIABLE printed)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM}: exit status ${status}")
endif()
set(written)
if(EXISTS "${PAGE}")
  file(READ "${PAGE}" written)
endif()
if(NOT printed STREQUAL written)
  message(FATAL_ERROR "${PAGE} is not what the code says. Write it anew, look at the difference, commit it:\n"
          "  ${PROGRAM} > ${PAGE}")
endif()
