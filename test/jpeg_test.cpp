// SPDX-License-Identifier: Apache-2.0
// Photographs: every kind of JPEG as RGB, parts and squares of them, folders of them, and damaged ones refused.
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "../samples/imagenet/preparation.hpp"
#include "elastic/data/batch_files.hpp"
#include "elastic/data/batches.hpp"
#include "elastic/data/image_folder.hpp"
#include "elastic/data/jpeg.hpp"
#include "elastic/data/square.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"
#include "support/write_jpeg.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
using elastic::DataError;
using namespace elastic::data;
using support::encode_jpeg;
using support::JpegKind;
using support::message_of;
using support::Picture;
using support::smooth_picture;

std::span<std::uint8_t const> bytes_of(std::string const& text) {
  return {reinterpret_cast<std::uint8_t const*>(text.data()), text.size()};
}

void read_rgb(JpegReader& reader, Window const& window, std::vector<std::uint8_t>& rgb) {
  rgb.reserve(static_cast<std::size_t>(3 * window.height * window.width));
  reader.read(window, [&](int, std::uint8_t const* pixels) {
    for (int x = 0; x < window.width; ++x, pixels += 4) rgb.insert(rgb.end(), pixels, pixels + 3);
  });
}

/// The whole picture at the scale for this shorter side.
Picture decode(std::string const& jpeg, int shorter = 0) {
  JpegReader reader(bytes_of(jpeg), "memory");
  reader.scale_to(shorter);
  Picture picture{reader.width(), reader.height(), {}};
  read_rgb(reader, {0, 0, picture.height, picture.width}, picture.rgb);
  return picture;
}

std::vector<std::uint8_t> square(std::string const& jpeg, int size) {
  std::vector<std::uint8_t> planes(static_cast<std::size_t>(3 * size * size));
  read_square(bytes_of(jpeg), "memory", size, planes.data());
  return planes;
}

}  // namespace

TEST_CASE("every kind of JPEG comes back as RGB") {
  Picture const picture = smooth_picture(75, 53);
  for (JpegKind kind : {JpegKind::gray, JpegKind::ycc444, JpegKind::ycc422, JpegKind::ycc420,
                        JpegKind::ycc411, JpegKind::progressive, JpegKind::rgb, JpegKind::cmyk_adobe,
                        JpegKind::ycck_adobe, JpegKind::cmyk_plain}) {
    INFO("kind " << static_cast<int>(kind));
    Picture const found = decode(encode_jpeg(picture, kind));
    REQUIRE((found.width == 75 && found.height == 53));
    double off = 0;
    for (int y = 0; y < 53; ++y)
      for (int x = 0; x < 75; ++x)
        for (int c = 0; c < 3; ++c) {
          double expected = picture.at(y, x, kind == JpegKind::gray ? 0 : c);
          if (kind >= JpegKind::cmyk_adobe) expected *= 200 / 255.0;
          off += std::abs(found.at(y, x, c) - expected);
        }
    CHECK(off / (53 * 75 * 3) < 2.5);
  }
}

TEST_CASE("a window holds the very pixels of the whole picture, at any scale") {
  std::mt19937 bits(3);
  auto const below = [&](int n) { return static_cast<int>(bits() % static_cast<unsigned>(n)); };
  for (JpegKind kind : {JpegKind::gray, JpegKind::ycc444, JpegKind::ycc422, JpegKind::ycc420,
                        JpegKind::ycc411, JpegKind::progressive, JpegKind::cmyk_adobe}) {
    std::string const jpeg = encode_jpeg(smooth_picture(211, 189, static_cast<int>(kind)), kind);
    for (int shorter : {0, 90, 40, 20}) {
      Picture const whole = decode(jpeg, shorter);
      for (int round = 0; round < 20; ++round) {
        JpegReader reader(bytes_of(jpeg), "memory");
        reader.scale_to(shorter);
        REQUIRE(reader.width() == whole.width);
        Window const window{round == 0 ? 0 : below(whole.height), round == 1 ? 0 : below(whole.width),
                            round == 0 ? whole.height : 1, round == 1 ? whole.width : 1};
        Window const full{window.top, window.left, 1 + below(whole.height - window.top),
                          1 + below(whole.width - window.left)};
        std::vector<std::uint8_t> rgb;
        read_rgb(reader, full, rgb);
        for (int y = 0; y < full.height; ++y)
          for (int x = 0; x < full.width; ++x)
            for (int c = 0; c < 3; ++c)
              if (rgb[static_cast<std::size_t>((y * full.width + x) * 3 + c)] !=
                  whole.at(full.top + y, full.left + x, c))
                FAIL("kind " << static_cast<int>(kind) << ", shorter " << shorter << ": " << full.top << '+'
                             << y << ' ' << full.left << '+' << x);
      }
    }
  }
}

