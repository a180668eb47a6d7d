// SPDX-License-Identifier: Apache-2.0
// Endless normal noise: the data of model::Quadratic.
#pragma once

#include <istream>
#include <ostream>
#include <random>
#include <vector>

namespace elastic::data {

/// Batches of n values from N(0, sigma^2); equal for equal seeds on one standard library. Its place can be written
/// to and read from a stream.
template <class T = float>
class Noise {
 public:
  Noise(std::size_t n, T sigma, unsigned seed) : batch_(n), normal_(0, sigma), random_(seed) {}

  std::vector<T> const& next() {
    for (T& value : batch_) value = normal_(random_);
    return batch_;
  }

  friend std::ostream& operator<<(std::ostream& out, Noise const& noise) {
    return out << noise.random_ << ' ' << noise.normal_;
  }
  friend std::istream& operator>>(std::istream& in, Noise& noise) {
    return in >> noise.random_ >> noise.normal_;
  }

 private:
  std::vector<T> batch_;
  std::normal_distribution<T> normal_;
  std::mt19937_64 random_;
};

}  // namespace elastic::data
