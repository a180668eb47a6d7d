// SPDX-License-Identifier: Apache-2.0
// A server's commits: what comes back is what was committed last and whole.
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "elastic/model/center_store.hpp"
#include "support/catch.hpp"
#include "support/launch.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using elastic::Lineage;
using elastic::model::CenterStore;
using support::message_of;
using support::random_values;

void quiet(std::string const&) {}

void commit(CenterStore& store, std::vector<float> const& center, Lineage const& lineage) {
  store(elastic::event::Center<float>{elastic::Span<float const>(center), lineage});
}

std::vector<fs::path> files(fs::path const& folder) {
  std::vector<fs::path> found;
  for (auto const& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

/// Commits versions 1 to `last`, each on its own so that none replaces another.
void commit_all(fs::path const& folder, int last) {
  for (int version = 1; version <= last; ++version) {
    CenterStore store(folder);
    commit(store, random_values<float>(1000, unsigned(version)),
           {3, std::uint64_t(version), {{7, 8, 9}, {1, 2, 3}}});
  }
}

}  // namespace

TEST_CASE("the last commit comes back with what belongs to it, one generation later") {
  support::TempFolder folder;
  commit_all(folder.path(), 5);
  CHECK(files(folder.path()).size() == 2);
  CenterStore const store(folder.path());
  auto const found = store.load(quiet);
  REQUIRE(found);
  CHECK(found->center == random_values<float>(1000, 5));
  CHECK(found->lineage.generation == 4);
  CHECK(found->lineage.version == 5);
  REQUIRE(found->lineage.workers.size() == 2);
  CHECK(found->lineage.workers[0].incarnation == 7);
  CHECK(found->lineage.workers[0].sequence == 8);
  CHECK(found->lineage.workers[0].taken == 9);
}

TEST_CASE("a new folder holds no commit") {
  support::TempFolder folder;
  CenterStore const store(folder.path() / "new");
  CHECK_FALSE(store.load(quiet));
}

TEST_CASE("a damaged commit is passed over with a warning, and never silently started anew") {
  support::TempFolder folder;
  commit_all(folder.path(), 2);
  auto const last = files(folder.path()).back();
  {
    std::fstream file(last, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-5, std::ios::end);
    char byte = 0;
    file.get(byte);
    file.seekp(-5, std::ios::end);
    file.put(char(byte ^ 1));
  }
  std::string warning;
  {
    CenterStore const store(folder.path());
    auto const found = store.load([&](std::string const& text) { warning += text; });
    REQUIRE(found);
    CHECK(found->lineage.version == 1);
    CHECK(found->center == random_values<float>(1000, 1));
    CHECK(warning.find("checksum") != std::string::npos);
  }
  fs::resize_file(files(folder.path()).front(), 40);
  CenterStore const store(folder.path());
  CHECK(message_of<elastic::DataError>([&] { store.load(quiet); }).find("none of its 2 commits is whole") !=
        std::string::npos);
}

TEST_CASE("two servers do not share a folder") {
  support::TempFolder folder;
  CenterStore const store(folder.path());
  CHECK(message_of<elastic::ConfigError>([&] {
          CenterStore other(folder.path());
        }).find("another server commits there") != std::string::npos);
}

TEST_CASE("a server killed while it writes leaves a whole commit") {
  support::TempFolder folder;
  commit_all(folder.path(), 1);
  std::mt19937 random(5);
  for (int run = 0; run < 5; ++run) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    pid_t const server = ::fork();
    REQUIRE(server >= 0);
    if (server == 0) {
      CenterStore store(folder.path());
      for (std::uint64_t version = 2;; ++version) {
        commit(store, std::vector<float>(200'000, float(version)), {3, version, {}});
        if (version == 4 && ::write(ends[1], "x", 1) != 1) ::_exit(1);
      }
    }
    char byte = 0;
    REQUIRE(::read(ends[0], &byte, 1) == 1);
    for (unsigned long spin = random() % 2'000'000; spin > 0; --spin)
      asm volatile("");  // anywhere in a write
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    ::close(ends[0]);
    ::close(ends[1]);
    CenterStore const store(folder.path());
    std::string warnings;
    auto const found = store.load([&](std::string const& text) { warnings += text; });
    CHECK(warnings.empty());
    REQUIRE(found);
    if (found->lineage.version > 1)
      CHECK(found->center == std::vector<float>(200'000, float(found->lineage.version)));
    for (auto const& entry : fs::directory_iterator(folder.path()))
      CHECK(entry.path().string().find(".tmp") == std::string::npos);
  }
}

TEST_CASE("a disk that fails is told of") {
  support::TempFolder folder;
  {
    CenterStore store(folder.path());
    fs::remove_all(folder.path());
    std::vector<float> const center = random_values<float>(10, 1);
    auto const told = message_of<elastic::Error>([&] {
      for (std::uint64_t i = 0;; ++i) commit(store, center, {0, i, {}});  // until the thread has failed
    });
    CHECK(told.find("cannot create a file beside it") != std::string::npos);
  }
  fs::create_directories(folder.path());
}
