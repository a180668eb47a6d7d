// SPDX-License-Identifier: Apache-2.0
// The ranks of a team as they meet in NCCL, wait there and leave it.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/error.hpp"
#include "elastic/stall.hpp"
#include "elastic/transport/detail/nccl_communicator.hpp"

namespace elastic::transport::detail {

/// Ranks 0 .. ranks()-1 of `Inner`, which tells them of each other and of the end of the job. They meet when they first
/// have something to do. After any failure there is no team any more.
template <PointToPoint Inner>
class NcclTeam {
 public:
  NcclTeam(Inner& inner, int device)
      : inner_(inner),
        device_(device),
        where_("rank " + std::to_string(inner.rank()) + " of " + std::to_string(inner.size()) +
               " with device " + std::to_string(device)),
        ranks_(inner.size()) {
    device::detail::OnDevice const here(device_);
    stream_ = std::make_unique<device::detail::Stream>();
  }

  int ranks() const { return ranks_; }

  /// call(communicator, stream) on a stream beside `work`, after what was submitted there so far; the event of its end.
  template <class Call>
  device::detail::Event enqueue(char const* operation, cudaStream_t work, Call call) {
    if (inner_.rank() >= ranks_)
      throw ConfigError("rank " + std::to_string(inner_.rank()) + " is outside the team of " +
                        std::to_string(ranks_) + " ranks and takes no part in its collectives");
    device::detail::OnDevice const here(device_);
    if (!communicator_) meet();
    device::detail::Event(work).before(stream_->get());
    guarded([&] { communicator_->check(operation, call(communicator_->get(), stream_->get())); });
    await(operation, [&] { return is_ready(operation); });
    return device::detail::Event(stream_->get());
  }

  /// Polls until done(). Throws Timeout at Inner's deadline, and what look() throws.
  template <class Done>
  void await(char const* operation, Done done) {
    look(operation);
    auto const start = std::chrono::steady_clock::now();
    StallWatch watch(inner_.rank(), operation, inner_.timeout());
    for (int turn = 1; !done(); ++turn) {
      if (turn % 64 != 0) continue;
      look(operation);
      auto const waited = std::chrono::steady_clock::now() - start;
      if (waited >= inner_.timeout()) {
        give_up();
        throw Timeout(-1, this_host(), operation, waited, where_ + ": the others did not come");
      }
      watch.look(waited, [] { return -1; });
      std::this_thread::yield();
    }
  }
  /// Throws if NCCL reports an error, or Inner that the job has ended or a rank is lost.
  void look(char const* operation) {
    if (!communicator_)
      throw TransportError(-1, this_host(), operation, {}, where_ + ": the communicator has ended");
    guarded([&] {
      communicator_->ready(operation);
      inner_.probe();
    });
  }

  /// From now on the team is the first `ranks` ranks; the old one ends, all its ranks together.
  void regroup(int ranks) {
    leave();
    ranks_ = ranks;
  }
  void leave() {
    if (!communicator_) return;
    device::detail::OnDevice const here(device_);
    guarded([&] { communicator_->finish(); });
    await("nccl: leaving", [&] { return is_ready("nccl: leaving"); });
    communicator_->end();
    communicator_.reset();
  }
  /// Ends at once, with what is in flight.
  void give_up() {
    communicator_.reset();
    lost_ = true;
  }

 private:
  /// Where a rank computes, for all to compare.
  struct Place {
    std::array<char, 16> gpu;
    std::array<char, 16> slot;
    std::array<char, 64> host;
  };

  void meet() {
    if (lost_) throw TransportError(-1, this_host(), "nccl", {}, where_ + ": an earlier collective failed");
    refuse_shared_devices();
    ncclUniqueId id{};
    if (inner_.rank() == 0) check_nccl(ncclGetUniqueId(&id), nullptr, "ncclGetUniqueId", where_);
    inner_.broadcast(Span<char>(id.internal), 0);
    guarded([&] { communicator_ = std::make_unique<NcclCommunicator>(id, inner_.rank(), ranks_, where_); });
    await("nccl: joining", [&] { return is_ready("nccl: joining"); });
  }

  /// NCCL hangs, or fails late, where two ranks use one GPU.
  void refuse_shared_devices() {
    std::vector<Place> places(static_cast<std::size_t>(ranks_));
    Place& mine = places[static_cast<std::size_t>(inner_.rank())];
    cudaDeviceProp properties{};
    device::detail::check(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties");
    std::memcpy(mine.gpu.data(), properties.uuid.bytes, mine.gpu.size());
    device::detail::check(cudaDeviceGetPCIBusId(mine.slot.data(), int(mine.slot.size()), device_),
                          "cudaDeviceGetPCIBusId");
    this_host().copy(mine.host.data(), mine.host.size() - 1);
    for (int r = 0; r < ranks_; ++r)
      inner_.broadcast(
          Span<char>(reinterpret_cast<char*>(&places[static_cast<std::size_t>(r)]), sizeof(Place)), r);
    for (std::size_t a = 0; a < places.size(); ++a)
      for (std::size_t b = a + 1; b < places.size(); ++b)
        if (places[a].gpu == places[b].gpu)
          throw ConfigError("nccl: ranks " + std::to_string(a) + " and " + std::to_string(b) +
                            " both use the GPU at " + places[b].slot.data() + " on " + places[b].host.data() +
                            "; NCCL wants one GPU a rank (choose them by device::Cuda(ordinal) or "
                            "CUDA_VISIBLE_DEVICES), or leave it out: Staged lets ranks share a GPU");
  }

  bool is_ready(char const* operation) {
    bool ready = false;
    guarded([&] { ready = communicator_->ready(operation); });
    return ready;
  }
  /// What fails in `f` ends the team: NCCL can do nothing with its communicator any more.
  template <class F>
  void guarded(F f) {
    try {
      f();
    } catch (...) {
      give_up();
      throw;
    }
  }

  Inner& inner_;
  int device_;
  std::string where_;
  int ranks_;
  bool lost_ = false;
  std::unique_ptr<device::detail::Stream> stream_;
  std::unique_ptr<NcclCommunicator> communicator_;
};

}  // namespace elastic::transport::detail
