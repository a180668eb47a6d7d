// SPDX-License-Identifier: Apache-2.0
// NCCL carries the collectives of device memory, another transport everything else. It includes the CUDA runtime and
// NCCL, but any compiler compiles it.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"
#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/error.hpp"
#include "elastic/stall.hpp"
#include "elastic/transport/detail/chunks.hpp"
#include "elastic/transport/detail/nccl_communicator.hpp"

namespace elastic::transport {

namespace detail {
/// The windows of a transport, where it has any.
template <class Inner>
struct WindowsOf {};
template <class Inner>
requires requires { typename Inner::WindowHandle; }
struct WindowsOf<Inner> {
  using WindowHandle = typename Inner::WindowHandle;
  template <class T>
  using Window = typename Inner::template Window<T>;
};
}  // namespace detail

/// Adds the collectives of vectors on GPUs to any transport: with one GPU a rank, NCCL moves them from device to
/// device. The ranks, messages, windows, host vectors, team and deadline are those of `Inner`, which hands out what NCCL
/// needs to start and outlives this. Messages of device memory need an `Inner` that carries them, as Staged does.
///
///     transport::Nccl net(tcp, device);   // Tcp, Mpi, SharedMemory, Threads, or a Staged of one of them
///
/// Ranks meet in NCCL at their first collective of device memory after the start or after team(); two ranks of a team
/// on one GPU throw ConfigError there, on every rank. Sums are NCCL's: equal on all ranks, but in an order it chooses.
/// A collective runs on a stream beside the device's, after the work submitted before it; its buffer may be touched
/// again after wait(). Waiting ranks poll: they throw Timeout at Inner's deadline, and Aborted or PeerLost when Inner
/// says so. After any of these NCCL's communicator is gone; end the job. One thread at a time.
template <PointToPoint Inner, class Dev>
class Nccl : public detail::WindowsOf<Inner> {
 public:
  static constexpr std::string_view name = "nccl";
  template <class Memory>
  static constexpr bool reaches = std::same_as<Memory, memory::Cuda> || Inner::template reaches<Memory>;
  static_assert(std::same_as<typename Dev::memory, memory::Cuda>,
                "NCCL moves the memory of GPUs: device::Cuda");

  Nccl(Inner& inner, Dev device)
      : inner_(inner),
        device_(std::move(device)),
        where_("rank " + std::to_string(inner.rank()) + " of " + std::to_string(inner.size()) +
               " with device " + std::to_string(device_.ordinal())),
        team_(inner.size()) {
    device::detail::OnDevice const here(device_.ordinal());
    stream_ = std::make_unique<device::detail::Stream>();
  }
  Nccl(Nccl const&) = delete;
  ~Nccl() {
    try {
      if (std::uncaught_exceptions() == exceptions_) leave();
    } catch (...) {  // the others are gone: the communicator ends without them
    }
  }

  int rank() const { return inner_.rank(); }
  int size() const { return inner_.size(); }
  auto timeout() const { return inner_.timeout(); }
  /// Inner's, and what NCCL has moved for this rank: by formula, an all-reduce as reduce-scatter and all-gather, a
  /// broadcast as one message to each.
  Traffic traffic() const {
    Traffic sum = inner_.traffic();
    sum.sent_bytes += traffic_.sent_bytes;
    sum.received_bytes += traffic_.received_bytes;
    sum.sent_messages += traffic_.sent_messages;
    sum.received_messages += traffic_.received_messages;
    return sum;
  }
  /// Releases the others, also those that wait in NCCL.
  void abort(std::string_view why) {
    give_up();
    inner_.abort(why);
  }

  /// A sum on its way. Destroying it waits, unless an exception is on its way; the communicator then ends.
  class [[nodiscard]] Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : net_(std::exchange(other.net_, nullptr)),
          end_(std::move(other.end_)),
          failure_(std::move(other.failure_)),
          exceptions_(other.exceptions_) {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(net_, other.net_);
      std::swap(end_, other.end_);
      std::swap(failure_, other.failure_);
      return *this;
    }
    ~Ticket() {
      if (net_ != nullptr && std::uncaught_exceptions() > exceptions_) net_->give_up();
      try {
        wait();
      } catch (...) {  // the wait that mattered was the caller's
      }
    }
    void wait() {
      if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
      if (Nccl* const net = std::exchange(net_, nullptr)) net->await(operation, [&] { return end_.done(); });
    }
    bool done() {
      if (net_ == nullptr || end_.done()) return true;
      try {
        net_->look(operation);
      } catch (...) {
        failure_ = std::current_exception();
        net_ = nullptr;
      }
      return net_ == nullptr;
    }

