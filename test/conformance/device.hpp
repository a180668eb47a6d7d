// SPDX-License-Identifier: Apache-2.0
// What every device promises, against plain loops: at every alignment and length at which an implementation may
// change its way.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/wire.hpp"
#include "support/catch.hpp"
#include "support/launch.hpp"

namespace conformance {

using namespace elastic;

// Functors with names, as device code wants them.
template <class T>
struct IndexTo {
  T* to;
  ELASTIC_FN void operator()(std::size_t i) const { to[i] = T(i); }
};
template <class T>
struct Times {
  T const* from;
  ELASTIC_FN double operator()(std::size_t row, std::size_t j) const {
    return double(row + 1) * double(from[j]);
  }
};
template <class T>
struct Store {
  T* to;
  ELASTIC_FN void operator()(std::size_t row, double sum) const { to[row] = T(sum); }
};

/// A vector on a device, from a place of any alignment on.
template <class T, class Dev>
struct Placed {
  typename Dev::template Buffer<T> buffer;
  std::size_t offset, size;
  Dev& device;

  Placed(Dev& dev, std::size_t shift, std::vector<T> const& values)
      : buffer(dev.template allocate<T>(shift + values.size() + 8)),
        offset(shift),
        size(values.size()),
        device(dev) {
    std::vector<T> all(shift, T(77));
    for (T const value : values) all.push_back(value);
    all.resize(shift + size + 8, T(77));
    device.upload(Span<T const>(all), buffer.span());
  }
  auto span() const { return buffer.span().part(offset, size); }
  /// Its values; throws if something around them has changed.
  std::vector<T> values() const {
    std::vector<T> all(offset + size + 8);
    device.download(read(buffer.span()), Span<T>(all));
    for (std::size_t i = 0; i < all.size(); ++i)
      if ((i < offset || i >= offset + size) && all[i] != T(77))
        throw std::logic_error("written beyond the end");
    return {all.begin() + std::ptrdiff_t(offset), all.begin() + std::ptrdiff_t(offset + size)};
  }
};

inline constexpr std::size_t lengths[] = {1, 2, 3, 4, 5, 7, 64, 1023, 1024, 1025, 4099, 70'001};

/// Results of one rounding more or less, which a device may save by fusing.
template <class T>
bool close(std::vector<T> const& a, std::vector<T> const& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= 8 * std::numeric_limits<T>::epsilon() * (1 + std::abs(b[i]))))
      return false;
  return true;
}

template <class T, class Dev>
void elementwise(Dev& device) {
  for (std::size_t const n : lengths) {
    for (std::size_t const shift : {0u, 1u, 3u}) {
      for (std::size_t const other : {shift, std::size_t(2)}) {
        INFO(n << " values of " << sizeof(T) << " bytes from " << shift << " and " << other);
        auto const a = support::random_values<T>(n, 1), b = support::random_values<T>(n, 2),
                   c = support::random_values<T>(n, 3);
        Placed<T, Dev> const x(device, shift, a), y(device, other, b), z(device, shift, c);
        auto xs = a, ys = b, zs = c;
        auto const both = [&](auto f, auto const&... views) { device.for_each(f, views.span()...); };

        both(ops::AddScaled{0.5}, x, y);
        for (std::size_t i = 0; i < n; ++i) ops::AddScaled{0.5}(xs[i], ys[i]);
        CHECK(close(x.values(), xs));
        CHECK(y.values() == ys);  // what is only read stays, to the bit
        both(ops::Retract{0.25}, z, x, y);
        for (std::size_t i = 0; i < n; ++i) ops::Retract{0.25}(zs[i], xs[i], ys[i]);
        CHECK(close(z.values(), zs));
        CHECK(close(x.values(), xs));
        both(optimizer::ops::HeavyBall{0.9, 0.1, 1e-3}, x, y, z);
        for (std::size_t i = 0; i < n; ++i) optimizer::ops::HeavyBall{0.9, 0.1, 1e-3}(xs[i], ys[i], zs[i]);
        CHECK(close(x.values(), xs));
        CHECK(close(y.values(), ys));
        device.for_each(ops::Fill{3}, z.span());
        CHECK(z.values() == std::vector<T>(n, T(3)));
      }
    }
  }
}

/// Blocks with a value that is beyond the limit or not finite are left out of the center, and only they.
template <class T, class Dev>
void exchanges(Dev& device) {
  using Memory = typename Dev::memory;
  for (std::size_t const n : lengths) {
    for (std::size_t const shift : {0u, 1u}) {
      for (bool const wants_deltas : {false, true}) {
        INFO(n << " values of " << sizeof(T) << " bytes from " << shift << ", deltas " << wants_deltas);
        auto xs = support::random_values<T>(n, 4), cs = support::random_values<T>(n, 5);
        std::vector<T> ds(n);
        if (n > 1) xs[n / 2] = T(1e9);
        if (n > 4000) xs[n - 1] = std::numeric_limits<T>::quiet_NaN();
        Placed<T, Dev> const x(device, shift, xs), c(device, 0, cs), d(device, shift, ds);
        device.exchange(ops::Retract{0.5}, ops::AddScaled{2}, x.span(), c.span(),
                        wants_deltas ? d.span() : Span<T, Memory>(), 1e6);
        std::uint32_t refused = 0;
        for (std::size_t first = 0; first < n; first += exchange_block) {
          std::size_t const end = std::min(n, first + exchange_block);
          bool good = true;
          for (std::size_t i = first; i < end; ++i) {
            ops::Retract{0.5}(ds[i], xs[i], cs[i]);
            good = good && std::abs(ds[i]) <= T(1e6);
          }
          for (std::size_t i = first; good && i < end; ++i) ops::AddScaled{2}(cs[i], ds[i]);
          refused += good ? 0 : 1;
        }
        CHECK(device.refused() == refused);
        CHECK(device.refused() == 0);
        CHECK(close(c.values(), cs));
        if (n <= 4000) CHECK(close(x.values(), xs));
        if (n <= 4000 && wants_deltas) CHECK(close(d.values(), ds));
      }
    }
  }
}

