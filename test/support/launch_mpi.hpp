// SPDX-License-Identifier: Apache-2.0
// Launch for the Mpi transport. The test program itself runs under mpirun: all its ranks run the same test
// cases in step, a job of n ranks is the first n of them, and every rank learns and asserts all answers.
#pragma once

#include <algorithm>
#include <boost/mpi/communicator.hpp>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "elastic/transport/mpi.hpp"
#include "support/launch.hpp"

namespace support {

/// Everyone's string, by rank.
inline std::vector<std::string> gather_everywhere(boost::mpi::communicator const& world, std::string mine) {
  std::vector<int> sizes(static_cast<std::size_t>(world.size()));
  int size = static_cast<int>(mine.size());
  MPI_Allgather(&size, 1, MPI_INT, sizes.data(), 1, MPI_INT, world);
  std::vector<int> offsets(sizes.size());
  std::exclusive_scan(sizes.begin(), sizes.end(), offsets.begin(), 0);
  std::string all(static_cast<std::size_t>(offsets.back() + sizes.back()), ' ');
  MPI_Allgatherv(mine.data(), size, MPI_CHAR, all.data(), sizes.data(), offsets.data(), MPI_CHAR, world);
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < sizes.size(); ++r)
    texts.push_back(all.substr(static_cast<std::size_t>(offsets[r]), static_cast<std::size_t>(sizes[r])));
  return texts;
}

template <>
struct Launch<elastic::transport::Mpi> {
  static constexpr bool exact_sums = false;
  static constexpr bool can_abort = false;  // abort() ends the test program, too
  static constexpr int max_ranks = 4;

  template <class Body>
  static Answers run(int n, Body body, Seconds timeout = std::chrono::seconds(60)) {
    return run_with({.timeout = timeout}, n, body);
  }
  template <class Body>
  static Answers run_with(elastic::transport::MpiOptions const& options, int n, Body body) {
    boost::mpi::communicator const world;
    if (n > world.size()) throw std::runtime_error("needs mpirun -np " + std::to_string(n));
    auto const part = world.split(world.rank() < n ? 0 : 1);
    std::string mine;
    if (world.rank() < n) {
      try {
        elastic::transport::Mpi net(part, options);
        auto const answer = body(net);
        mine =
            "+" + std::string(reinterpret_cast<char const*>(answer.data()), answer.size() * sizeof(double));
      } catch (std::exception const& e) {
        mine = std::string("-") + e.what();
      }
    }
    auto const texts = gather_everywhere(world, std::move(mine));
    Answers answers;
    for (int r = 0; r < n; ++r) {
      auto const& text = texts[static_cast<std::size_t>(r)];
      if (text[0] == '-') throw std::runtime_error(text.substr(1));
      answers.emplace_back((text.size() - 1) / sizeof(double));
      text.copy(reinterpret_cast<char*>(answers.back().data()), text.size() - 1, 1);
    }
    return answers;
  }
};

}  // namespace support
