// SPDX-License-Identifier: Apache-2.0
// Buffers that live in the shared memory of their job: sums in place have the bits of every other path, mixed
// places work, and the memory is bounded, reused and given back.
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include <fstream>
#include <memory_resource>
#include <set>

#include "elastic/device/cpu.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "support/catch.hpp"
#include "support/launch_shared_memory.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using support::Forked;
using support::Launch;
using support::random_values;
using transport::SharedMemory;

/// What a loop over the ranks' values in rank order gives.
template <class T>
std::vector<T> serial_sum(std::size_t n, int ranks, unsigned seed) {
  auto sum = random_values<T>(n, seed);
  for (int r = 1; r < ranks; ++r) {
    auto const x = random_values<T>(n, seed + unsigned(r));
    for (std::size_t i = 0; i < n; ++i) sum[i] += x[i];
  }
  return sum;
}
template <class T>
double differences(Span<T> x, std::vector<T> const& expected) {
  double count = double(x.size() != expected.size());
  for (std::size_t i = 0; i < x.size(); ++i) count += x[i] != expected[i];
  return count;
}

template <class Net, class T>
void sums_in_place(int p, std::size_t n) {
  INFO(p << " ranks, " << n << " values");
  auto const expected = serial_sum<T>(n, p, 3);
  auto const answers = Launch<Net>::run(p, [&](SharedMemory& net) -> std::vector<double> {
    device::Cpu device(net.resident());
    auto const buffer = device.allocate<T>(n + 1);  // not where a cache line begins
    auto const x = buffer.span().part(1, n);
    auto const mine = random_values<T>(n, 3 + unsigned(net.rank()));
    double wrong = 0;
    for (int round = 0; round < 3; ++round) {
      std::copy(mine.begin(), mine.end(), x.data());
      net.all_reduce(x);
      wrong += differences(x, expected);
    }
    wrong += buffer.span()[0] != 0;
    std::vector<T> elsewhere;
    auto mixed = x;  // one private buffer sends everybody through the stages
    if (net.rank() == p - 1) {
      elsewhere.resize(n);
      mixed = elsewhere;
    }
    std::copy(mine.begin(), mine.end(), mixed.data());
    net.all_reduce(mixed);
    return {wrong + differences(mixed, expected)};
  });
  CHECK(answers == support::Answers(std::size_t(p), {0}));
}

