// SPDX-License-Identifier: Apache-2.0
// Ranks are threads of this process: the twin of the transports between processes, for tests, debuggers and
// ThreadSanitizer, and for one program that wants several workers. One file: messages and collectives share a
// lock.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "elastic/chunks.hpp"
#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/stall.hpp"
#include "elastic/transport/detail/thread_window.hpp"

namespace elastic::transport {

struct ThreadsOptions {
  std::chrono::duration<double> timeout{60};  ///< no call blocks for longer
};

/// One rank among threads. Sums are added in rank order by whichever rank arrives last.
class Threads {
  using Host = memory::Host;

  /// A posted receive or a collective that waits for its peers.
  struct Operation {
    bool done = false;
    std::string failure;
    int source = -1;
    int tag = 0;
    char* buffer = nullptr;
    std::size_t bytes = 0;
  };

  struct Message {
    int source;
    int tag;
    std::vector<char> payload;
  };

  struct Mailbox {
    std::list<Message> unclaimed;
    std::list<std::shared_ptr<Operation>> posted;
    int next_source = 0;
  };

  /// One collective call, on its way until the last rank of the team has arrived.
  struct Meeting {
    explicit Meeting(int ranks) : buffers(std::size_t(ranks)), size(0), arrived(0) {}
    std::vector<void*> buffers;
    std::size_t size;
    int arrived;
    Operation operation;
  };

  struct Shared {
    Shared(int n, ThreadsOptions o) : options(o), mail(std::size_t(n)) {}
    ThreadsOptions options;
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Mailbox> mail;
    std::map<std::pair<int, long>, std::shared_ptr<Meeting>> meetings;  // by team size and call number
    std::vector<std::weak_ptr<detail::WindowMemory>> windows;
    int aborted_by = -1;
    std::string why;
  };

 public:
  static constexpr std::string_view name = "threads";
  template <class Memory>
  static constexpr bool reaches = std::same_as<Memory, memory::Host>;

  /// Runs program(net) on n ranks. If a rank throws, the others are released and the first exception is
  /// rethrown.
  template <class F>
  static void run(int n, F program, ThreadsOptions options = {}) {
    Shared shared(n, options);
    std::exception_ptr first;
    {
      std::vector<std::jthread> ranks;
      for (int r = 0; r < n; ++r)
        ranks.emplace_back([&shared, &program, &first, r, n] {
          Threads net(shared, r, n);
          try {
            program(net);
          } catch (std::exception const& e) {
            {
              std::lock_guard lock(shared.mutex);
              if (!first) first = std::current_exception();
            }
            net.abort(e.what());
          }
        });
    }
    if (first) std::rethrow_exception(first);
  }

  Threads(Threads const&) = delete;
  int rank() const { return rank_; }
  int size() const { return size_; }
  Traffic traffic() const { return traffic_; }
  std::chrono::duration<double> timeout() const { return shared_.options.timeout; }

  /// Every blocked or later call of the other ranks throws Aborted with this reason. The first reason stays.
  void abort(std::string_view why) {
    std::lock_guard lock(shared_.mutex);
    if (shared_.aborted_by < 0) {
      shared_.aborted_by = rank_;
      shared_.why = why;
    }
    shared_.changed.notify_all();
  }

  /// Waits for a receive, a send or a collective of this rank.
  class Ticket {
   public:
    Ticket(Threads& net, std::shared_ptr<Operation> operation, char const* what, int peer)
        : net_(&net), operation_(std::move(operation)), what_(what), peer_(peer) {}
    Ticket(Ticket&&) noexcept = default;
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(net_, other.net_);
      std::swap(operation_, other.operation_);
      std::swap(what_, other.what_);
      std::swap(peer_, other.peer_);
      return *this;
    }
    ~Ticket() {
      try {
        wait();
      } catch (...) {  // the wait that mattered was the caller's
      }
    }
    void wait() {
      auto const operation = std::move(operation_);
      if (!operation) return;
      try {
        net_->await([&] { return operation->done; }, what_, peer_);
      } catch (...) {
        net_->withdraw(operation);
        throw;
      }
      if (!operation->failure.empty()) throw ProtocolError(peer_, here, what_, {}, operation->failure);
    }
    bool done() {
      if (!operation_) return true;
      std::lock_guard lock(net_->shared_.mutex);
      return operation_->done || net_->shared_.aborted_by >= 0;
    }

   private:
    Threads* net_;
    std::shared_ptr<Operation> operation_;
    char const* what_;
    int peer_;
  };

  void team(int ranks) { team_ = ranks; }

  void barrier() {
    start_meeting<char>({}, "barrier", [](Meeting&) {}).wait();
  }

