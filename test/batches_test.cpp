// SPDX-License-Identifier: Apache-2.0
// Training streams and evaluation passes: exact cover, the right pixels, the same bits whatever the threads.
#include "elastic/data/batches.hpp"

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/data/image_set.hpp"
#include "elastic/options.hpp"
#include "support/catch.hpp"

namespace {

using namespace elastic::data;
using Catch::Matchers::ContainsSubstring;
using elastic::ConfigError;
using elastic::model::Batch;

struct AnyModel {
  using batch = Batch;
};
static_assert(elastic::DataSource<Batches<ImageSet>, AnyModel>);

/// Random images whose first two pixels of the first channel hold their number, so that a test recognizes
/// them.
ImageSet numbered_set(std::size_t count, int channels, int height, int width) {
  ImageSet set{.pixels = {},
               .labels = {},
               .count = count,
               .channels = channels,
               .height = height,
               .width = width,
               .classes = 10,
               .class_names = {}};
  std::mt19937 bits(42);
  set.pixels.resize(count * set.image_bytes());
  for (auto& pixel : set.pixels) pixel = static_cast<std::uint8_t>(bits());
  for (std::size_t i = 0; i < count; ++i) {
    set.pixels[i * set.image_bytes()] = static_cast<std::uint8_t>(i % 256);
    set.pixels[i * set.image_bytes() + 1] = static_cast<std::uint8_t>(i / 256);
    set.labels.push_back(static_cast<std::uint8_t>(bits() % 10));
  }
  return set;
}

/// Leaves bytes as they are: a value of the batch is the byte.
Normalization bytes_as_values(int channels) {
  auto const n = static_cast<std::size_t>(channels);
  return {std::vector<float>(n, 0.0f), std::vector<float>(n, 1.0f / 255.0f)};
}

std::size_t number_of(Batch const& batch, std::size_t i) {
  float const* const image = batch.images.data() + i * batch.image_size();
  return static_cast<std::size_t>(image[0] + 0.5f) + 256 * static_cast<std::size_t>(image[1] + 0.5f);
}

/// The next `samples` image numbers of a stream; labels and shapes are checked on the way.
std::vector<std::size_t> numbers(Batches<ImageSet>& stream, ImageSet const& set, std::size_t samples) {
  std::vector<std::size_t> result;
  while (result.size() < samples) {
    Batch const& batch = stream.next();
    for (std::size_t i = 0; i < static_cast<std::size_t>(batch.count); ++i) {
      result.push_back(number_of(batch, i));
      if (batch.labels[i] != set.labels.at(result.back())) FAIL("label of image " << result.back());
    }
  }
  result.resize(samples);
  return result;
}

}  // namespace

TEST_CASE("over all ranks each epoch uses each sample once, for any count, ranks and batch") {
  for (std::size_t count : {1u, 2u, 7u, 12u, 13u, 300u}) {
    ImageSet const set = numbered_set(count, 1, 2, 2);
    for (int ranks : {1, 2, 3, 5, 7}) {
      if (static_cast<std::size_t>(ranks) > count) continue;
      for (int size : {1, 4, 5, 64}) {
        std::vector<std::vector<std::size_t>> epochs(3);
        for (int rank = 0; rank < ranks; ++rank) {
          Batches stream(set, bytes_as_values(1), {.batch = size, .rank = rank, .ranks = ranks, .seed = 9});
          std::size_t const share = shard(count, rank, ranks).count;
          auto const all = numbers(stream, set, 3 * share);
          for (std::size_t i = 0; i < all.size(); ++i) epochs[i / share].push_back(all[i]);
        }
        for (auto& epoch : epochs) {
          std::sort(epoch.begin(), epoch.end());
          REQUIRE(epoch.size() == count);
          for (std::size_t i = 0; i < count; ++i) {
            if (epoch[i] != i) FAIL(count << " samples, " << ranks << " ranks, batch " << size << ": " << i);
          }
        }
      }
    }
  }
}

TEST_CASE("without shuffling a rank sees its part in the order of the files") {
  ImageSet const set = numbered_set(10, 1, 2, 2);
  Batches stream(set, bytes_as_values(1), {.batch = 3, .rank = 1, .ranks = 3, .sampler = Sampler::linear});
  REQUIRE(numbers(stream, set, 7) == std::vector<std::size_t>{4, 5, 6, 4, 5, 6, 4});
}