template <class Dev>
void bounds(Dev& device) {
  for (std::size_t const n : lengths) {
    auto values = support::random_values<float>(n, 6);
    for (float& v : values) v = std::abs(v) > 2 ? 1.f : v;
    auto const within = [&] {
      Placed<float, Dev> const x(device, 1, values);
      return device.within(read(x.span()), 3);
    };
    CHECK(within());
    for (float const bad : {3.5f, -3.5f, std::numeric_limits<float>::quiet_NaN()}) {
      for (std::size_t const place : {std::size_t(0), n / 2, n - 1}) {
        float const good = std::exchange(values[place], bad);
        CHECK_FALSE(within());
        values[place] = good;
      }
    }
    CHECK(within());
  }
}

/// Views of two kinds of values, as 16 bits for what was 32: the codec's bits.
template <class Codec, class Dev>
void converts(Dev& device) {
  using Value = typename Codec::Value;
  for (std::size_t const n : lengths) {
    for (std::size_t const shift : {0u, 1u}) {
      INFO(n << " values from " << shift);
      auto xs = support::random_values<float>(n, 10);
      Placed<float, Dev> const x(device, shift, xs);
      std::vector<Value> hs(n, Value(1));
      Placed<Value, Dev> const h(device, 0, hs);
      device.for_each(ops::Split<Codec>{}, h.span(), x.span());
      for (std::size_t i = 0; i < n; ++i) ops::Split<Codec>{}(hs[i], xs[i]);
      CHECK(h.values() == hs);
      CHECK(x.values() == xs);
      device.for_each(ops::AddDecoded<Codec>{}, x.span(), h.span());
      for (std::size_t i = 0; i < n; ++i) ops::AddDecoded<Codec>{}(xs[i], hs[i]);
      CHECK(x.values() == xs);
    }
  }
}

template <class Dev>
void copies(Dev& device) {
  auto const values = support::random_values<float>(1000, 7);
  Placed<float, Dev> const x(device, 1, values), y(device, 2, std::vector<float>(1000, 1.f));
  device.copy(read(x.span()), y.span());
  CHECK(y.values() == values);
  auto zeros = device.template allocate<float>(333);
  std::vector<float> home(333, 5.f);
  device.download(read(zeros.span()), Span<float>(home));
  CHECK(home == std::vector<float>(333));
}

/// Copies beside the work keep the order of submission.
template <class Dev>
void copies_beside(Dev& device) {
  constexpr std::size_t n = 100'000;
  auto const values = support::random_values<float>(n, 8), more = support::random_values<float>(n, 9);
  Placed<float, Dev> const x(device, 0, values);
  auto pinned = device.allocate_host(n * sizeof(float)), second = device.allocate_host(n * sizeof(float));
  Span<float> const out(reinterpret_cast<float*>(pinned.data()), n),
      in(reinterpret_cast<float*>(second.data()), n);

  device.for_each(ops::Scale{2}, x.span());
  device.start_download(read(x.span()), out).wait();
  bool doubled = true;
  for (std::size_t i = 0; i < n; ++i) doubled = doubled && out[i] == 2 * values[i];
  CHECK(doubled);

  std::copy(more.begin(), more.end(), in.begin());
  auto up = device.start_upload(read(in), x.span());
  device.for_each(ops::Scale{3}, x.span());
  up.wait();
  std::fill(in.begin(), in.end(), 0.f);
  auto done = device.mark();
  done.wait();
  CHECK(done.done());
  auto tripled = more;
  for (float& v : tripled) v *= 3;
  CHECK(x.values() == tripled);
}

/// What models are made of: every index once, sums of every row.
template <class Dev>
void launches(Dev& device) {
  for (std::size_t const n : lengths) {
    Placed<float, Dev> const x(device, 0, std::vector<float>(n, 1.f));
    float* const p = x.span().data();
    device.launch(n, IndexTo<float>{p});
    std::vector<float> expected(n);
    std::iota(expected.begin(), expected.end(), 0.f);
    CHECK(x.values() == expected);
    Placed<float, Dev> const sums(device, 0, std::vector<float>(3));
    device.template sum_rows<double>(3, n, Times<float>{p}, Store<float>{sums.span().data()});
    double const whole = double(n) * double(n - 1) / 2;
    for (std::size_t row = 0; row < 3; ++row)
      CHECK(double(sums.values()[row]) == Approx(whole * double(row + 1)).epsilon(1e-6));
  }
}

template <class Dev>
void device() {
  Dev dev;
  elementwise<float>(dev);
  elementwise<double>(dev);
  exchanges<float>(dev);
  exchanges<double>(dev);
  bounds(dev);
  converts<codec::Bf16>(dev);
  converts<codec::Fp16>(dev);
  copies(dev);
  if constexpr (OwnMemory<Dev>) {
    copies_beside(dev);
    launches(dev);
  }
}

}  // namespace conformance
