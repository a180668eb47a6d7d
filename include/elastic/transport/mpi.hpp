// SPDX-License-Identifier: Apache-2.0
// Ranks are the processes of an MPI job. Boost.MPI starts and ends MPI and owns the communicators; the calls
// themselves are the non-blocking ones of MPI-3, tested against a deadline, which Boost.MPI does not have.
// One file, so that nothing else includes MPI.
#pragma once

#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif
#include <sched.h>

#include <algorithm>
#include <boost/mpi/communicator.hpp>
#include <boost/mpi/environment.hpp>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "elastic/chunks.hpp"
#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/stall.hpp"

namespace elastic::transport {

struct MpiOptions {
  /// The longest any call blocks; above zero. (Starting and ending MPI itself are the launcher's business.)
  std::chrono::duration<double> timeout = std::chrono::seconds(60);
  /// MPI counts are ints: what is longer than this many bytes travels as several blocks; 8 to 2^31 - 1.
  std::size_t block_bytes = std::size_t(1) << 30;
};

/// A rank of an MPI job; models Transport, Collective and PointToPoint.
///
/// Sums are added in an order that MPI chooses: equal on all ranks, but not always to the bit of a serial
/// loop. MPI ends the whole job when a process dies, so PeerLost does not occur. One thread at a time. After
/// a Timeout of a send or a collective MPI may still use the buffer: end the job.
class Mpi {
 public:
  static constexpr std::string_view name = "mpi";
  template <class Memory>
  static constexpr bool reaches = std::same_as<Memory, memory::Host>;

  /// Starts MPI unless it runs, and ends it if it started it. An exception that leaves the scope of this
  /// object ends the job on all ranks.
  Mpi(int& argc, char**& argv, MpiOptions const& options = {})
      : environment_(std::make_unique<boost::mpi::environment>(argc, argv, boost::mpi::threading::funneled)),
        options_(checked(options)) {
    duplicate(boost::mpi::communicator());
  }
  /// The ranks of a communicator of the program, all of which make this call. Its messages are its own.
  explicit Mpi(boost::mpi::communicator const& ranks, MpiOptions const& options = {})
      : options_(checked(options)) {
    duplicate(ranks);
  }
  Mpi(Mpi const&) = delete;
  Mpi& operator=(Mpi const&) = delete;

  int rank() const { return world_.rank(); }
  int size() const { return world_.size(); }
  std::chrono::duration<double> timeout() const { return options_.timeout; }
  /// What this rank has moved; collectives by formula, as MPI does not say: an all-reduce as reduce-scatter
  /// and all-gather, 2 (p - 1) n values over all ranks, a broadcast as p - 1 messages.
  Traffic traffic() const { return traffic_; }

  /// Whether this MPI takes the address of CUDA device memory where it takes one of host memory.
  bool takes_device_memory() const {
#if defined(MPIX_CUDA_AWARE_SUPPORT)
    return MPIX_Query_cuda_support() == 1;
#else
    return false;
#endif
  }

  /// Ends the job on every rank, this one included: MPI_Abort. Does not return.
  void abort(std::string_view why) {
    std::fprintf(stderr, "elastic: rank %d ended the job: %.*s\n", rank(), static_cast<int>(why.size()),
                 why.data());
    MPI_Abort(world_, 1);
  }

