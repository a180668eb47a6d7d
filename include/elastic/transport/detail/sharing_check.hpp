// SPDX-License-Identifier: Apache-2.0
// Whether the devices of all ranks see one memory: asked with data, since a mapping that succeeds may still show
// something else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/error.hpp"

namespace elastic::transport::detail {

/// Every rank reads what rank 0 wrote into memory of its device and writes what rank 0 reads. Returns why that does
/// not work, on every rank; empty if it does. All ranks call it.
template <elastic::Collective Net, class Dev>
std::string why_not_shared(Net& net, Dev& device) {
  constexpr std::size_t block = 4096;  // words of each rank
  auto const ranks = static_cast<std::size_t>(net.size()), rank = static_cast<std::size_t>(net.rank());
  std::vector<std::uint32_t> values(block);
  auto const fill = [&](std::size_t owner, std::size_t writer) {
    for (std::size_t i = 0; i < block; ++i)
      values[i] = static_cast<std::uint32_t>((owner * block + i + 1) * 2654435761u + (writer + 1) * 40503u);
  };
  std::string failure;
  auto const on_all_ranks = [&](auto work) {
    try {
      work();
    } catch (Error const& error) {
      failure = error.what();
    }
    double failures = failure.empty() ? 0 : 1;
    net.all_reduce(Span<double>(&failures, 1));
    if (failures > 0 && failure.empty()) failure = "it does not work on another rank";
    return failures == 0;
  };

  using Shared = decltype(device.template share<std::uint32_t>(block));
  std::optional<Shared> shared;
  auto const part = [&](std::size_t owner) { return shared->span().part(owner * block, block); };
  auto const write = [&](std::size_t owner) {
    fill(owner, rank);
    device.upload(Span<std::uint32_t const>(values), part(owner));
  };
  auto const check = [&](std::size_t owner, std::size_t writer) {
    std::vector<std::uint32_t> found(block);
    device.download(read(part(owner)), Span<std::uint32_t>(found));
    fill(owner, writer);
    if (found != values) throw DeviceError("memory shared between devices does not hold what was written");
  };

  std::array<char, sizeof(typename Dev::Handle)> bytes{};
  bool well = on_all_ranks([&] {
    if (rank != 0) return;
    shared.emplace(device.template share<std::uint32_t>(ranks * block));
    for (std::size_t r = 0; r < ranks; ++r) write(r);
    typename Dev::Handle const handle = shared->handle();
    std::memcpy(bytes.data(), &handle, sizeof handle);
  });
  if (!well) return failure;
  net.broadcast(Span<char>(bytes), 0);
  well = on_all_ranks([&] {
    if (rank == 0) return;
    typename Dev::Handle handle{};
    std::memcpy(&handle, bytes.data(), sizeof handle);
    shared.emplace(device.template open<std::uint32_t>(handle, ranks * block));
    check(rank, 0);
    write(rank);
  });
  if (!well) return failure;
  on_all_ranks([&] {
    for (std::size_t r = 1; rank == 0 && r < ranks; ++r) check(r, r);
  });
  return failure;
}

}  // namespace elastic::transport::detail
