// SPDX-License-Identifier: Apache-2.0
// Fuzzes the reader of a server's commits.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "elastic/error.hpp"
#include "elastic/model/center_store.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  int const file = memfd_create("commit", 0);
  if (file < 0 || write(file, data, size) != static_cast<ssize_t>(size)) std::abort();
  std::string path = "/proc/self/fd/";
  path += std::to_string(file);
  try {
    elastic::model::CenterStore::read_commit(path);
  } catch (elastic::DataError const&) {
  }
  close(file);
  return 0;
}
