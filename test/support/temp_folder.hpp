// SPDX-License-Identifier: Apache-2.0
// A folder of its own for a test that writes files, gone when the test ends.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace support {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "elastic-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a folder like " + name);
    path_ = name;
  }
  TempFolder(TempFolder const&) = delete;
  TempFolder& operator=(TempFolder const&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::filesystem::path const& path() const { return path_; }

  /// Writes `bytes` to a file of this name and returns its path.
  std::filesystem::path write(std::string const& name, std::string_view bytes) const {
    std::filesystem::path const path = path_ / name;
    std::ofstream file(path, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
    return path;
  }

 private:
  std::filesystem::path path_;
};

/// What `f` throws as E, or a sentence that no test expects.
template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (E const& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace support
