// SPDX-License-Identifier: Apache-2.0
// Sums over all images of a batch, as gradients of biases, moments and the loss need them.
#pragma once

#include <algorithm>
#include <cstddef>

#include "elastic/model/detail/device_index.hpp"
#include "elastic/ops.hpp"

namespace elastic::model::detail {

/// Of one channel, its j-th value.
struct ChannelValue {
  ChannelIndex index;
  float const* x;
  ELASTIC_FN double operator()(std::size_t channel, std::size_t j) const {
    return double(x[index(channel, j)]);
  }
};
struct StoreFloat {
  float* to;
  ELASTIC_FN void operator()(std::size_t row, double sum) const { to[row] = static_cast<float>(sum); }
};

/// The sums of term(row, j) over all j, cut so that a few rows keep a whole GPU busy, too.
template <class Term>
struct SumPart {
  Term term;
  std::size_t parts, columns, all;
  ELASTIC_FN double operator()(std::size_t part, std::size_t k) const {
    std::size_t const row = part / parts, j = (part - row * parts) * columns + k;
    return j < all ? term(row, j) : 0.0;
  }
};
struct SumOfParts {
  double const* sums;
  std::size_t parts;
  ELASTIC_FN double operator()(std::size_t row, std::size_t part) const { return sums[row * parts + part]; }
};
struct StoreDouble {
  double* to;
  ELASTIC_FN void operator()(std::size_t row, double sum) const { to[row] = sum; }
};

/// out(row, sum of term(row, j) over j in [0, columns)).
template <class Run, class Term, class Out>
void sum_long_rows(Run& run, std::size_t rows, std::size_t columns, Term term, Out out) {
  std::size_t const parts = std::min((columns + 1023) / 1024, run.partial_sums.size() / rows);
  if (parts < 2) return run.device.template sum_rows<double>(rows, columns, term, out);
  double* const sums = run.partial_sums.data();
  run.device.template sum_rows<double>(rows * parts, (columns + parts - 1) / parts,
                                       SumPart<Term>{term, parts, (columns + parts - 1) / parts, columns},
                                       StoreDouble{sums});
  run.device.template sum_rows<double>(rows, parts, SumOfParts{sums, parts}, out);
}

}  // namespace elastic::model::detail
