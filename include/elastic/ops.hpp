// SPDX-License-Identifier: Apache-2.0
// The elementwise arithmetic of the algorithms, written once for every device and every scalar.
#pragma once

#ifdef __CUDACC__
#define ELASTIC_FN __host__ __device__
#else
#define ELASTIC_FN
#endif

#include <cstddef>

namespace elastic {

/// Values of a delta that a center takes or leaves together in Device::exchange.
inline constexpr std::size_t exchange_block = 1024;

}  // namespace elastic

namespace elastic::ops {

/// y <- value
struct Fill {
  static constexpr bool overwrites =
      true;  // the first operand is written and never read: nobody need load it
  double value;
  template <class T>
  ELASTIC_FN void operator()(T& y) const {
    y = T(value);
  }
};

/// y <- y + x
struct Add {
  template <class T>
  ELASTIC_FN void operator()(T& y, T x) const {
    y += x;
  }
};

/// y <- y - x
struct Subtract {
  template <class T>
  ELASTIC_FN void operator()(T& y, T x) const {
    y -= x;
  }
};

/// y <- by * y
struct Scale {
  double by;
  template <class T>
  ELASTIC_FN void operator()(T& y) const {
    y *= T(by);
  }
};

/// y <- y + by * x
struct AddScaled {
  double by;
  template <class T>
  ELASTIC_FN void operator()(T& y, T x) const {
    y += T(by) * x;
  }
};

/// d <- alpha (x - c): how far the elastic force moves x toward the center.
struct Stretch {
  static constexpr bool overwrites = true;
  double alpha;
  template <class T>
  ELASTIC_FN void operator()(T& d, T x, T c) const {
    d = T(alpha) * (x - c);
  }
};

/// d <- alpha (x - c); x <- x - d: the same force, applied at once to the worker that feels it.
struct Retract {
  static constexpr bool overwrites = true;
  double alpha;
  template <class T>
  ELASTIC_FN void operator()(T& d, T& x, T c) const {
    d = T(alpha) * (x - c);
    x -= d;
  }
};

}  // namespace elastic::ops