   private:
    friend Nccl;
    static constexpr char const* operation = "nccl: all_reduce";
    Ticket(Nccl& net, device::detail::Event end) : net_(&net), end_(std::move(end)) {}
    Nccl* net_;
    device::detail::Event end_;
    std::exception_ptr failure_;
    int exceptions_ = std::uncaught_exceptions();
  };

  /// Limits the collectives to ranks 0 .. ranks-1; every rank calls it, with no collective in flight.
  void team(int ranks) {
    leave();
    inner_.team(ranks);
    team_ = ranks;
  }
  void barrier() { inner_.barrier(); }

  template <class T>
  requires std::same_as<T, float> || std::same_as<T, double>
  void broadcast(Span<T, memory::Cuda> x, int root) {
    if (root < 0 || root >= team_)
      throw ConfigError("broadcast from rank " + std::to_string(root) + ": expected 0 to " +
                        std::to_string(team_ - 1));
    auto const end = enqueue("nccl: broadcast", [&] {
      return ncclBroadcast(x.data(), x.data(), x.size(), type<T>, root, communicator_->get(), stream_->get());
    });
    auto const others = static_cast<std::uint64_t>(team_ - 1);
    bool const root_here = root == rank();
    (root_here ? traffic_.sent_bytes : traffic_.received_bytes) +=
        x.size() * sizeof(T) * (root_here ? others : 1);
    (root_here ? traffic_.sent_messages : traffic_.received_messages) += root_here ? others : 1;
    await("nccl: broadcast", [&] { return end.done(); });
  }
  template <class T>
  void all_reduce(Span<T, memory::Cuda> x) {
    start_all_reduce(x).wait();
  }
  /// Several may be in flight; every rank starts them in the same order.
  template <class T>
  requires std::same_as<T, float> || std::same_as<T, double> Ticket
  start_all_reduce(Span<T, memory::Cuda> x) {
    auto end = enqueue("nccl: all_reduce", [&] {
      return ncclAllReduce(x.data(), x.data(), x.size(), type<T>, ncclSum, communicator_->get(),
                           stream_->get());
    });
    std::size_t const sent = detail::all_reduce_sent(x.size(), team_, rank()) * sizeof(T);
    auto const messages = 2 * static_cast<std::uint64_t>(team_ - 1);
    traffic_.sent_bytes += sent;
    traffic_.received_bytes += sent;
    traffic_.sent_messages += messages;
    traffic_.received_messages += messages;
    return {*this, std::move(end)};
  }

  /// What the ranks of a collective must have in common.
  std::string terms() const {
    std::string mine = "collectives=nccl\n";
    if constexpr (requires { inner_.terms(); }) mine += inner_.terms();
    return mine;
  }

  // -- what Inner does

  auto& host_transport() {
    if constexpr (requires { inner_.host_transport(); })
      return inner_.host_transport();
    else
      return inner_;
  }
  template <class T>
  void broadcast(Span<T> x, int root) {
    inner_.broadcast(x, root);
  }
  template <class T>
  void all_reduce(Span<T> x) {
    inner_.all_reduce(x);
  }
  template <class T>
  auto start_all_reduce(Span<T> x) {
    return inner_.start_all_reduce(x);
  }
  template <class T, class Memory>
  requires requires(Inner& inner, Span<T, Memory> x) { inner.send(x, 0, 0); }
  void send(Span<T, Memory> x, int peer, int tag) { inner_.send(x, peer, tag); }
  template <class T, class Memory>
  requires requires(Inner& inner, Span<T, Memory> x) { inner.start_send(x, 0, 0); }
  auto start_send(Span<T, Memory> x, int peer, int tag) { return inner_.start_send(x, peer, tag); }
  template <class T, class Memory>
  requires requires(Inner& inner, Span<T, Memory> x) { inner.receive(x, 0, 0); }
  void receive(Span<T, Memory> x, int peer, int tag) { inner_.receive(x, peer, tag); }
  template <class T, class Memory>
  requires requires(Inner& inner, Span<T, Memory> x) { inner.start_receive(x, 0, 0); }
  auto start_receive(Span<T, Memory> x, int peer, int tag) { return inner_.start_receive(x, peer, tag); }
  std::optional<Envelope> probe() { return inner_.probe(); }
  Envelope wait_message() { return inner_.wait_message(); }
  template <class T>
  auto make_window(std::size_t n) {
    return inner_.template make_window<T>(n);
  }
  template <class T, class Handle>
  auto open_window(Handle const& handle) {
    return inner_.template open_window<T>(handle);
  }