TEST_CASE("the scale is the smallest that leaves the shorter side long enough") {
  auto const size = [&](int width, int height, int shorter) {
    Picture const picture = decode(encode_jpeg(smooth_picture(width, height)), shorter);
    return std::pair(picture.width, picture.height);
  };
  CHECK(size(100, 64, 32) == std::pair(50, 32));
  CHECK(size(100, 63, 32) == std::pair(50, 32));  // libjpeg rounds up
  CHECK(size(100, 62, 32) == std::pair(100, 62));
  CHECK(size(260, 520, 32) == std::pair(33, 65));
  CHECK(size(260, 520, 33) == std::pair(33, 65));
  CHECK(size(260, 520, 34) == std::pair(65, 130));
  CHECK(size(20, 30, 34) == std::pair(20, 30));
}

TEST_CASE("a square is the middle of the picture, its shorter side resized by a triangle filter") {
  struct Case {
    int width, height, size;
  };
  for (Case const& one : {Case{80, 61, 61}, Case{61, 80, 61}, Case{80, 61, 40}, Case{61, 97, 47},
                          Case{40, 33, 60}, Case{5, 9, 32}, Case{64, 64, 16}, Case{1, 1, 4}}) {
    int const width = one.width, height = one.height, size = one.size;
    INFO(width << " x " << height << " to " << size);
    std::string const jpeg = encode_jpeg(smooth_picture(width, height), JpegKind::ycc420);
    Picture const whole = decode(jpeg, size);
    auto const planes = square(jpeg, size);
    int const shorter = std::min(whole.width, whole.height);
    double const scale = double(shorter) / size, reach = std::max(1.0, scale);
    auto const center = [&](int i, int from) {
      return shorter == size ? (from - size) / 2 + i : from / 2.0 + (i - size / 2.0 + 0.5) * scale - 0.5;
    };
    for (int y = 0; y < size; ++y)
      for (int x = 0; x < size; ++x)
        for (int c = 0; c < 3; ++c) {
          double sum = 0, weights = 0;
          for (int v = 0; v < whole.height; ++v)
            for (int u = 0; u < whole.width; ++u) {
              double const weight = std::max(0.0, 1 - std::abs(v - center(y, whole.height)) / reach) *
                                    std::max(0.0, 1 - std::abs(u - center(x, whole.width)) / reach);
              sum += weight * whole.at(v, u, c);
              weights += weight;
            }
          int const found = planes[static_cast<std::size_t>((c * size + y) * size + x)];
          if (std::abs(found - sum / weights) > 1.01)  // each of two passes rounds
            FAIL(y << ' ' << x << ' ' << c << ": " << found << " instead of " << sum / weights);
        }
  }
}

TEST_CASE("what is not a whole JPEG is refused with its name") {
  for (JpegKind kind : {JpegKind::ycc420, JpegKind::progressive, JpegKind::gray}) {
    std::string const good = encode_jpeg(smooth_picture(90, 140), kind);
    auto const complaint = [&](std::string const& data) {
      return message_of<DataError>([&] {
        std::vector<std::uint8_t> planes(3 * 32 * 32);
        read_square(bytes_of(data), "some.JPEG", 32, planes.data());
      });
    };
    CHECK(complaint(good) == "nothing was thrown");
    for (std::size_t left :
         {good.size() - 1, good.size() - 2, good.size() - 40, good.size() / 2, good.size() / 10,
          std::size_t{300}, std::size_t{20}, std::size_t{2}, std::size_t{1}, std::size_t{0}})
      CHECK_THAT(complaint(good.substr(0, left)), ContainsSubstring("elastic: some.JPEG: "));
    CHECK_THAT(complaint("\x89PNG\r\n\x1a\n" + good), ContainsSubstring("some.JPEG: Not a JPEG file"));
    std::string huge = good;  // the size in the frame header
    std::size_t const frame = good.find(kind == JpegKind::progressive ? "\xff\xc2" : "\xff\xc0");
    REQUIRE(frame != good.npos);
    for (std::size_t i = 5; i < 9; ++i) huge[frame + i] = '\xfe';
    CHECK_THAT(complaint(huge), ContainsSubstring("65278 x 65278 pixels; at most"));
    std::string odd = good;
    odd.insert(odd.size() - 2, std::string(7, '\0'));
    CHECK(complaint(odd) == "nothing was thrown");  // bytes that no segment claims
    std::mt19937 bits(11);
    for (int round = 0; round < 300; ++round) {  // whatever the bytes: a picture or an error
      std::string broken = good;
      for (int k = 0; k < 4; ++k) broken[bits() % broken.size()] = static_cast<char>(bits());
      complaint(broken);
    }
  }
}

