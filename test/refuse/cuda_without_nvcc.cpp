// SPDX-License-Identifier: Apache-2.0
// A header with kernels, compiled by a compiler that has none.
// expect: compile this file as CUDA (.cu), or include elastic/device/cpu.hpp
#include "elastic/device/cuda.cuh"