 private:
  template <class T>
  static constexpr ncclDataType_t type = std::same_as<T, float> ? ncclFloat32 : ncclFloat64;

  /// Where a rank computes, for all to compare.
  struct Place {
    std::array<char, 16> gpu;
    std::array<char, 16> slot;
    std::array<char, 64> host;
  };

  /// call() in NCCL, after the work that the device has been given so far; the event of its end.
  template <class Call>
  device::detail::Event enqueue(char const* operation, Call call) {
    if (rank() >= team_)
      throw ConfigError("rank " + std::to_string(rank()) + " is outside the team of " +
                        std::to_string(team_) + " ranks and takes no part in its collectives");
    device::detail::OnDevice const here(device_.ordinal());
    if (!communicator_) meet();
    device::detail::Event(device_.stream()).before(stream_->get());
    guarded([&] { communicator_->check(operation, call()); });
    await(operation, [&] { return is_ready(operation); });
    return device::detail::Event(stream_->get());
  }

  /// Joins NCCL with the team.
  void meet() {
    if (lost_)
      throw TransportError(-1, detail::this_host(), "nccl", {}, where_ + ": an earlier collective failed");
    refuse_shared_devices();
    ncclUniqueId id{};
    if (rank() == 0) detail::check_nccl(ncclGetUniqueId(&id), nullptr, "ncclGetUniqueId", where_);
    inner_.broadcast(Span<char>(id.internal), 0);
    guarded([&] { communicator_ = std::make_unique<detail::NcclCommunicator>(id, rank(), team_, where_); });
    await("nccl: joining", [&] { return is_ready("nccl: joining"); });
  }

  /// NCCL hangs, or fails late, where two ranks use one GPU.
  void refuse_shared_devices() {
    std::vector<Place> places(static_cast<std::size_t>(team_));
    Place& mine = places[static_cast<std::size_t>(rank())];
    cudaDeviceProp properties{};
    device::detail::check(cudaGetDeviceProperties(&properties, device_.ordinal()), "cudaGetDeviceProperties");
    std::memcpy(mine.gpu.data(), properties.uuid.bytes, mine.gpu.size());
    device::detail::check(cudaDeviceGetPCIBusId(mine.slot.data(), int(mine.slot.size()), device_.ordinal()),
                          "cudaDeviceGetPCIBusId");
    detail::this_host().copy(mine.host.data(), mine.host.size() - 1);
    for (int r = 0; r < team_; ++r)
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

  /// Ends the membership, with the others, if there is one.
  void leave() {
    if (!communicator_) return;
    device::detail::OnDevice const here(device_.ordinal());
    guarded([&] { communicator_->finish(); });
    await("nccl: leaving", [&] { return is_ready("nccl: leaving"); });
    communicator_->end();
    communicator_.reset();
  }

  /// What fails in `f` ends the communicator: NCCL can do nothing with it any more.
  template <class F>
  void guarded(F f) {
    try {
      f();
    } catch (...) {
      give_up();
      throw;
    }
  }
  void give_up() {
    communicator_.reset();
    lost_ = true;
  }

  bool is_ready(char const* operation) {
    bool ready = false;
    guarded([&] { ready = communicator_->ready(operation); });
    return ready;
  }
  /// Throws if the communicator, the job or a peer has ended.
  void look(char const* operation) {
    if (!communicator_)
      throw TransportError(-1, detail::this_host(), operation, {}, where_ + ": the communicator has ended");
    guarded([&] {
      communicator_->ready(operation);
      inner_.probe();
    });
  }

  template <class Done>
  void await(char const* operation, Done done) {
    look(operation);
    auto const start = std::chrono::steady_clock::now();
    StallWatch watch(rank(), operation, timeout());
    for (int turn = 1; !done(); ++turn) {
      if (turn % 64 != 0) continue;
      look(operation);
      auto const waited = std::chrono::steady_clock::now() - start;
      if (waited >= timeout()) {
        give_up();
        throw Timeout(-1, detail::this_host(), operation, waited, where_ + ": the others did not come");
      }
      watch.look(waited, [] { return -1; });
      std::this_thread::yield();
    }
  }

  Inner& inner_;
  Dev device_;
  std::string where_;
  int team_;
  bool lost_ = false;
  Traffic traffic_;
  std::unique_ptr<device::detail::Stream> stream_;
  std::unique_ptr<detail::NcclCommunicator> communicator_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace elastic::transport
