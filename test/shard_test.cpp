// SPDX-License-Identifier: Apache-2.0
// Every sample exactly once an epoch, for any number of samples and ranks; one order for all; portable bits.
#include "elastic/data/shard.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "elastic/error.hpp"
#include "support/catch.hpp"

using elastic::data::epoch_order;
using elastic::data::Random;
using elastic::data::Shard;
using elastic::data::shard;

TEST_CASE("the parts of all ranks cover every position once and are equal to within one") {
  for (std::size_t count = 0; count <= 70; ++count) {
    for (int ranks = 1; ranks <= 40; ++ranks) {
      std::size_t next = 0, least = count, most = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        Shard const part = shard(count, rank, ranks);
        if (part.first != next) FAIL("rank " << rank << " of " << ranks << " begins at " << part.first);
        next += part.count;
        least = std::min(least, part.count);
        most = std::max(most, part.count);
      }
      if (next != count || most - least > 1) FAIL(count << " samples over " << ranks << " ranks");
    }
  }
  REQUIRE(shard(10, 2, 3) == Shard{7, 3});
}

TEST_CASE("a rank that does not exist has no part") {
  REQUIRE_THROWS_AS(shard(10, 3, 3), elastic::ConfigError);
  REQUIRE_THROWS_AS(shard(10, -1, 3), elastic::ConfigError);
  REQUIRE_THROWS_AS(shard(10, 0, 0), elastic::ConfigError);
}

TEST_CASE("an order is a permutation that depends on seed and epoch") {
  for (std::size_t count : {0u, 1u, 2u, 3u, 7u, 64u, 1000u}) {
    for (std::uint64_t epoch = 0; epoch < 5; ++epoch) {
      auto order = epoch_order(count, 11, epoch);
      REQUIRE(order == epoch_order(count, 11, epoch));
      std::sort(order.begin(), order.end());
      for (std::size_t i = 0; i < count; ++i) REQUIRE(order[i] == i);
    }
  }
  REQUIRE(epoch_order(1000, 11, 0) != epoch_order(1000, 11, 1));
  REQUIRE(epoch_order(1000, 11, 0) != epoch_order(1000, 12, 0));
}

TEST_CASE("all orders of four are equally likely") {
  std::map<std::vector<std::uint32_t>, int> seen;
  constexpr int draws = 24000;
  for (int epoch = 0; epoch < draws; ++epoch) ++seen[epoch_order(4, 5, static_cast<std::uint64_t>(epoch))];
  REQUIRE(seen.size() == 24);
  double chi_square = 0;
  for (auto const& [order, times] : seen) chi_square += (times - 1000.0) * (times - 1000.0) / 1000.0;
  REQUIRE(chi_square < 50);  // 23 degrees of freedom: 1 in 1,000 of fair generators; this one is fixed
}

TEST_CASE("below() stays below, reaches everything and is fair where modulo alone is not") {
  Random random(3);
  std::vector<int> seen(6);
  for (int i = 0; i < 6000; ++i) ++seen.at(random.below(6));
  REQUIRE(*std::min_element(seen.begin(), seen.end()) > 850);
  std::uint64_t const three_quarters = 3ull << 62;  // without rejection the lower third comes twice as often
  int low = 0;
  for (int i = 0; i < 9000; ++i) low += random.below(three_quarters) < 1ull << 62;
  REQUIRE(low > 2700);
  REQUIRE(low < 3300);
}

TEST_CASE("orders have the same bits on every machine and library") {
  // Computed by an independent program from the definition of SplitMix64.
  REQUIRE(epoch_order(8, 1, 0) == std::vector<std::uint32_t>{6, 2, 5, 7, 0, 4, 3, 1});
}