  /// An operation in flight. Destroying it waits, unless an exception is on its way; a receive is then taken
  /// back.
  class [[nodiscard]] Ticket {
   public:
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(net_, other.net_);
      std::swap(what_, other.what_);
      std::swap(peer_, other.peer_);
      std::swap(expected_, other.expected_);
      std::swap(first_, other.first_);
      std::swap(rest_, other.rest_);
      std::swap(failure_, other.failure_);
      return *this;
    }
    ~Ticket() {
      try {
        if (std::uncaught_exceptions() == exceptions_) wait();
      } catch (...) {  // the wait that mattered was the caller's
      }
      give_up();
    }
    /// Returns when the buffer may be touched again. Throws ProtocolError for a message of another size,
    /// Timeout, or TransportError with what MPI says.
    void wait() {
      try {
        if (pending()) net_->await([this] { return done(); }, what_, peer_);
      } catch (...) {
        give_up();
        throw;
      }
      if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    bool done() {
      while (pending()) {
        int complete = 0;
        MPI_Status status{};
        int const result = MPI_Test(rest_.empty() ? &first_ : &rest_.back(), &complete, &status);
        if (result == MPI_SUCCESS && complete == 0) return false;
        if (rest_.empty())
          first_ = MPI_REQUEST_NULL;
        else
          rest_.pop_back();
        try {
          if (expected_) net_->received(result, status, peer_, *expected_);
          check(result, what_, peer_);
        } catch (TransportError const&) {
          failure_ = std::current_exception();
        }
      }
      return true;
    }

   private:
    friend Mpi;
    Ticket(Mpi& net, char const* what, int peer, std::optional<std::size_t> expected = std::nullopt)
        : net_(&net), what_(what), peer_(peer), expected_(expected) {}

    MPI_Request* add() { return pending() ? &rest_.emplace_back(MPI_REQUEST_NULL) : &first_; }
    bool pending() const { return first_ != MPI_REQUEST_NULL || !rest_.empty(); }
    void give_up() noexcept {
      if (!pending()) return;
      give_up(first_);
      for (MPI_Request& request : rest_) give_up(request);
      rest_.clear();
    }
    void give_up(MPI_Request& request) noexcept {
      if (request == MPI_REQUEST_NULL) return;
      if (!expected_) {
        MPI_Request_free(&request);
        return;
      }
      MPI_Cancel(&request);
      MPI_Wait(&request, MPI_STATUS_IGNORE);  // local: the receive is matched by now, or never will be
    }

    Mpi* net_ = nullptr;
    char const* what_ = "";
    int peer_ = -1;
    std::optional<std::size_t> expected_;  // the bytes of a receive
    MPI_Request first_ = MPI_REQUEST_NULL;
    std::vector<MPI_Request> rest_;  // of what travels in several blocks
    std::exception_ptr failure_;
    int exceptions_ = std::uncaught_exceptions();
  };

