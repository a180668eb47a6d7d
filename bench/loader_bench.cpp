// SPDX-License-Identifier: Apache-2.0
// How fast training's batches come from a folder of photographs, beside libjpeg-turbo's bare decoding of the same
// files at the same scale by as many threads, one after the other again and again in one run; and from batch files.
//
//   loader_bench --photographs=DIR       with DIR/<class>/*.JPEG
// needs: threads
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <jpeglib.h>

#include "elastic/data/batch_files.hpp"
#include "elastic/data/batches.hpp"
#include "elastic/data/image_folder.hpp"

namespace {

using namespace elastic::data;
namespace fs = std::filesystem;

constexpr int size = 256, crop = 227, batch = 100;

double seconds(std::function<void()> const& work) {
  auto const start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// What is measured: the photographs, as they are and as batch files.
struct Photographs {
  ImageFolder folder;
  Normalization normal;
  std::vector<std::string> files{};
  fs::path prepared{};

  explicit Photographs(fs::path const& path)
      : folder(path, {.size = size}), normal(normalization(folder, Normalize::mean, 100)) {
    for (std::size_t i = 0; i < folder.count; ++i) files.push_back((path / folder.name(i)).string());
    std::string name = (fs::temp_directory_path() / "elastic-loader-XXXXXX").string();
    prepared = mkdtemp(name.data());
    std::vector<std::uint8_t> scratch, pixels;
    std::vector<int> labels;
    for (std::size_t i = 0; i < folder.count; ++i) {
      std::uint8_t const* const image = folder.image(i, scratch);
      pixels.insert(pixels.end(), image, image + image_bytes(folder));
      labels.push_back(folder.label(i));
    }
    write_batch_file(
        prepared / "0.batch",
        {.channels = 3, .height = size, .width = size, .classes = static_cast<std::uint32_t>(folder.classes)},
        folder.class_names, labels, pixels);
  }
  Photographs(Photographs const&) = delete;
  ~Photographs() { fs::remove_all(prepared); }

  /// Bare decoding of every file to rows of RGB, at the scale that the loader chooses.
  void decode(int threads) const {
    std::atomic<std::size_t> next = 0;
    auto const work = [&] {
      jpeg_decompress_struct info{};
      jpeg_error_mgr errors{};
      info.err = jpeg_std_error(&errors);
      jpeg_create_decompress(&info);
      std::vector<std::uint8_t> row;
      for (std::size_t i; (i = next++) < files.size();) {
        auto const file =
            elastic::data::detail::read_file(files[i]);  // whoever decodes a file reads it first
        jpeg_mem_src(&info, file.data.get(), static_cast<unsigned long>(file.size));
        jpeg_read_header(&info, TRUE);
        bool const four = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
        info.out_color_space = four ? JCS_CMYK : JCS_RGB;
        unsigned const shorter = std::min(info.image_width, info.image_height);
        for (info.scale_denom = 8; info.scale_denom > 1; info.scale_denom /= 2)
          if ((shorter + info.scale_denom - 1) / info.scale_denom >= unsigned{size}) break;
        jpeg_start_decompress(&info);
        row.resize(std::size_t{info.output_width} * static_cast<std::size_t>(info.output_components));
        JSAMPROW target = row.data();
        while (info.output_scanline < info.output_height) jpeg_read_scanlines(&info, &target, 1);
        jpeg_finish_decompress(&info);
      }
      jpeg_destroy_decompress(&info);
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work);
    work();
    for (std::thread& thread : others) thread.join();
  }

  /// As many images as there are, as batches.
  template <class Stream>
  void load(Stream& stream) const {
    for (std::size_t i = 0; i < folder.count; i += batch) benchmark::DoNotOptimize(stream.next());
  }
};

void loader(benchmark::State& state, Photographs const& photographs, int threads) {
  // Without prefetch: all of the work is done inside next(), by as many threads.
  BatchOptions const options{.batch = batch, .crop = crop, .flip = true, .prefetch = 0, .loaders = threads};
  Batches stream(photographs.folder, photographs.normal, options);
  photographs.load(stream);
  std::vector<double> ours, bare, mapped;
  for ([[maybe_unused]] auto _ : state) {
    bare.push_back(seconds([&] { photographs.decode(threads); }));
    ours.push_back(seconds([&] { photographs.load(stream); }));
    mapped.push_back(seconds([&] {  // opened again, so that checksums are among the work
      BatchFiles const files(photographs.prepared);
      Batches batches(files, photographs.normal, options);
      photographs.load(batches);
    }));
  }
  auto const count = static_cast<double>((photographs.folder.count + batch - 1) / batch * batch);
  state.counters["loader"] = count / median(ours);
  state.counters["libjpeg"] = static_cast<double>(photographs.folder.count) / median(bare);
  std::vector<double> ratios;  // of neighbors, which other work on the machine slows alike
  for (std::size_t i = 0; i < ours.size(); ++i)
    ratios.push_back(bare[i] / static_cast<double>(photographs.folder.count) / (ours[i] / count));
  state.counters["ratio"] = median(ratios);
  state.counters["batch_files"] = count / median(mapped);
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder;
  std::vector<char*> others;
  for (int i = 0; i < argc; ++i) {
    constexpr std::string_view option = "--photographs=";
    if (std::string_view(argv[i]).starts_with(option)) {
      folder = argv[i] + option.size();
    } else {
      others.push_back(argv[i]);
    }
  }
  int count = static_cast<int>(others.size());
  benchmark::Initialize(&count, others.data());
  if (benchmark::ReportUnrecognizedArguments(count, others.data())) return 1;
  if (folder.empty()) {
    std::puts("loader_bench: not run; --photographs=DIR names a folder of <class>/*.JPEG to measure with");
    return 0;
  }
  try {
    Photographs const photographs(folder);
    for (int threads : {1, 2})
      benchmark::RegisterBenchmark(
          ("loader/threads:" + std::to_string(threads)).c_str(),
          [&, threads](benchmark::State& state) { loader(state, photographs, threads); })
          ->Unit(benchmark::kMillisecond)
          ->Iterations(15)
          ->UseRealTime();
    benchmark::RunSpecifiedBenchmarks();
  } catch (std::exception const& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
