// SPDX-License-Identifier: Apache-2.0
// What Boost.Asio must be told before its first header.
#pragma once

// GCC's ThreadSanitizer knows no fences; nothing here relies on Asio's, for a mutex guards all of it.
#if defined(__SANITIZE_THREAD__) && !defined(BOOST_ASIO_DISABLE_FENCED_BLOCK)
#define BOOST_ASIO_DISABLE_FENCED_BLOCK
#endif

// nvcc rewrites the variable templates of Asio's traits into what g++ does not compile; Asio does without them.
#if defined(__CUDACC__) && !defined(BOOST_ASIO_DISABLE_VARIABLE_TEMPLATES)
#define BOOST_ASIO_DISABLE_VARIABLE_TEMPLATES
#endif