TEMPLATE_TEST_CASE("sums of resident buffers have the bits of a loop in rank order", "", SharedMemory,
                   Forked<SharedMemory>) {
  for (int const p : {1, 2, 3, 4, 5, 8})
    for (std::size_t const n : {std::size_t(1), std::size_t(1025), std::size_t(40'000), std::size_t(400'003)})
      sums_in_place<TestType, float>(p, n);
  sums_in_place<TestType, double>(3, 200'001);
}

/// into += gain * sum, of which x and `into` lie in the job, or one of them elsewhere on one rank.
template <class Net, class T>
void sums_added(int p, std::size_t n) {
  INFO(p << " ranks, " << n << " values");
  auto expected = random_values<T>(n, 50);
  auto const sum = serial_sum<T>(n, p, 3);
  for (std::size_t i = 0; i < n; ++i) expected[i] += T(0.5) * sum[i];
  auto const answers = Launch<Net>::run(p, [&](SharedMemory& net) -> std::vector<double> {
    device::Cpu device(net.resident());
    auto const x_buffer = device.allocate<T>(n), into_buffer = device.allocate<T>(n);
    auto const mine = random_values<T>(n, 3 + unsigned(net.rank())), start = random_values<T>(n, 50);
    std::vector<T> elsewhere(n);
    double wrong = 0;
    for (int apart = 0; apart < 3; ++apart) {  // nothing, x, into
      bool const last = net.rank() == p - 1;
      Span<T> const x = last && apart == 1 ? Span<T>(elsewhere) : x_buffer.span();
      Span<T> const into = last && apart == 2 ? Span<T>(elsewhere) : into_buffer.span();
      for (int round = 0; round < 2; ++round) {
        std::copy(mine.begin(), mine.end(), x.data());
        std::copy(start.begin(), start.end(), into.data());
        net.start_add_sum(into, 0.5, x).wait();
        wrong += differences(into, expected) + differences(x, mine);
      }
    }
    return {wrong};
  });
  CHECK(answers == support::Answers(std::size_t(p), {0}));
}

TEMPLATE_TEST_CASE("a sum that is added has the bits of a sum and an addition, and leaves its terms", "",
                   SharedMemory, Forked<SharedMemory>) {
  for (int const p : {1, 2, 3, 4, 5})
    for (std::size_t const n : {std::size_t(1), std::size_t(1025), std::size_t(400'003)})
      sums_added<TestType, float>(p, n);
  sums_added<TestType, double>(3, 200'001);
}

TEST_CASE("a sum is added to as many values as it has, by those who want to") {
  constexpr std::size_t n = 40'000;
  Launch<SharedMemory>::run(2, [](SharedMemory& net) -> std::vector<double> {
    device::Cpu device(net.resident());
    auto const x_buffer = device.allocate<float>(n), into_buffer = device.allocate<float>(n);
    Span<float> const x = x_buffer, into = into_buffer;
    auto const mine = random_values<float>(n, 3 + unsigned(net.rank())), start = random_values<float>(n, 50);
    std::copy(mine.begin(), mine.end(), x.data());
    std::copy(start.begin(), start.end(), into.data());
    CHECK_THAT(support::message_of<ConfigError>([&] { net.start_add_sum(into, 1, x.part(0, 7)).wait(); }),
               ContainsSubstring("sum of 7 values: expected as many to add it to, found 40000"));
    auto sum = serial_sum<float>(n, 2, 3);
    if (net.rank() == 1) {  // what the other does with the sum is its own matter
      net.all_reduce(x);
      CHECK(differences(x, sum) == 0);
    } else {
      net.start_add_sum(into, 1, x).wait();
      for (std::size_t i = 0; i < n; ++i) sum[i] += start[i];
      CHECK(differences(into, sum) == 0);
      CHECK(differences(x, mine) == 0);
    }
    return {};
  });
}

TEMPLATE_TEST_CASE("sums of all kinds of buffers may be in flight at once", "", SharedMemory,
                   Forked<SharedMemory>) {
  constexpr int p = 3;
  auto const answers = Launch<TestType>::run(p, [](SharedMemory& net) -> std::vector<double> {
    device::Cpu device(net.resident());
    constexpr std::size_t count = 30;
    auto const size = [](std::size_t k) { return std::size_t(1) << (k * 7 % 19); };
    std::vector<device::Cpu::Buffer<float>> resident;
    std::vector<std::vector<float>> priv;
    std::vector<Span<float>> x;
    for (std::size_t k = 0; k < count; ++k) {
      auto values = random_values<float>(size(k), 100 * unsigned(k) + unsigned(net.rank()));
      resident.push_back(device.allocate<float>(values.size()));
      std::copy(values.begin(), values.end(), resident.back().span().data());
      priv.push_back(std::move(values));
    }
    for (std::size_t k = 0; k < count; ++k)
      x.push_back(k % 3 == 0 || (k % 5 == 0 && net.rank() == 1) ? Span<float>(priv[k]) : resident[k].span());
    std::vector<SharedMemory::Ticket<transport::detail::Collective>> tickets;
    for (auto const& values : x) tickets.push_back(net.start_all_reduce(values));
    for (std::size_t k = count; k-- > 0;) tickets[k].wait();
    double wrong = 0;
    for (std::size_t k = 0; k < count; ++k)
      wrong += differences(x[k], serial_sum<float>(size(k), p, 100 * unsigned(k)));
    return {wrong};
  });
  CHECK(answers == support::Answers(p, {0}));
}

TEST_CASE("freed memory is used again and given back to the system") {
  Launch<SharedMemory>::run(1, [](SharedMemory& net) -> std::vector<double> {
    auto const free_bytes = [] {
      struct statvfs room {};
      ::statvfs("/dev/shm", &room);
      return std::size_t(room.f_bavail) * std::size_t(room.f_frsize);
    };
    std::size_t const size = std::size_t(20) << 20;
    auto const before = free_bytes();
    std::set<void*> seen;
    for (int k = 0; k < 5; ++k) {
      void* const a = net.resident().allocate(size, 64);
      void* const b = net.resident().allocate(100, 64);
      CHECK(free_bytes() + size <= before + (std::size_t(8) << 20));  // others use /dev/shm, too, but little
      CHECK(std::count(static_cast<char*>(a), static_cast<char*>(a) + size, 0) == std::ptrdiff_t(size));
      std::memset(a, 7, size);
      net.resident().deallocate(a, size, 64);
      net.resident().deallocate(b, 100, 64);
      seen.insert(a);
    }
    CHECK(seen.size() == 1);
    CHECK(free_bytes() + (std::size_t(8) << 20) >= before);
    return {};
  });
}

TEST_CASE("more memory than a rank may have is an error that says how much that is") {
  Launch<SharedMemory>::run(1, [](SharedMemory& net) -> std::vector<double> {
    auto const refusal =
        support::message_of<ConfigError>([&] { (void)net.resident().allocate(std::size_t(1) << 50, 64); });
    CHECK_THAT(refusal, ContainsSubstring("needs 1073741825 MiB more, but a rank may have "));
    CHECK_THAT(refusal, ContainsSubstring("--shm-size"));
    void* const little = net.resident().allocate(100, 64);  // and the rest still works
    net.resident().deallocate(little, 100, 64);
    return {};
  });
}

TEST_CASE("a full /dev/shm is an error that says what is needed and what is there") {
  auto const child = support::start_process([]() -> std::vector<double> {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=32m") != 0)
      return {-1};
    std::ofstream("/dev/shm/somebody-else") << std::string(std::size_t(12) << 20, 'x');
    SharedMemory net(
        {.job = support::unique_name(), .timeout = std::chrono::seconds(10), .memory = std::size_t(1) << 20});
    auto const says = [](std::string const& text) {
      return double(text.find("needs 25 MiB in /dev/shm, which has ") != std::string::npos &&
                    text.find("--shm-size") != std::string::npos);
    };
    std::size_t const bytes = std::size_t(24) << 20;
    return {says(support::message_of<ConfigError>([&] { (void)net.resident().allocate(bytes, 64); })),
            says(support::message_of<ConfigError>([&] { (void)net.make_window<char>(bytes); })),
            double(net.make_window<char>(bytes / 4).size())};
  });
  auto const answer = support::finish_process(child);
  if (answer == std::vector<double>{-1})
    WARN("skipped: this machine lets nobody mount a small /dev/shm of his own");
  else
    CHECK(answer == std::vector<double>{1, 1, 6 << 20});
}

}  // namespace