  template <class T>
  void broadcast(Span<T> x, int root) {
    if (rank_ == root)
      count_sent(std::size_t(team_ - 1) * x.size() * sizeof(T), std::size_t(team_ - 1));
    else
      count_received(x.size() * sizeof(T), 1);
    start_meeting(x, "broadcast", [root](Meeting& m) {
      for (void* to : m.buffers)
        if (to != m.buffers[std::size_t(root)] && m.size > 0)
          std::memcpy(to, m.buffers[std::size_t(root)], m.size * sizeof(T));
    }).wait();
  }

  template <class T>
  void all_reduce(Span<T> x) {
    start_all_reduce(x).wait();
  }

  template <class T>
  [[nodiscard("wait() on it")]] Ticket start_all_reduce(Span<T> x) {
    if (rank_ < team_) {
      std::size_t const sent = all_reduce_sent(x.size(), team_, rank_) * sizeof(T);
      count_sent(sent, 2 * std::size_t(team_ - 1));
      count_received(sent, 2 * std::size_t(team_ - 1));
    }
    return start_meeting(x, "all_reduce", [](Meeting& m) {
      for (std::size_t i = 0; i < m.size; ++i) {
        T sum = static_cast<T*>(m.buffers[0])[i];
        for (std::size_t r = 1; r < m.buffers.size(); ++r) sum += static_cast<T*>(m.buffers[r])[i];
        for (void* to : m.buffers) static_cast<T*>(to)[i] = sum;
      }
    });
  }

  template <class T>
  void send(Span<T> x, int peer, int tag) {
    start_send(x, peer, tag).wait();
  }

  /// Copies at once, so the ticket is done when it is made.
  template <class T>
  [[nodiscard("wait() on it")]] Ticket start_send(Span<T> x, int peer, int tag) {
    char const* const bytes = reinterpret_cast<char const*>(x.data());
    std::size_t const count = x.size() * sizeof(T);
    check_peer(peer, "send");
    count_sent(count, 1);
    std::lock_guard lock(shared_.mutex);
    throw_if_aborted("send");
    auto& box = shared_.mail[std::size_t(peer)];
    auto const claimed = std::find_if(box.posted.begin(), box.posted.end(),
                                      [&](auto const& p) { return p->source == rank_ && p->tag == tag; });
    if (claimed != box.posted.end()) {
      deliver(bytes, count, **claimed);
      box.posted.erase(claimed);
    } else {
      box.unclaimed.push_back({rank_, tag, {bytes, bytes + count}});
    }
    shared_.changed.notify_all();
    return {*this, nullptr, "send", peer};
  }

  template <class T>
  void receive(Span<T> x, int peer, int tag) {
    start_receive(x, peer, tag).wait();
  }

  template <class T>
  [[nodiscard("wait() on it")]] Ticket start_receive(Span<T> x, int peer, int tag) {
    check_peer(peer, "receive");
    count_received(x.size() * sizeof(T), 1);
    auto operation = std::make_shared<Operation>();
    operation->source = peer;
    operation->tag = tag;
    operation->buffer = reinterpret_cast<char*>(x.data());
    operation->bytes = x.size() * sizeof(T);
    std::lock_guard lock(shared_.mutex);
    auto& box = shared_.mail[std::size_t(rank_)];
    auto const message = std::find_if(box.unclaimed.begin(), box.unclaimed.end(),
                                      [&](Message const& m) { return m.source == peer && m.tag == tag; });
    if (message != box.unclaimed.end()) {
      deliver(message->payload.data(), message->payload.size(), *operation);
      box.unclaimed.erase(message);
    } else {
      box.posted.push_back(operation);
    }
    return {*this, std::move(operation), "receive", peer};
  }

  std::optional<Envelope> probe() {
    std::lock_guard lock(shared_.mutex);
    throw_if_aborted("probe");
    return look();
  }

  Envelope wait_message() {
    std::optional<Envelope> found;
    await([&] { return (found = look()).has_value(); }, "wait for a message", -1);
    return *found;
  }

  template <class T>
  using Window = detail::ThreadWindow<T, Threads>;
  using WindowHandle = detail::ThreadWindowHandle;

  /// `n` zeros that every rank may change, one locked stripe at a time; they live as long as a Window of them.
  template <class T>
  Window<T> make_window(std::size_t n) {
    auto memory = std::make_shared<detail::WindowMemory>(n, sizeof(T));
    std::lock_guard lock(shared_.mutex);
    shared_.windows.push_back(memory);
    return {*this, shared_.windows.size() - 1, std::move(memory)};
  }
  /// Throws ConfigError for a window of other values, ProtocolError if nobody has it any more.
  template <class T>
  Window<T> open_window(WindowHandle handle) {
    std::lock_guard lock(shared_.mutex);
    throw_if_aborted("open_window");  // rather than to say that the maker went because of it
    auto memory = handle.number < shared_.windows.size() ? shared_.windows[handle.number].lock() : nullptr;
    if (!memory) throw ProtocolError(-1, here, "open_window", {}, "its maker has dropped the window");
    if (memory->width != sizeof(T))
      throw ConfigError("window of values of " + std::to_string(memory->width) + " bytes opened as one of " +
                        std::to_string(sizeof(T)));
    return {*this, handle.number, std::move(memory)};
  }