TEST_CASE("the stream is the same whatever the threads, and differs by seed and rank") {
  ImageSet const set = numbered_set(101, 3, 9, 8);
  Normalization const normal = normalization(set);
  BatchOptions options{.batch = 16, .rank = 1, .ranks = 2, .seed = 5, .crop = 6, .pad = 1, .flip = true};
  auto const stream_of = [&](int prefetch, std::uint64_t seed, int rank, int loaders = 1) {
    options.prefetch = prefetch;
    options.loaders = loaders;
    options.seed = seed;
    options.rank = rank;
    Batches stream(set, normal, options);
    std::vector<float> values;
    for (int i = 0; i < 20; ++i) {
      Batch const& batch = stream.next();
      values.insert(values.end(), batch.images.begin(), batch.images.end());
    }
    return values;
  };
  for (Sampler sampler : {Sampler::permutation, Sampler::label_uniform}) {
    options.sampler = sampler;
    auto const plain = stream_of(0, 5, 1);
    REQUIRE(stream_of(1, 5, 1) == plain);
    REQUIRE(stream_of(2, 5, 1) == plain);
    REQUIRE(stream_of(7, 5, 1) == plain);
    REQUIRE(stream_of(0, 5, 1, 3) == plain);
    REQUIRE(stream_of(1, 5, 1, 2) == plain);
    REQUIRE(stream_of(2, 5, 1, 20) == plain);  // more than a batch has images
    REQUIRE(stream_of(1, 6, 1) != plain);
    REQUIRE(stream_of(1, 5, 0) != plain);
  }
}

TEST_CASE("a sample is cropped and flipped alike whatever the number of ranks") {
  ImageSet const set = numbered_set(12, 1, 6, 6);
  auto const epoch = [&](int ranks) {
    std::multiset<std::vector<float>> images;
    for (int rank = 0; rank < ranks; ++rank) {
      BatchOptions const options{.batch = 12 / ranks, .rank = rank, .ranks = ranks, .crop = 4, .flip = true};
      Batches stream(set, bytes_as_values(1), options);
      Batch const& batch = stream.next();
      for (auto at = batch.images.begin(); at != batch.images.end(); at += 16) images.emplace(at, at + 16);
    }
    return images;
  };
  REQUIRE(epoch(1) == epoch(3));
}

TEST_CASE("a resumed stream goes on where the first one stopped") {
  ImageSet const set = numbered_set(23, 1, 4, 4);
  for (auto const& [name, sampler] : names(Sampler{})) {
    for (Augment augment : {Augment::image, Augment::batch}) {
      BatchOptions options{
          .batch = 5, .seed = 3, .crop = 3, .flip = true, .augment = augment, .sampler = sampler};
      Batches whole(set, bytes_as_values(1), options);
      for (int i = 0; i < 7; ++i) whole.next();
      REQUIRE(whole.samples() == 35);
      REQUIRE(whole.epoch() == 1);
      options.start = whole.samples();
      Batches resumed(set, bytes_as_values(1), options);
      REQUIRE(resumed.samples() == 35);
      for (int i = 0; i < 7; ++i) REQUIRE(resumed.next().images == whole.next().images);
      REQUIRE(resumed.samples() == 70);
      REQUIRE(resumed.epoch() == 3);
    }
  }
}