TEST_CASE("a folder of folders is a set: sorted classes, sorted images") {
  support::TempFolder const folder;
  auto const add = [&](std::string const& name, std::string const& jpeg) {
    std::filesystem::create_directories((folder.path() / name).parent_path());
    folder.write(name, jpeg);
    return jpeg;
  };
  add("n02/b.JPEG", encode_jpeg(smooth_picture(50, 40, 1)));
  std::string const gray = add("n02/a.jpg", encode_jpeg(smooth_picture(40, 50, 2), JpegKind::gray));
  add("n01/z.JpEg", encode_jpeg(smooth_picture(44, 44, 3)));
  add("n03/c.jpeg", encode_jpeg(smooth_picture(33, 60, 4)));
  for (char const* name : {"k", "d", "m", "f", "h", "e"})
    add("n03/" + std::string(name) + ".jpeg", encode_jpeg(smooth_picture(30, 30, name[0])));
  add("n01/notes.txt", "not an image");
  add(".cache/x.jpg", "hidden");
  ImageFolder const set(folder.path(), {.size = 24});
  REQUIRE(set.count == 10);
  for (std::size_t i = 1; i < 10; ++i) CHECK(set.name(i - 1) < set.name(i));
  CHECK(set.class_names == std::vector<std::string>{"n01", "n02", "n03"});
  CHECK((set.classes == 3 && set.channels == 3 && set.height == 24 && set.width == 24));
  CHECK((set.label(0) == 0 && set.label(1) == 1 && set.label(2) == 1 && set.label(3) == 2));
  CHECK((set.name(0) == "n01/z.JpEg" && set.name(1) == "n02/a.jpg" && set.name(3) == "n03/c.jpeg"));
  std::vector<std::uint8_t> scratch;
  std::uint8_t const* const image = set.image(1, scratch);
  CHECK(std::vector(image, image + 3 * 24 * 24) == square(gray, 24));

  Normalization const normal = normalization(set);
  auto const stream_of = [&](int loaders) {
    Batches stream(set, normal, {.batch = 3, .crop = 20, .flip = true, .loaders = loaders});
    std::vector<float> values;
    for (int i = 0; i < 5; ++i) {
      elastic::model::Batch const& batch = stream.next();
      values.insert(values.end(), batch.images.begin(), batch.images.end());
      values.insert(values.end(), batch.labels.begin(), batch.labels.end());
    }
    return values;
  };
  CHECK(stream_of(1) == stream_of(3));

  folder.write("n02/b.JPEG", "no longer a picture");
  CHECK_THAT(message_of<DataError>([&] { set.image(2, scratch); }),
             ContainsSubstring((folder.path() / "n02/b.JPEG").string() + ": Not a JPEG file"));
  std::filesystem::remove(folder.path() / "n03/c.jpeg");
  CHECK_THAT(message_of<DataError>([&] { set.image(3, scratch); }),
             ContainsSubstring("n03/c.jpeg: cannot be read: No such file"));

  auto const refused = [&](std::filesystem::path const& path, FolderOptions const& options) {
    return message_of<elastic::Error>([&] { ImageFolder(path, options); });
  };
  CHECK_THAT(refused(folder.path(), {.class_names = {"n01", "n02"}}),
             ContainsSubstring("n03: there is no class of this name among the 2 expected"));
  CHECK(ImageFolder(folder.path(), {.class_names = {"n00", "n01", "n02", "n03"}}).label(0) == 1);
  CHECK_THAT(refused(folder.path() / "n01", {}), ContainsSubstring("expected folders of images"));
  CHECK_THAT(refused(folder.path() / "n09", {}), ContainsSubstring("n09: cannot be read: No such file"));
  CHECK_THAT(refused(folder.path(), {.size = 0}), ContainsSubstring("size of 1 ... 4096 pixels, found 0"));
}

