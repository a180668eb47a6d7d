// SPDX-License-Identifier: Apache-2.0
// What the hardware allows between processes that share memory: bare loops, as good as we can write them, without
// any layer, check or deadline. bench/transports/run compares the transports with them.
#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <cstdint>

#include "rank.hpp"

/// Before a loop whose arrays do not overlap.
#ifdef __clang__
#define NO_ALIAS _Pragma("clang loop vectorize(assume_safety)")
#else
#define NO_ALIAS _Pragma("GCC ivdep")
#endif

namespace {

using Counter = std::atomic<std::uint64_t>;
constexpr std::size_t small = 4096;  // bytes up to which everybody reads everything
constexpr int slots = 8;
constexpr std::size_t slot_floats = std::size_t(64) << 10;

/// What all ranks see; zeros at first, which is what its atomics start from.
struct Shared {
  struct alignas(128) Line {
    Counter count;
  };
  struct alignas(64) Cell {
    Counter stamp;
    float few[14];
    float many[small / 4];
  };
  Line arrived[64];
  Line published[64];
  Line returned[64];
  Cell cells[64][2];
  alignas(4096) float ring[2][slots][slot_floats];
};

class Bare {
 public:
  Bare(Shared& shared, float* const* resident, int rank, int ranks)
      : shared_(shared),
        resident_(resident),
        rank_(rank),
        ranks_(ranks),
        spins_(ranks > cores() ? 50 : 2000) {}

  void barrier() {
    auto const now = ++barriers_;
    shared_.arrived[rank_].count.store(now, std::memory_order_release);
    for (int r = 0; r < ranks_; ++r) await(shared_.arrived[r].count, now);
  }

  /// One cell each: write mine, read everybody's. The stamp travels in the line of the first values.
  void small_sum(float* x, std::size_t n) {
    auto const now = ++sums_;
    auto& mine = shared_.cells[rank_][now & 1];
    bool const tiny = n <= std::size(mine.few);
    std::copy_n(x, n, tiny ? mine.few : mine.many);
    mine.stamp.store(now, std::memory_order_release);
    for (int r = 0; r < ranks_; ++r) {
      auto& theirs = shared_.cells[r][now & 1];
      if (r != rank_) await(theirs.stamp, now);
      float const* const y = tiny ? theirs.few : theirs.many;
      if (r == 0) {
        std::copy_n(y, n, x);
      } else {
        for (std::size_t i = 0; i < n; ++i) x[i] += y[i];
      }
    }
  }

  /// Every rank sums its share of all vectors and writes it to all.
  void resident_sum(std::size_t n) {
    if (n * 4 <= small) return small_sum(resident_[rank_], n);
    barrier();
    std::size_t const first = share(n, rank_), last = share(n, rank_ + 1);
    if (ranks_ == 2) {
      float *const a = resident_[0], *const b = resident_[1];
      NO_ALIAS
      for (std::size_t i = first; i < last; ++i) a[i] = b[i] = a[i] + b[i];
    } else {
      constexpr std::size_t block = 2048;
      for (std::size_t at = first; at < last; at += block) {
        std::size_t const end = std::min(at + block, last);
        float* const a = resident_[0];
        for (int r = 1; r < ranks_; ++r) {
          float const* const b = resident_[r];
          NO_ALIAS
          for (std::size_t i = at; i < end; ++i) a[i] += b[i];
        }
        for (int r = 1; r < ranks_; ++r) std::copy(a + at, a + end, resident_[r] + at);
      }
    }
    barrier();
  }

  /// Two ranks, private vectors: each sums one half, with what the other put into the ring, and puts the sums back.
  void staged(float* x, std::size_t n) {
    if (n * 4 <= small) return small_sum(x, n);
    std::size_t const half = share(n, 1);
    float *const own = x + (rank_ == 0 ? 0 : half), *const other = x + (rank_ == 0 ? half : 0);
    std::size_t const mine = rank_ == 0 ? half : n - half, away = n - mine;
    std::size_t const piece = piece_of(n), pieces = (std::max(mine, away) + piece - 1) / piece;
    Counter &published = shared_.published[rank_].count, &theirs = shared_.published[1 - rank_].count,
            &summed = shared_.returned[rank_].count, &sums = shared_.returned[1 - rank_].count;
    auto const count = [&](std::size_t total, std::size_t k) {
      return k * piece < total ? std::min(piece, total - k * piece) : 0;
    };
    std::size_t const ahead = 3;
    for (std::size_t k = 0; k < pieces + ahead; ++k) {
      if (k < pieces) {
        std::copy_n(other + k * piece, count(away, k), shared_.ring[rank_][(base_ + k) % slots]);
        published.store(base_ + k + 1, std::memory_order_release);
      }
      if (k >= 1 && k - 1 < pieces) {
        await(theirs, base_ + k);
        float* const y = shared_.ring[1 - rank_][(base_ + k - 1) % slots];
        float* const to = own + (k - 1) * piece;
        std::size_t const values = count(mine, k - 1);
        NO_ALIAS
        for (std::size_t i = 0; i < values; ++i) to[i] = y[i] = to[i] + y[i];
        summed.store(base_ + k, std::memory_order_release);
      }
      if (k >= ahead) {
        await(sums, base_ + k - ahead + 1);
        std::copy_n(shared_.ring[rank_][(base_ + k - ahead) % slots], count(away, k - ahead),
                    other + (k - ahead) * piece);
      }
    }
    base_ += pieces;
  }