TEST_CASE("what uniform samplers draw does not depend on the number of ranks, and is uniform") {
  ImageSet set = numbered_set(20, 1, 2, 2);
  set.classes = 12;  // two of them without samples
  for (std::size_t i = 0; i < 20; ++i) set.labels[i] = static_cast<std::uint8_t>(i < 11 ? 0 : i - 8);
  for (Sampler sampler : {Sampler::uniform, Sampler::label_uniform}) {
    constexpr std::size_t draws = 12000;
    auto const drawn = [&](int rank, int ranks) {
      Batches stream(set, bytes_as_values(1),
                     {.batch = 50, .rank = rank, .ranks = ranks, .sampler = sampler});
      return numbers(stream, set, draws / static_cast<std::size_t>(ranks));
    };
    auto const whole = drawn(0, 1);
    for (std::size_t rank : {0u, 1u, 2u}) {
      auto const part = drawn(static_cast<int>(rank), 3);
      for (std::size_t i = 0; i < part.size(); ++i) REQUIRE(part[i] == whole[3 * i + rank]);
    }
    std::vector<std::size_t> times(20);
    for (std::size_t i : whole) ++times[i];
    for (std::size_t i = 0; i < 20; ++i) {  // label_uniform: 10 classes, one of them with 11 samples
      std::size_t const expected = sampler == Sampler::uniform ? draws / 20 : draws / (i < 11 ? 110 : 10);
      if (times[i] < expected * 2 / 3 || times[i] > expected * 3 / 2) FAIL(i << ": " << times[i]);
    }
  }
}

TEST_CASE(
    "with augment = batch the images of a batch share a view, and those of other batches and ranks do not") {
  ImageSet const set = numbered_set(400, 1, 9, 9);
  std::set<std::vector<std::size_t>> seen;
  for (int rank : {0, 1}) {
    Batches stream(
        set, bytes_as_values(1),
        {.batch = 8, .rank = rank, .ranks = 2, .crop = 6, .flip = true, .augment = Augment::batch});
    for (int i = 0; i < 25; ++i) {
      Batch const& batch = stream.next();
      std::vector<std::size_t> views;  // those under which every image of the batch is found in the set
      Cutter const cutter(set, bytes_as_values(1), 6, 0);
      std::vector<float> out(36);
      for (int view = 0; view < 32; ++view) {
        bool const all = std::ranges::all_of(std::vector{0u, 3u, 7u}, [&](std::size_t k) {
          for (std::size_t image = 0; image < set.count; ++image) {
            cutter.cut(set.pixels.data() + image * 81, {view / 8, view / 2 % 4, view % 2 == 1}, out.data());
            if (std::equal(out.begin(), out.end(), batch.images.data() + 36 * k)) return true;
          }
          return false;
        });
        if (all) views.push_back(static_cast<std::size_t>(view));
      }
      REQUIRE(views.size() == 1);
      seen.insert(views);
    }
  }
  REQUIRE(seen.size() > 16);  // of 32, after 50 batches
}

