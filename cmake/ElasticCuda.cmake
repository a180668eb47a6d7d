# SPDX-License-Identifier: Apache-2.0
# CUDA as a language of elastic's own tests, samples and benches: where nvcc is, they are compiled for one chip and as
# portable PTX; where it is not, sources that end in .cu are left out. No GPU is needed to compile.
include(CheckLanguage)

option(ELASTIC_CUDA "Compile the .cu sources where nvcc is found" ON)
if(ELASTIC_CUDA AND NOT ELASTIC_SANITIZE AND TARGET elastic::cuda)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES) # CMake's own default is one that new toolkits have dropped
    set(CMAKE_CUDA_ARCHITECTURES "75-virtual;90-real" CACHE STRING "what .cu sources are compiled for")
  endif()
  if(NOT DEFINED CMAKE_CUDA_COMPILER AND DEFINED CUDAToolkit_NVCC_EXECUTABLE)
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  endif()
  if(NOT DEFINED CMAKE_CUDA_HOST_COMPILER AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  endif()
  check_language(CUDA)
endif()
if(ELASTIC_CUDA AND CMAKE_CUDA_COMPILER AND NOT ELASTIC_SANITIZE)
  enable_language(CUDA)
  if(CMAKE_CXX_COMPILER_LAUNCHER AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  endif()
  set(elastic_has_nvcc TRUE)
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION}, compiled for ${CMAKE_CUDA_ARCHITECTURES}")
else()
  set(elastic_has_nvcc FALSE)
  message(STATUS "CUDA: nvcc not used: .cu sources are off")
endif()