  /// d = alpha (x - c); x -= d; c += d in one pass; ranks start at different places and never wait.
  static void elastic(float* __restrict x, float* __restrict c, std::size_t n, std::size_t start) {
    for (auto const& [first, last] : {std::pair{start, n}, std::pair{std::size_t(0), start}})
      for (std::size_t i = first; i < last; ++i) {
        float const d = 0.25f * (x[i] - c[i]);
        x[i] -= d;
        c[i] += d;
      }
  }
  /// The same as three passes over a temporary.
  static void elastic_in_passes(float* __restrict x, float* __restrict c, float* __restrict d,
                                std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) d[i] = 0.25f * (x[i] - c[i]);
    asm volatile("" ::: "memory");
    for (std::size_t i = 0; i < n; ++i) x[i] -= d[i];
    asm volatile("" ::: "memory");
    for (std::size_t i = 0; i < n; ++i) c[i] += d[i];
  }

 private:
  static int cores() { return static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)); }
  std::size_t share(std::size_t n, int r) const {
    return r == ranks_
               ? n
               : (n / static_cast<std::size_t>(ranks_) * static_cast<std::size_t>(r)) & ~std::size_t(15);
  }
  static std::size_t piece_of(std::size_t n) { return std::clamp(n / 4, std::size_t(8192), slot_floats); }
  void await(Counter const& counter, std::uint64_t value) const {
    for (int spins = 0; counter.load(std::memory_order_acquire) < value; ++spins) {
      _mm_pause();
      if (spins >= spins_) ::sched_yield();
    }
  }

  Shared& shared_;
  float* const* resident_;
  int rank_, ranks_, spins_;
  std::uint64_t barriers_ = 0, sums_ = 0, base_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  std::string const group = bench::argument(argc, argv, "group");
  int const ranks = std::stoi(bench::argument(argc, argv, "ranks", "2"));
  std::size_t const most = std::stoull(bench::argument(argc, argv, "most-bytes", "256000000"));
  bench::Floats const memory(sizeof(Shared) / 4, MAP_SHARED);
  auto& shared = *reinterpret_cast<Shared*>(memory.data());
  bench::Floats const residents(static_cast<std::size_t>(ranks) * (most / 4 + 1024),
                                MAP_SHARED | MAP_NORESERVE);
  std::vector<float*> resident;
  for (int r = 0; r < ranks; ++r)
    resident.push_back(residents.data() +
                       static_cast<std::size_t>(r) * ((most / 4 + 1023) & ~std::size_t(1023)));

  return bench::fork_ranks(ranks, [&](int rank) {
    Bare bare(shared, resident.data(), rank, ranks);
    float* const own = resident[static_cast<std::size_t>(rank)];
    bench::Cases cases;
    cases["resident"] = [&](std::size_t bytes) {
      std::size_t const n = bytes / 4;
      return bench::Case{[=] { bench::fill(own, n, rank); }, [=, &bare] { bare.resident_sum(n); },
                         [=](int calls) { return bench::is_all_reduced(own, n, ranks, calls); },
                         bench::all_reduces_in_range(ranks)};
    };
    cases["staged"] = [&](std::size_t bytes) {
      auto const x = std::make_shared<bench::Floats>(bytes / 4);
      return bench::Case{[=] { bench::fill(x->data(), x->size(), rank); },
                         [=, &bare] { bare.staged(x->data(), x->size()); },
                         [=](int calls) { return bench::is_all_reduced(x->data(), x->size(), ranks, calls); },
                         bench::all_reduces_in_range(ranks)};
    };

    // The center is rank 0's resident memory; the first `workers` ranks exchange with it.
    auto const exchange = [&](int workers, bool in_passes) {
      return [rank, workers, in_passes, center = resident[0]](std::size_t bytes) {
        std::size_t const n = bytes / 4;
        auto const x = std::make_shared<bench::Floats>(n),
                   d = std::make_shared<bench::Floats>(in_passes ? n : 0);
        std::size_t const start =
            (n / static_cast<std::size_t>(workers) * static_cast<std::size_t>(rank)) & ~std::size_t(15);
        return bench::Case{
            [=] {
              bench::fill(x->data(), n, rank + 1);
              if (rank == 0) bench::fill(center, n, 0);
            },
            [=] {
              if (rank >= workers) return;
              if (in_passes) return Bare::elastic_in_passes(x->data(), center, d->data(), n);
              Bare::elastic(x->data(), center, n, start);
            },
            {},
            100,
            [=] { return bench::sum(x->data(), n) + (rank == 0 ? bench::sum(center, n) : 0); }};
      };
    };
    cases["exchange_1"] = exchange(1, false);
    cases["exchange_2"] = exchange(2, false);
    cases["exchange_passes"] = exchange(1, true);
    bench::serve(group, rank, ranks, cases);
  });
}
