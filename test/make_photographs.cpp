// SPDX-License-Identifier: Apache-2.0
// Writes a small ImageNet: make_photographs DIR makes DIR/train and DIR/val, two classes, 16 and 5 photographs.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/write_jpeg.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: make_photographs DIR\n"), 2;
  auto const make = [&](std::string const& part, int count) {
    for (int i = 0; i < count; ++i) {
      std::filesystem::path const folder =
          std::filesystem::path(argv[1]) / part / (i % 2 == 0 ? "n01" : "n02");
      std::filesystem::create_directories(folder);
      std::ofstream file(folder / (std::to_string(i) + ".JPEG"), std::ios::binary);
      file << support::encode_jpeg(support::smooth_picture(260 + i, 256, i));
      if (!file.flush()) return std::perror(folder.c_str()), false;
    }
    return true;
  };
  return make("train", 16) && make("val", 5) ? 0 : 1;
}
