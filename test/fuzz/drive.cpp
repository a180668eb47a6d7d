// SPDX-License-Identifier: Apache-2.0
// Stands for libFuzzer where a compiler has none: runs a target on the files of a corpus, and on seeded changes
// of them.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s FOLDER...\n", arguments[0]);
    return 2;
  }
  constexpr int changes = 200;  // of each file
  std::mt19937 random(20'26);
  std::size_t inputs = 0;
  for (int k = 1; k < count; ++k)
    for (auto const& entry : std::filesystem::directory_iterator(arguments[k])) {
      std::ifstream file(entry.path(), std::ios::binary);
      std::vector<char> const original{std::istreambuf_iterator<char>(file), {}};
      for (int change = 0; change <= changes; ++change, ++inputs) {
        auto bytes = original;
        for (int flips = change == 0 || bytes.empty() ? 0 : 1 + change % 8; flips > 0; --flips)
          bytes[random() % bytes.size()] = static_cast<char>(random());
        if (change % 5 == 4) bytes.resize(random() % (bytes.size() + 1));
        LLVMFuzzerTestOneInput(reinterpret_cast<std::uint8_t const*>(bytes.data()), bytes.size());
      }
    }
  std::printf("%zu inputs\n", inputs);
  return inputs > 0 ? 0 : 1;
}
