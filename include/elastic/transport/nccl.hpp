// SPDX-License-Identifier: Apache-2.0
// NCCL carries the collectives of device memory, another transport everything else. It includes the CUDA runtime and
// NCCL, but any compiler compiles it.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "elastic/chunks.hpp"
#include "elastic/concepts.hpp"
#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/error.hpp"
#include "elastic/transport/detail/nccl_team.hpp"

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
      : inner_(inner), device_(std::move(device)), team_(inner, device_.ordinal()) {}
  Nccl(Nccl const&) = delete;
  ~Nccl() {
    try {
      if (std::uncaught_exceptions() == exceptions_) team_.leave();
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
    team_.give_up();
    inner_.abort(why);
  }

  /// A sum on its way. Destroying it waits, unless an exception is on its way; the communicator then ends.
  class [[nodiscard]] Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : team_(std::exchange(other.team_, nullptr)),
          end_(std::move(other.end_)),
          failure_(std::move(other.failure_)),
          exceptions_(other.exceptions_) {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(team_, other.team_);
      std::swap(end_, other.end_);
      std::swap(failure_, other.failure_);
      return *this;
    }
    ~Ticket() {
      if (team_ != nullptr && std::uncaught_exceptions() > exceptions_) team_->give_up();
      try {
        wait();
      } catch (...) {  // the wait that mattered was the caller's
      }
    }
    void wait() {
      if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
      if (auto* const team = std::exchange(team_, nullptr))
        team->await(operation, [&] { return end_.done(); });
    }
    bool done() {
      if (team_ == nullptr || end_.done()) return true;
      try {
        team_->look(operation);
      } catch (...) {
        failure_ = std::current_exception();
        team_ = nullptr;
      }
      return team_ == nullptr;
    }

   private:
    friend Nccl;
    static constexpr char const* operation = "nccl: all_reduce";
    Ticket(detail::NcclTeam<Inner>& team, device::detail::Event end) : team_(&team), end_(std::move(end)) {}
    detail::NcclTeam<Inner>* team_;
    device::detail::Event end_;
    std::exception_ptr failure_;
    int exceptions_ = std::uncaught_exceptions();
  };

  /// Limits the collectives to ranks 0 .. ranks-1; every rank calls it, with no collective in flight.
  void team(int ranks) {
    inner_.team(ranks);
    team_.regroup(ranks);
  }
  void barrier() { inner_.barrier(); }

  template <class T>
  requires std::same_as<T, float> || std::same_as<T, double>
  void broadcast(Span<T, memory::Cuda> x, int root) {
    if (root < 0 || root >= team_.ranks())
      throw ConfigError("broadcast from rank " + std::to_string(root) + ": expected 0 to " +
                        std::to_string(team_.ranks() - 1));
    auto const end =
        team_.enqueue("nccl: broadcast", device_.stream(), [&](ncclComm_t team, cudaStream_t stream) {
          return ncclBroadcast(x.data(), x.data(), x.size(), type<T>, root, team, stream);
        });
    auto const others = static_cast<std::uint64_t>(team_.ranks() - 1);
    bool const root_here = root == rank();
    (root_here ? traffic_.sent_bytes : traffic_.received_bytes) +=
        x.size() * sizeof(T) * (root_here ? others : 1);
    (root_here ? traffic_.sent_messages : traffic_.received_messages) += root_here ? others : 1;
    team_.await("nccl: broadcast", [&] { return end.done(); });
  }
  template <class T>
  void all_reduce(Span<T, memory::Cuda> x) {
    start_all_reduce(x).wait();
  }
  /// Several may be in flight; every rank starts them in the same order.
  template <class T>
  requires std::same_as<T, float> || std::same_as<T, double> Ticket
  start_all_reduce(Span<T, memory::Cuda> x) {
    auto end = team_.enqueue("nccl: all_reduce", device_.stream(), [&](ncclComm_t team, cudaStream_t stream) {
      return ncclAllReduce(x.data(), x.data(), x.size(), type<T>, ncclSum, team, stream);
    });
    std::size_t const sent = all_reduce_sent(x.size(), team_.ranks(), rank()) * sizeof(T);
    auto const messages = 2 * static_cast<std::uint64_t>(team_.ranks() - 1);
    traffic_.sent_bytes += sent;
    traffic_.received_bytes += sent;
    traffic_.sent_messages += messages;
    traffic_.received_messages += messages;
    return {team_, std::move(end)};
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

  Inner& inner_;
  Dev device_;
  detail::NcclTeam<Inner> team_;
  Traffic traffic_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace elastic::transport