TEST_CASE("a flat folder is a set with a file of labels") {
  support::TempFolder const folder;
  for (char const* name : {"val_1.JPEG", "val_2.JPEG", "val_3.JPEG"})
    folder.write(name, encode_jpeg(smooth_picture(20, 20, name[4])));
  auto const labels = folder.write("labels.txt", "val_2.JPEG n07\n\nval_1.JPEG\tn05 12 30\nval_3.JPEG n07\n");
  ImageFolder const set(folder.path(), {.size = 16, .labels = labels});
  REQUIRE(set.count == 3);
  CHECK(set.class_names == std::vector<std::string>{"n05", "n07"});
  CHECK((set.name(0) == "val_2.JPEG" && set.label(0) == 1 && set.label(1) == 0 && set.label(2) == 1));
  std::vector<std::uint8_t> scratch;
  CHECK(set.image(2, scratch) != nullptr);
  CHECK(ImageFolder(folder.path(), {.class_names = {"n05", "n06", "n07"}, .labels = labels}).label(0) == 2);
  auto const complaint = [&](FolderOptions const& options) {
    return message_of<DataError>([&] { ImageFolder(folder.path(), options); });
  };
  CHECK_THAT(complaint({.class_names = {"n05"}, .labels = labels}),
             ContainsSubstring("val_2.JPEG: there is no class 'n07' among the 1 expected"));
  CHECK_THAT(complaint({.labels = folder.write("short.txt", "val_1.JPEG\n")}),
             ContainsSubstring("expected lines '<image> <class>', found 'val_1.JPEG'"));
  CHECK_THAT(complaint({.labels = folder.path() / "none.txt"}),
             ContainsSubstring("none.txt: cannot be opened"));
}

TEST_CASE("prepared, a folder is a set of batch files, whatever the threads and the interruptions") {
  support::TempFolder const folder;
  std::filesystem::path const from = folder.path() / "from", to = folder.path() / "to";
  for (int i = 0; i < 21; ++i) {
    std::string const name = "from/n0" + std::to_string(i % 4) + "/" + std::to_string(i) + ".JPEG";
    std::filesystem::create_directories((folder.path() / name).parent_path());
    folder.write(name, encode_jpeg(smooth_picture(40 + i, 30, i)));
  }
  auto const set = [&] { return ImageFolder(from, {.size = 24}); };
  sample::Preparation how{.size = 24, .images_per_file = 6, .jobs = 1};
  std::atomic<bool> stop = false;
  auto const prepare = [&](std::filesystem::path const& where) {
    return sample::prepare_set(set(), where, how, stop);
  };
  auto const files = [](std::filesystem::path const& where) {
    std::map<std::string, std::string> all;
    for (auto const& entry : std::filesystem::directory_iterator(where)) {
      std::ifstream file(entry.path(), std::ios::binary);
      all[entry.path().filename().string()] = {std::istreambuf_iterator<char>(file), {}};
    }
    return all;
  };

  sample::Prepared const first = prepare(to);
  CHECK((first.images == 21 && first.files == 4 && first.kept == 0 && first.skipped == 0 && !first.stopped));
  BatchFiles const stored(to);
  ImageFolder const pictures = set();
  REQUIRE(stored.count == 21);
  CHECK((stored.class_names == pictures.class_names && stored.height == 24));
  auto const order = epoch_order(21, 1, 0);
  std::vector<std::uint8_t> a, b;
  for (std::size_t i = 0; i < 21; ++i) {
    std::uint8_t const* const image = pictures.image(order[i], a);
    CHECK(std::equal(image, image + 3 * 24 * 24, stored.image(i, b)));
    CHECK(stored.label(i) == pictures.label(order[i]));
  }

  auto const good = files(to);
  how.jobs = 3;
  prepare(folder.path() / "parallel");
  CHECK(files(folder.path() / "parallel") == good);

  stop = true;
  CHECK((prepare(folder.path() / "stopped").stopped && files(folder.path() / "stopped").empty()));
  stop = false;
  std::filesystem::remove(to / "00001.batch");
  folder.write("to/00002.batch", good.at("00002.batch").substr(1));
  folder.write("to/00003.batch.tmp1-0", "of a process that was killed");
  sample::Prepared const again = prepare(to);
  CHECK((again.images == 21 && again.files == 4 && again.kept == 2));
  CHECK(files(to) == good);

  how.seed = 2;
  CHECK_THAT(message_of<elastic::ConfigError>([&] { prepare(to); }),
             ContainsSubstring("00000.batch: holds other images"));
  CHECK(files(to) == good);

  folder.write("from/n02/6.JPEG", "no picture");
  std::filesystem::path const bad = folder.path() / "bad";
  CHECK_THAT(message_of<DataError>([&] { prepare(bad); }), ContainsSubstring("n02/6.JPEG: Not a JPEG"));
  how.skip_bad = true;
  sample::Prepared const rest = prepare(bad);
  CHECK((rest.images == 20 && rest.files == 4 && rest.skipped == 1));
  CHECK(BatchFiles(bad).count == 20);
  CHECK_THAT(files(bad).at("skipped.txt"), ContainsSubstring("n02/6.JPEG: Not a JPEG"));
  how.seed = 0;
  prepare(folder.path() / "sorted");
  BatchFiles const sorted(folder.path() / "sorted");
  for (std::size_t i = 1; i < sorted.count; ++i) CHECK(sorted.label(i - 1) <= sorted.label(i));
}