TEST_CASE("a view is the crop of the zero-padded image, mirrored when flipped, normalized") {
  ImageSet const set = numbered_set(3, 2, 5, 4);
  Normalization const normal{{0.25f, 0.5f}, {0.5f, 2.0f}};
  constexpr int crop = 4, pad = 2;
  Cutter const cutter(set, normal, crop, pad);
  std::vector<float> out(2 * crop * crop);
  for (std::size_t image = 0; image < set.count; ++image) {
    for (int top = -pad; top <= 5 + pad - crop; ++top) {
      for (int left = -pad; left <= 4 + pad - crop; ++left) {
        for (bool flip : {false, true}) {
          cutter.cut(set.pixels.data() + image * set.image_bytes(), {top, left, flip}, out.data());
          for (int c = 0; c < 2; ++c) {
            for (int y = 0; y < crop; ++y) {
              for (int x = 0; x < crop; ++x) {
                int const row = top + y, column = left + (flip ? crop - 1 - x : x);
                bool const inside = row >= 0 && row < 5 && column >= 0 && column < 4;
                auto const at =
                    static_cast<std::size_t>(((static_cast<int>(image) * 2 + c) * 5 + row) * 4 + column);
                float const byte = inside ? set.pixels[at] : 0;
                float const expected = c == 0 ? (byte / 255 - 0.25f) / 0.5f : (byte / 255 - 0.5f) / 2.0f;
                float const found = out[static_cast<std::size_t>((c * crop + y) * crop + x)];
                if (found != Approx(expected).margin(1e-6)) FAIL(top << ' ' << left << ' ' << c << y << x);
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("random views reach every place, flipped or not, equally often") {
  ImageSet const set = numbered_set(1, 1, 5, 6);
  Cutter const cutter(set, bytes_as_values(1), 4, 1);
  Random random(1);
  std::vector<int> seen(4 * 5 * 2);
  constexpr int each = 500;
  for (std::size_t i = 0; i < seen.size() * each; ++i) {
    View const view = cutter.random(random, true);
    REQUIRE((view.top >= -1 && view.top <= 2 && view.left >= -1 && view.left <= 3));
    ++seen[static_cast<std::size_t>(((view.top + 1) * 5 + view.left + 1) * 2 + view.flip)];
  }
  for (int times : seen) REQUIRE((times > each * 3 / 4 && times < each * 5 / 4));
  for (int i = 0; i < 100; ++i) REQUIRE_FALSE(cutter.random(random, false).flip);
}

TEST_CASE("normalized, a set has mean 0 and deviation 1 in every channel") {
  ImageSet set = numbered_set(50, 3, 8, 8);
  for (std::size_t i = 0; i < set.pixels.size(); ++i) {
    if (i / 64 % 3 == 1) set.pixels[i] = static_cast<std::uint8_t>(100 + set.pixels[i] / 8);
    if (i / 64 % 3 == 2) set.pixels[i] = 77;
  }
  Normalization const normal = normalization(set);
  CHECK(normal.mean[2] == Approx(77 / 255.0));
  CHECK(normal.deviation[2] == 1.0f);
  for (std::size_t c : {0u, 1u}) {
    double sum = 0, squares = 0;
    for_each_batch(set, normal, {.batch = 50}, [&](Batch const& batch) {
      for (std::size_t i = 0; i < batch.images.size(); ++i) {
        if (i / 64 % 3 != c) continue;
        double const value = double{batch.images[i]};
        sum += value;
        squares += value * value;
      }
    });
    CHECK(sum / 3200 == Approx(0).margin(1e-5));
    CHECK(squares / 3200 == Approx(1).epsilon(1e-5));
  }
}

TEST_CASE("less its mean image or its channels' means a set has mean 0 where it should, in units of a byte") {
  ImageSet const set = numbered_set(31, 2, 4, 5);
  for (auto const& [name, kind] : names(Normalize{})) {
    INFO(name);
    Normalization const normal = normalization(set, kind);
    std::vector<double> sums(40);
    for_each_batch(set, normal, {.batch = 7}, [&](Batch const& batch) {
      for (std::size_t i = 0; i < batch.images.size(); ++i) sums[i % 40] += double{batch.images[i]};
    });
    double first = 0, second = 0;
    for (std::size_t k = 0; k < 40; ++k) {
      double bytes = 0;
      for (std::size_t i = 0; i < 31; ++i) bytes += set.pixels[i * 40 + k];
      if (kind == Normalize::none) CHECK(sums[k] == Approx(bytes));
      if (kind == Normalize::mean_image) CHECK(sums[k] == Approx(0).margin(1e-3));
      (k < 20 ? first : second) += sums[k];
    }
    if (kind != Normalize::none) CHECK((first == Approx(0).margin(0.02) && second == Approx(0).margin(0.02)));
    Cutter const cutter(set, normal, 2, 0);
    std::vector<float> out(8), other(8);
    cutter.cut(set.pixels.data() + 40, {1, 2, false}, out.data());
    cutter.cut(set.pixels.data() + 40, {1, 2, true}, other.data());
    CHECK((out[0] == other[1] && out[5] == other[4] && out[0] != out[1]));
    if (kind == Normalize::standard) continue;
    double mean = 0;  // of channel 1, row 2, column 3
    for (std::size_t i = 0; i < 31; ++i) {
      if (kind == Normalize::mean_image) mean += set.pixels[i * 40 + 33] / 31.0;
      for (std::size_t k = 20; kind == Normalize::mean && k < 40; ++k) mean += set.pixels[i * 40 + k] / 620.0;
    }
    CHECK(double{out[7]} == Approx(set.pixels[40 + 33] - mean).margin(1e-4));
  }
  Normalization image = normalization(set, Normalize::mean_image);
  CHECK_THROWS_WITH(Cutter(set, image, 4, 1), ContainsSubstring("no values for a padding"));
  image.mean_image.pop_back();
  CHECK_THROWS_WITH(Cutter(set, image, 2, 0), ContainsSubstring("mean image of 39 values"));
}

TEST_CASE("sums over a part of a set take images from all of it") {
  ImageSet const set = numbered_set(10, 1, 1, 2);
  auto const sum = [&](std::initializer_list<std::uint64_t> images) {
    std::uint64_t total = 0;
    for (auto i : images) total += i;
    return total;
  };
  CHECK(pixel_sums(set).pixels[0] == 45);
  CHECK(pixel_sums(set, 5).pixels[0] == sum({0, 2, 4, 6, 8}));
  CHECK(pixel_sums(set, 4).pixels[0] == sum({0, 3, 6, 8}));
  CHECK(pixel_sums(set, 4, 3).pixels == pixel_sums(set, 4).pixels);
  CHECK(pixel_sums(set, 10, 3).squares == pixel_sums(set).squares);
  CHECK(pixel_sums(set, 1).pixels[0] == 0);
  CHECK(pixel_sums(set, 4).images == 4);
  CHECK_THROWS_AS(pixel_sums(set, 0), ConfigError);
}

TEST_CASE("an evaluation pass sees each image once, in order, with a last partial batch") {
  ImageSet const set = numbered_set(23, 1, 2, 2);
  auto const pass = [&](PassOptions const& options) {
    std::vector<std::size_t> seen;
    for_each_batch(set, bytes_as_values(1), options, [&](Batch const& batch) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(batch.count); ++i) {
        seen.push_back(number_of(batch, i));
        REQUIRE(batch.labels[i] == set.labels[seen.back()]);
      }
    });
    return seen;
  };
  std::vector<std::size_t> all(23);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  for (int size : {1, 5, 23, 24, 100}) {
    REQUIRE(pass({.batch = size}) == all);
    REQUIRE(pass({.batch = size, .loaders = 3}) == all);
  }
  REQUIRE(pass({.batch = 4, .first = 7, .count = 6}) == std::vector<std::size_t>{7, 8, 9, 10, 11, 12});
  REQUIRE(pass({.batch = 4, .first = 20, .count = 6}) == std::vector<std::size_t>{20, 21, 22});
  REQUIRE(pass({.batch = 4, .first = 23}).empty());
  REQUIRE_THROWS_AS(pass({.batch = 4, .first = 24}), ConfigError);
  REQUIRE_THROWS_AS(pass({.batch = 0}), ConfigError);
  REQUIRE_THROWS_AS(pass({.loaders = 0}), ConfigError);
}

TEST_CASE("evaluation crops at the center") {
  ImageSet const set = numbered_set(1, 1, 5, 6);
  for_each_batch(set, bytes_as_values(1), {.crop = 2}, [&](Batch const& batch) {
    REQUIRE(batch.images.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      REQUIRE(batch.images[i] == Approx(set.pixels[(1 + i / 2) * 6 + 2 + i % 2]));
    }
  });
}

TEST_CASE("options that cannot work are refused, naming them") {
  ImageSet const set = numbered_set(4, 1, 5, 6);
  Normalization const normal = bytes_as_values(1);
  auto const complaint = [&](BatchOptions const& options) -> std::string {
    try {
      Batches stream(set, normal, options);
    } catch (ConfigError const& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  CHECK_THAT(complaint({.batch = 0}), ContainsSubstring("batch size: expected at least 1, found 0"));
  CHECK_THAT(complaint({.rank = 2, .ranks = 2}), ContainsSubstring("rank 2 of 2"));
  CHECK_THAT(complaint({.rank = 0, .ranks = 5}), ContainsSubstring("4 images cannot feed 5 ranks"));
  CHECK_THAT(complaint({.crop = 6}), ContainsSubstring("crop of 6") && ContainsSubstring("1 x 5 x 6"));
  CHECK_THAT(complaint({.crop = -1}), ContainsSubstring("crop of -1"));
  CHECK_THAT(complaint({.pad = -1}), ContainsSubstring("padding of -1"));
  CHECK_THAT(complaint({.prefetch = -1}), ContainsSubstring("prefetch"));
  CHECK_THAT(complaint({.loaders = 0}), ContainsSubstring("loaders: expected 1 ... 1024 threads, found 0"));
  CHECK(complaint({.crop = 6, .pad = 1}) == "nothing was thrown");
  REQUIRE_THROWS_AS(Batches(set, bytes_as_values(3), {.batch = 2}), ConfigError);
  ImageSet broken = set;
  broken.pixels.pop_back();
  REQUIRE_THROWS_AS(Batches(broken, normal, {.batch = 2}), ConfigError);
}

TEST_CASE("a stream may be destroyed at any moment") {
  ImageSet const set = numbered_set(64, 1, 4, 4);
  for (int calls : {0, 1, 2, 5}) {
    for (int prefetch : {0, 1, 3}) {
      for (int round = 0; round < 20; ++round) {
        Batches stream(set, bytes_as_values(1), {.batch = 8, .prefetch = prefetch, .loaders = 1 + round % 3});
        for (int i = 0; i < calls; ++i) stream.next();
      }
    }
  }
}

TEST_CASE("the batch in use is not touched while the thread works ahead") {
  ImageSet const set = numbered_set(64, 1, 4, 4);
  std::atomic<int> prepared = 0;
  Batches stream(set, bytes_as_values(1),
                 {.batch = 8, .prefetch = 2, .transform = [&](Batch&) { ++prepared; }});
  for (int i = 0; i < 10; ++i) {
    Batch const& batch = stream.next();
    std::vector<float> const copy = batch.images;
    while (prepared < i + 3) std::this_thread::yield();  // the one in use and the two ahead
    REQUIRE(batch.images == copy);
    REQUIRE(prepared == i + 3);  // and no more: the ring is full
  }
}

TEST_CASE("what the thread throws comes out of next(), after the batches before it, and stays") {
  ImageSet const set = numbered_set(64, 1, 4, 4);
  for (int prefetch : {0, 1, 3}) {
    int calls = 0;
    Batches stream(set, bytes_as_values(1), {.batch = 8, .prefetch = prefetch, .transform = [&](Batch&) {
                                               if (++calls > 4) throw std::runtime_error("no fifth batch");
                                             }});
    for (int i = 0; i < 4; ++i) stream.next();
    REQUIRE_THROWS_WITH(stream.next(), "no fifth batch");
    REQUIRE_THROWS_WITH(stream.next(), "no fifth batch");
    REQUIRE(stream.samples() == 32);
  }
}

/// A set of which some images cannot be read.
struct Broken : ImageStoreFields {
  std::vector<std::size_t> bad;
  bool late = false;  ///< the first bad one throws after another image of the batch has been asked for
  mutable std::atomic<bool> asked = false;

  int label(std::size_t) const { return 0; }
  std::uint8_t const* image(std::size_t i, std::vector<std::uint8_t>& scratch) const {
    if (i > bad[0]) asked = true;
    while (late && i == bad[0] && !asked) std::this_thread::yield();
    if (std::ranges::find(bad, i) != bad.end()) throw elastic::DataError("image " + std::to_string(i));
    scratch.assign(4, static_cast<std::uint8_t>(i));
    return scratch.data();
  }
};

TEST_CASE("an image that cannot be read is the same error whatever the threads, the first of its batch") {
  for (int loaders : {1, 2, 5}) {
    for (int prefetch : {0, 2}) {
      Broken const set{
          {.count = 40, .channels = 1, .height = 2, .width = 2, .classes = 1}, {13, 14, 15, 30}, loaders > 1};
      Batches stream(set, bytes_as_values(1),
                     {.batch = 8, .sampler = Sampler::linear, .prefetch = prefetch, .loaders = loaders});
      REQUIRE(stream.next().images[7 * 4] == Approx(7));
      REQUIRE_THROWS_WITH(stream.next(), "elastic: image 13");
      REQUIRE_THROWS_WITH(stream.next(), "elastic: image 13");
    }
  }
}

TEST_CASE("a transform changes what is handed out") {
  ImageSet const set = numbered_set(64, 1, 4, 4);
  Batches stream(set, bytes_as_values(1), {.batch = 8, .transform = [](Batch& batch) {
                                             for (float& value : batch.images) value = -1;
                                           }});
  for (float value : stream.next().images) REQUIRE(value == -1.0f);
}