  template <class T>
  void send(Span<T> x, int peer, int tag) {
    start_send(x, peer, tag).wait();
  }
  template <class T>
  Ticket start_send(Span<T> x, int peer, int tag) {
    static_assert(std::is_trivially_copyable_v<T>);
    Ticket ticket(*this, "send", checked(peer));
    std::size_t const bytes = x.size() * sizeof(T);
    Bytes const type(bytes, options_.block_bytes);
    check(MPI_Isend(x.data(), type.count, type.type, peer, tag, world_, ticket.add()), "send", peer);
    ++traffic_.sent_messages;
    traffic_.sent_bytes += bytes;
    return ticket;
  }
  template <class T>
  void receive(Span<T> x, int peer, int tag) {
    start_receive(x, peer, tag).wait();
  }
  template <class T>
  Ticket start_receive(Span<T> x, int peer, int tag) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<T>);
    std::size_t const bytes = x.size() * sizeof(T);
    Ticket ticket(*this, "receive", checked(peer), bytes);
    Bytes const type(bytes, options_.block_bytes);
    check(MPI_Irecv(x.data(), type.count, type.type, peer, tag, world_, ticket.add()), "receive", peer);
    return ticket;
  }

  std::optional<Envelope> probe() {
    if (!look(MPI_ANY_SOURCE)) return std::nullopt;
    for (int i = 0; i < size(); ++i) {
      int const source = (next_source_ + i) % size();
      auto const found = look(source);
      if (!found) continue;
      next_source_ = (source + 1) % size();
      return found;
    }
    return std::nullopt;
  }
  Envelope wait_message() {
    std::optional<Envelope> found;
    await([&] { return (found = probe()).has_value(); }, "wait_message", -1);
    return *found;
  }

  /// Limits the collectives to ranks 0 .. ranks-1; every rank calls it, with no collective in flight.
  void team(int ranks) {
    if (ranks < 1 || ranks > size())
      throw ConfigError("team of " + std::to_string(ranks) + " ranks: expected 1 to " +
                        std::to_string(size()));
    meet(world_, "team");
    team_ = world_.split(rank() < ranks ? 0 : 1);
    team_size_ = ranks;
  }
  void barrier() {
    check_member();
    meet(team_, "barrier");
  }
  template <class T>
  void broadcast(Span<T> x, int root) {
    check_member();
    if (root < 0 || root >= team_size_)
      throw ConfigError("broadcast from rank " + std::to_string(root) + ": expected 0 to " +
                        std::to_string(team_size_ - 1));
    auto const others = static_cast<std::uint64_t>(team_size_ - 1);
    bool const root_here = root == rank();
    (root_here ? traffic_.sent_bytes : traffic_.received_bytes) +=
        x.size() * sizeof(T) * (root_here ? others : 1);
    (root_here ? traffic_.sent_messages : traffic_.received_messages) += root_here ? others : 1;
    in_blocks(x, "broadcast", [&](T* first, int count, MPI_Request* request) {
      return MPI_Ibcast(first, count * static_cast<int>(sizeof(T)), MPI_BYTE, root, team_, request);
    }).wait();
  }
  template <std::floating_point T>
  void all_reduce(Span<T> x) {
    start_all_reduce(x).wait();
  }
  template <std::floating_point T>
  Ticket start_all_reduce(Span<T> x) {
    check_member();
    std::size_t const sent = all_reduce_sent(x.size(), team_size_, rank()) * sizeof(T);
    auto const messages = 2 * static_cast<std::uint64_t>(team_size_ - 1);
    traffic_.sent_bytes += sent;
    traffic_.received_bytes += sent;
    traffic_.sent_messages += messages;
    traffic_.received_messages += messages;
    MPI_Datatype const type = std::is_same_v<T, float> ? MPI_FLOAT : MPI_DOUBLE;
    return in_blocks(x, "all_reduce", [&](T* first, int count, MPI_Request* request) {
      return MPI_Iallreduce(MPI_IN_PLACE, first, count, type, MPI_SUM, team_, request);
    });
  }

 private:
  /// `bytes` as a count and a type, both of which MPI can express however many they are.
  struct Bytes {
    Bytes(std::size_t bytes, std::size_t block) : count(static_cast<int>(bytes)) {
      if (bytes <= block) return;
      count = 1;
      std::size_t const blocks = bytes / block;
      MPI_Datatype parts[2] = {MPI_DATATYPE_NULL, MPI_BYTE};
      int const lengths[2] = {static_cast<int>(blocks), static_cast<int>(bytes % block)};
      MPI_Aint const offsets[2] = {0, static_cast<MPI_Aint>(blocks * block)};
      MPI_Type_contiguous(static_cast<int>(block), MPI_BYTE, &parts[0]);
      MPI_Type_create_struct(2, lengths, offsets, parts, &type);
      MPI_Type_commit(&type);
      MPI_Type_free(&parts[0]);
    }
    Bytes(Bytes const&) = delete;
    ~Bytes() {
      if (count == 1 && type != MPI_BYTE) MPI_Type_free(&type);  // operations in flight keep it
    }
    int count;
    MPI_Datatype type = MPI_BYTE;
  };

  static MpiOptions const& checked(MpiOptions const& o) {
    if (!(o.timeout.count() > 0))
      throw ConfigError("mpi: timeout of " + std::to_string(o.timeout.count()) + " s: expected more than 0");
    if (o.block_bytes < 8 || o.block_bytes > 2147483647)
      throw ConfigError("mpi: block_bytes of " + std::to_string(o.block_bytes) +
                        ": expected 8 to 2147483647");
    return o;
  }
  int checked(int peer) const {
    if (peer < 0 || peer >= size() || peer == rank())
      throw ConfigError("rank " + std::to_string(rank()) + " of " + std::to_string(size()) + " has no peer " +
                        std::to_string(peer));
    return peer;
  }
  void check_member() const {
    if (rank() >= team_size_)
      throw ConfigError("rank " + std::to_string(rank()) + " is outside the team of " +
                        std::to_string(team_size_) + " ranks and takes no part in its collectives");
  }
  static void check(int result, char const* what, int peer) {
    if (result == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(result, text, &length);
    throw TransportError(peer, "", what, std::chrono::seconds(0),
                         std::string(text, static_cast<std::size_t>(length)));
  }

  void duplicate(boost::mpi::communicator const& ranks) {
    // MPI has no deadline for making a communicator; after a barrier that has one, everybody is there.
    meet(ranks, "joining");
    world_ = boost::mpi::communicator(ranks, boost::mpi::comm_duplicate);
    MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
    team_ = world_;
    team_size_ = size();
    MPI_Comm machine = MPI_COMM_NULL;
    MPI_Comm_split_type(world_, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    int here = 1;
    MPI_Comm_size(machine, &here);
    MPI_Comm_free(&machine);
    crowded_ = static_cast<unsigned>(here) > std::max(1u, std::thread::hardware_concurrency());
  }
  void meet(MPI_Comm ranks, char const* what) {
    Ticket ticket(*this, what, -1);
    check(MPI_Ibarrier(ranks, ticket.add()), what, -1);
    ticket.wait();
  }

  void received(int result, MPI_Status const& status, int peer, std::size_t expected) {
    int error = MPI_SUCCESS;
    if (result != MPI_SUCCESS) MPI_Error_class(result, &error);
    std::size_t const bytes = error == MPI_SUCCESS ? size_of(status) : 0;
    if (error == MPI_SUCCESS && bytes == expected) {
      ++traffic_.received_messages;
      traffic_.received_bytes += bytes;
    } else if (error == MPI_SUCCESS || error == MPI_ERR_TRUNCATE) {
      throw ProtocolError(peer, "", "receive", std::chrono::seconds(0),
                          "its message has " + (error == MPI_SUCCESS ? std::to_string(bytes) : "more") +
                              " bytes, expected " + std::to_string(expected));
    }
  }
  static std::size_t size_of(MPI_Status const& status) {
    MPI_Count bytes = 0;
    MPI_Get_elements_x(&status, MPI_BYTE, &bytes);
    return static_cast<std::size_t>(bytes);
  }
  std::optional<Envelope> look(int source) {
    int found = 0;
    MPI_Status status{};
    check(MPI_Iprobe(source, MPI_ANY_TAG, world_, &found, &status), "probe", source);
    if (found == 0) return std::nullopt;
    return Envelope{status.MPI_SOURCE, status.MPI_TAG, size_of(status)};
  }

  /// One call per block, all in flight; an empty vector is one empty call.
  template <class T, class Call>
  Ticket in_blocks(Span<T> x, char const* what, Call call) {
    Ticket ticket(*this, what, -1);
    std::size_t const block = options_.block_bytes / sizeof(T);
    std::size_t first = 0;
    do {
      std::size_t const count = std::min(block, x.size() - first);
      check(call(x.data() + first, static_cast<int>(count), ticket.add()), what, -1);
      first += count;
    } while (first < x.size());
    return ticket;
  }

  /// Tests as fast as it can, like a loop by hand, at first without looking at the clock; ranks that outnumber
  /// the cores give way at once, others once the wait is long.
  template <class Done>
  void await(Done done, char const* what, int peer) const {
    constexpr int turns = 256;
    auto const soon = [&](bool gives_way) {
      for (int turn = 0; turn < turns; ++turn) {
        if (done()) return true;
        if (gives_way) ::sched_yield();
      }
      return false;
    };
    if (soon(crowded_)) return;
    auto const start = std::chrono::steady_clock::now();
    StallWatch watch(rank(), what, options_.timeout);
    for (bool gives_way = crowded_; !soon(gives_way);) {
      auto const waited = std::chrono::steady_clock::now() - start;
      if (waited >= options_.timeout) throw Timeout(peer, "", what, waited, "no answer");
      watch.look(waited, [&] { return peer; });
      gives_way = crowded_ || waited > std::chrono::milliseconds(50);
    }
  }

  std::unique_ptr<boost::mpi::environment> environment_;  // first: it outlives the communicators
  MpiOptions options_;
  boost::mpi::communicator world_;
  boost::mpi::communicator team_;
  int team_size_ = 0;
  bool crowded_ = false;
  int next_source_ = 0;
  Traffic traffic_;
};

}  // namespace elastic::transport