 private:
  template <class T, class Net>
  friend class detail::ThreadWindow;
  static constexpr char const* here = "this process";

  Threads(Shared& shared, int rank, int size) : shared_(shared), rank_(rank), size_(size), team_(size) {}

  void count_sent(std::size_t bytes, std::size_t messages) {
    traffic_.sent_bytes += bytes;
    traffic_.sent_messages += messages;
  }
  void count_received(std::size_t bytes, std::size_t messages) {
    traffic_.received_bytes += bytes;
    traffic_.received_messages += messages;
  }

  void check_peer(int peer, char const* what) const {
    if (peer < 0 || peer >= size_ || peer == rank_)
      throw ConfigError(std::string(what) + ": rank " + std::to_string(rank_) + " of " +
                        std::to_string(size_) + " has no peer " + std::to_string(peer));
  }

  static void deliver(char const* from, std::size_t bytes, Operation& to) {
    if (bytes == to.bytes) {
      if (bytes > 0) std::memcpy(to.buffer, from, bytes);
    } else {
      to.failure = "a message of " + std::to_string(bytes) + " bytes arrived, " + std::to_string(to.bytes) +
                   " were expected";
    }
    to.done = true;
  }

  /// The first unclaimed message of the source whose turn it is. The caller holds the mutex.
  std::optional<Envelope> look() {
    auto& box = shared_.mail[std::size_t(rank_)];
    for (int k = 0; k < size_; ++k) {
      int const source = (box.next_source + k) % size_;
      for (Message const& m : box.unclaimed)
        if (m.source == source) {
          box.next_source = (source + 1) % size_;
          return Envelope{m.source, m.tag, m.payload.size()};
        }
    }
    return std::nullopt;
  }

  template <class T, class F>
  Ticket start_meeting(Span<T> x, char const* what, F finish) {
    if (rank_ >= team_)
      throw ConfigError(std::string(what) + ": rank " + std::to_string(rank_) + " is not in the team of " +
                        std::to_string(team_));
    std::lock_guard lock(shared_.mutex);
    throw_if_aborted(what);
    std::pair const key(team_, calls_[team_]++);
    auto& slot = shared_.meetings[key];
    if (!slot) slot = std::make_shared<Meeting>(team_);
    auto const meeting = slot;
    if (meeting->arrived == 0) meeting->size = x.size();
    if (meeting->size != x.size())
      meeting->operation.failure = "the ranks' vectors differ in size: " + std::to_string(x.size()) +
                                   " and " + std::to_string(meeting->size);
    meeting->buffers[std::size_t(rank_)] = x.data();
    if (++meeting->arrived == team_) {
      if (meeting->operation.failure.empty()) finish(*meeting);
      meeting->operation.done = true;
      shared_.meetings.erase(key);
      shared_.changed.notify_all();
    }
    return {*this, std::shared_ptr<Operation>(meeting, &meeting->operation), what, -1};
  }

  /// Nobody may write to the buffer of an operation that was given up.
  void withdraw(std::shared_ptr<Operation> const& operation) {
    std::lock_guard lock(shared_.mutex);
    shared_.mail[std::size_t(rank_)].posted.remove(operation);
    operation->failure = "rank " + std::to_string(rank_) + " gave up waiting";
  }

  void throw_if_aborted(char const* what) const {
    if (shared_.aborted_by >= 0 && shared_.aborted_by != rank_)
      throw Aborted(shared_.aborted_by, here, what, {}, shared_.why);
  }

  void check(char const* what) const {
    std::lock_guard lock(shared_.mutex);
    throw_if_aborted(what);
  }

  template <class F>
  void await(F ready, char const* what, int peer) {
    auto const start = std::chrono::steady_clock::now();
    auto const deadline = start + std::chrono::duration_cast<std::chrono::steady_clock::duration>(timeout());
    StallWatch stall(rank_, what, timeout());
    std::unique_lock lock(shared_.mutex);
    while (!ready()) {
      throw_if_aborted(what);
      shared_.changed.wait_until(
          lock, std::min(deadline, std::chrono::steady_clock::now() + std::chrono::seconds(1)));
      auto const waited = std::chrono::steady_clock::now() - start;
      if (ready()) return;
      if (start + waited >= deadline)
        throw Timeout(peer, here, what, waited, "nothing came before the deadline");
      stall.look(waited, [&] { return peer; });
    }
  }

  Shared& shared_;
  int rank_;
  int size_;
  int team_;
  std::map<int, long> calls_;  // collective calls so far, by team size
  Traffic traffic_;
};

}  // namespace elastic::transport
