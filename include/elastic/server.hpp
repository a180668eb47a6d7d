// SPDX-License-Identifier: Apache-2.0
// What a rule's server program can say: hold a center, and add what workers send. There is no gradient here, so
// a server cannot compute one. One file although long: who takes part and what they get are one loop.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <type_traits>
#include <vector>

#include "elastic/agreement.hpp"
#include "elastic/center_desk.hpp"
#include "elastic/center_window.hpp"
#include "elastic/concepts.hpp"
#include "elastic/event.hpp"
#include "elastic/membership.hpp"
#include "elastic/parameter_group.hpp"
#include "elastic/plan.hpp"
#include "elastic/report.hpp"
#include "elastic/role.hpp"
#include "elastic/shard_service.hpp"
#include "elastic/state.hpp"
#include "elastic/timeline.hpp"

namespace elastic {

template <PointToPoint Net, Device Dev, class T, class... Os>
class Server {
 public:
  using Memory = typename Dev::memory;
  using View = Span<T, Memory>;
  Server(Net& net, Layout layout, Dev& device, View parameters, std::vector<ParameterGroup> tensors,
         States<Dev, T>& states, Plan const& plan, std::string const& terms, Os&... os)
      : net_(net),
        layout_(layout),
        device_(device),
        parameters_(parameters),
        tensors_(std::move(tensors)),
        states_(states),
        plan_(plan),
        terms_(terms),
        desk_(net, device, layout),
        places_(std::size_t(layout.size)),
        lineage_(plan.lineage),
        observers_(os...),
        timeline_(net.rank(), os...) {
    lineage_.workers.resize(std::size_t(layout.size));
    committed_ = lineage_.version;
  }

  // -- the vocabulary of a server program
  // -----------------------------------------------------------------------------
  View parameters() { return parameters_; }
  View state(std::string_view name, View initial) { return states_.get(name, initial); }
  int workers() const { return layout_.workers(); }

  /// Serves `center` until all workers have left: add(c, d) for every element of every delta, each delta once,
  /// first come, first served. Deltas with an element that is not finite or beyond `limit` are left out, shard
  /// by shard. `add` may also be a function of the worker's epoch that returns it. `wire` is how center and deltas
  /// travel. A worker that dies is gone with its unfinished exchange; the others do not notice.
  template <class Add>
  void serve(View center, Add add, double limit, Wire wire = Wire::float32) {
    center_ = center;
    open(wire);
    auto const add_at = [&](long step) {
      if constexpr (std::is_invocable_v<Add, double>)
        return add(epoch_of(step));
      else
        return add;
    };
    run([&] { return attend(add_at, limit); });
  }

  /// Serves `center` to one worker at a time, as the ancestors' servers did: exchange() is called for each that asks,
  /// swap() in it reaches that worker, and all others wait. Whoever is waited for within it and dies is lost.
  template <class Exchange>
  void serve_in_turn(View center, Exchange exchange) {
    center_ = center;
    in_turn_ = exchange;
    if constexpr (!shared) open(Wire::float32);
    run([&] { return attend([](long) { return ops::Add{}; }, 0); });
  }
  /// Sends `mine` to the worker whose turn it is and receives `theirs`; both have arrived when this returns.
  void swap(View mine, View theirs) {
    auto arriving = net_.start_receive(theirs, partner_, tag::delta);
    auto leaving = net_.start_send(read(mine), partner_, tag::shard);
    arriving.wait();
    leaving.wait();
  }
  /// How far the worker whose turn it is has come.
  double epoch() const { return epoch_of(partner_step_); }
  /// The tensors of the model, as parts of its parameters.
  std::vector<ParameterGroup> const& tensors() const { return tensors_; }
  auto allocate(std::size_t n) { return device_.template allocate<T>(n); }
  template <class F, class... S>
  void for_each(F f, S... views) {
    auto const running = timeline_.during(Doing::exchanging);
    device_.for_each(f, views...);
  }
  // -------------------------------------------------------------------------------------------------------------------

  /// Ends the testers, saves the center and returns what happened.
  Report finish(View center) {
    desk_.end(lineage_.version, center);
    if (!saved_ || committed_ != lineage_.version) commit();
    report_.role = Role::server;
    report_.seconds = timeline_.seconds();
    report_.exchanges = lineage_.version - plan_.lineage.version;
    report_.stopped = stop_requested();
    return report_;
  }

 private:
  template <class Attend>
  void run(Attend attend) {
    welcome_everybody();
    heard_ = Clock::now();
    while (!over()) {
      keep_in_touch();
      bool const moved = attend();
      commit_if_due();  // before it waits for whatever comes next
      if (auto const message = next_message(moved)) handle(*message);
    }
    close();
    if (left_ == 0 && last_loss_) std::rethrow_exception(last_loss_);
  }
  double epoch_of(long step) const { return double(step) / plan_.steps_per_epoch; }

  static constexpr bool shared = shares_center<Net, Dev>;
  using Clock = std::chrono::steady_clock;

  /// Where a worker stands.
  enum class Place { empty, here, missing, left, lost };

  bool stop_requested() const { return plan_.stop && plan_.stop->load(); }
  Place& place(int worker) { return places_[std::size_t(worker)]; }
  bool is_worker(int rank) const { return layout_.role_of(rank) == Role::worker; }
  int count(Place wanted) const {
    return static_cast<int>(std::count(places_.begin(), places_.end(), wanted));
  }
  bool over() const { return left_ + count(Place::lost) >= layout_.workers(); }

  // -- where the center is: in shared memory, or here
  void open([[maybe_unused]] Wire wire) {
    if constexpr (shared) {
      window_.emplace(net_, device_, center_, lineage_.version);
    } else {
      service_.emplace(net_, device_, center_, wire);
      for (int r = layout_.first_worker(); r < layout_.first_tester(); ++r)
        service_->progress(r) = lineage_.workers[std::size_t(r)];
    }
  }
  void close() {
    if constexpr (shared)
      if (window_) window_->snapshot(center_);
  }
  Progress& progress(int worker) {
    if constexpr (shared)
      return lineage_.workers[std::size_t(worker)];
    else
      return service_->progress(worker);
  }
  /// Whether all that a worker has begun is in the center.
  bool whole(int worker) {
    if constexpr (shared)
      return true;
    else
      return service_->complete(worker);
  }
  bool busy() const {
    if constexpr (shared)
      return false;
    else
      return service_->busy();
  }

  /// Non-elastic jobs: everybody has agreed and waits to be let in.
  void welcome_everybody() {
    if (comes_and_goes(net_)) return;
    for (int r = layout_.first_worker(); r < layout_.first_tester(); ++r) {
      Welcome welcome = welcome_for(r);
      welcome.starts = plan_.same_start ? 1 : 0;
      try {
        net_.send(read(as_bytes(welcome)), r, tag::welcome);
        if (plan_.same_start) {
          Status status{};
          net_.send(read(as_bytes(status)), r, tag::status);
          net_.send(read(parameters_), r, tag::center);
        }
        place(r) = Place::here;
      } catch (PeerLost const& lost) {
        lose(lost);
      }
    }
  }

  Welcome welcome_for(int rank) {
    Welcome welcome{};
    welcome.generation = lineage_.generation;
    if (is_worker(rank)) {
      welcome.sequence = progress(rank).sequence;
      welcome.taken = progress(rank).taken;
    }
    if constexpr (shared)
      if (window_) window_->announce(welcome);
    return welcome;
  }

  /// Somebody wants to take part, for the first time or again.
  void join(int rank) {
    Join join{};
    net_.receive(as_bytes(join), rank, tag::join);
    constexpr std::uint32_t most = 1 << 16;
    if (join.terms > most) throw ProtocolError(rank, "", "join", {}, "its terms are longer than 65536 bytes");
    std::string theirs(join.terms, ' ');
    net_.receive(Span<char>(theirs), rank, tag::join);
    std::string const refusal = detail::first_difference(terms_, theirs, rank);
    std::uint64_t forgotten = 0;
    if (refusal.empty() && is_worker(rank)) {
      Progress& known = progress(rank);
      if (known.incarnation != join.incarnation) known = {join.incarnation, 0, 0};
      std::uint64_t const complete = known.sequence - (whole(rank) ? 0 : 1);
      if (join.done > complete) forgotten = join.done - complete;
    }
    Welcome welcome = welcome_for(rank);
    refusal.copy(welcome.refusal.data(), welcome.refusal.size() - 1);
    bool const starts = refusal.empty() && is_worker(rank) && join.first != 0 && plan_.same_start;
    welcome.starts = starts ? 1 : 0;
    net_.send(read(as_bytes(welcome)), rank, tag::welcome);
    if (!refusal.empty() || !is_worker(rank)) return;
    if (place(rank) == Place::left) --left_;
    place(rank) = Place::here;
    if (starts) show(rank);
    tell(event::Joined{rank, join.incarnation, lineage_.version, forgotten});
  }

  void handle(Envelope const& message) {
    heard_ = Clock::now();
    try {
      switch (message.tag) {
        case tag::pull: desk_.receive_request(message.source, tag::pull); return show(message.source);
        case tag::join: return join(message.source);
        case tag::leave: return leave(message.source);
        case tag::ask:
          if (in_turn_) return take_turn(message.source);
          if constexpr (shared)
            return moved(message.source);
          else
            return service_->asked(message.source);
        case tag::delta:
          if constexpr (!shared) return service_->arriving(message.source, message.bytes);
          break;
        default: break;
      }
    } catch (PeerLost const& lost) {
      return lose(lost);
    }
    throw ProtocolError(message.source, "", "serve", {},
                        "message " + std::to_string(message.tag) + " is not for a server");
  }

  /// Sends the whole center as it is.
  void show(int rank) {
    std::uint64_t version = lineage_.version;
    if constexpr (shared)
      if (window_) version = window_->snapshot(center_);
    desk_.reply(rank, {version, 0}, center_);
  }

  void take_turn(int worker) {
    Ask ask{};
    net_.receive(as_bytes(ask), worker, tag::ask);
    Status status{lineage_.version, stop_requested() ? 1u : 0u};
    net_.send(read(as_bytes(status)), worker, tag::status);
    partner_ = worker;
    partner_step_ = long(ask.step);
    in_turn_();
    applied(worker, ask, 0, lineage_.version);
  }

  /// A worker has moved the shared center.
  void moved(int worker) {
    Ask ask{};
    net_.receive(as_bytes(ask), worker, tag::ask);
    progress(worker).sequence = ask.sequence;
    applied(worker, ask, ask.sent, lineage_.version);  // it reads and moves the center at once
  }

  void applied(int worker, Ask const& ask, std::uint32_t refused, std::uint64_t read) {
    std::uint64_t const staleness = lineage_.version++ - read;
    if (refused > 0) {
      report_.refused += refused;
      tell(event::Refused{worker, long(ask.step), refused});
    }
    tell(event::Applied{worker, long(ask.step), ask.loss, lineage_.version, ask.sequence, staleness,
                        ask.distance});
  }

  /// A worker is done; it waits until its last delta is in the center.
  void leave(int worker) {
    desk_.receive_request(worker, tag::leave);
    leaving_.push_back(worker);
  }

  template <class AddAt>
  bool attend(AddAt add_at, double limit) {
    auto const running = timeline_.during(Doing::exchanging);
    bool moved = false;
    if constexpr (!shared) {
      try {
        moved = service_->attend(add_at, limit, [this](int worker, auto const& done) {
          applied(worker, done.ask, done.refused, done.read);
          keep_in_touch();  // whoever is answered next reads this version
        });
      } catch (PeerLost const& lost) {
        lose(lost);
      }
    }
    for (std::size_t i = 0; i < leaving_.size();) {
      int const worker = leaving_[i];
      if (!whole(worker)) {
        ++i;
        continue;
      }
      leaving_.erase(leaving_.begin() + std::ptrdiff_t(i));
      try {
        net_.send(Span<char const>(), worker, tag::ended);
      } catch (PeerLost const&) {  // it has what it came for
      }
      if (place(worker) != Place::left) ++left_;
      place(worker) = Place::left;
    }
    return moved;
  }

  /// What workers learn with their next exchange.
  void keep_in_touch() {
    if constexpr (shared) {
      if (!told_to_stop_ && stop_requested()) {
        if (window_) window_->ask_to_stop();
        told_to_stop_ = true;
      }
    } else {
      service_->tell({lineage_.version, stop_requested() ? 1u : 0u});
    }
  }

  /// The next message. While deltas are on their way, only if it is here: they do not announce their end.
  std::optional<Envelope> next_message(bool moved) {
    auto const idle = timeline_.during(Doing::waiting);
    try {
      if (over()) return std::nullopt;
      if (!busy()) return net_.wait_message();
      auto const message = net_.probe();
      if (message || moved) {
        heard_ = Clock::now();
        turns_ = 0;
      } else if (++turns_ < 200) {
        std::this_thread::yield();
      } else if (Clock::now() - heard_ < net_.timeout()) {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      } else {
        give_up("it fell silent in the middle of a delta", std::current_exception());
      }
      return message;
    } catch (PeerLost const& lost) {
      lose(lost);
    } catch (Timeout const& late) {
      give_up("it fell silent", std::current_exception());
    }
    return std::nullopt;
  }

  /// Nobody has said anything for as long as anybody may.
  void give_up(char const* why, std::exception_ptr failure) {
    heard_ = Clock::now();
    if (failure) last_loss_ = failure;
    for (int r = layout_.first_worker(); r < layout_.first_tester(); ++r)
      if (place(r) == Place::here || place(r) == Place::missing || place(r) == Place::empty) {
        forget(r);
        place(r) = Place::lost;
        ++report_.lost;
        tell(event::Lost{r, why});
      }
  }

  /// The loss of a tester is nothing. A worker's last, unfinished exchange is forgotten; where ranks come and
  /// go, it may come back.
  void lose(PeerLost const& lost) {
    if (lost.peer() < 0) throw lost;
    int const worker = lost.peer();
    if (!is_worker(worker) || place(worker) == Place::left || place(worker) == Place::lost) return;
    last_loss_ = std::make_exception_ptr(lost);
    forget(worker);
    bool const for_good = !comes_and_goes(net_);
    place(worker) = for_good ? Place::lost : Place::missing;
    if (for_good) ++report_.lost;
    tell(event::Lost{worker, lost.what()});
  }
  void forget(int worker) {
    std::erase(leaving_, worker);
    if constexpr (!shared) service_->forget(worker);
  }

  // -- commits
  void commit_if_due() {
    if (plan_.commit_every <= 0 || committed_ == lineage_.version || Clock::now() < commit_due_) return;
    commit();
    commit_due_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(plan_.commit_every));
  }
  void commit() {
    if constexpr ((Saves<Os> || ...)) {
      committed_ = lineage_.version;
      saved_ = true;
      if constexpr (!shared)
        for (int r = layout_.first_worker(); r < layout_.first_tester(); ++r)
          if (service_) lineage_.workers[std::size_t(r)] = service_->progress(r);
      if constexpr (shared)
        if (window_) window_->snapshot(center_);
      if constexpr (std::is_same_v<Memory, memory::Host>) {
        tell(event::Center<T>{read(center_), lineage_});
      } else {
        host_.resize(center_.size());
        device_.download(read(center_), Span<T>(host_));
        tell(event::Center<T>{Span<T const>(host_), lineage_});
      }
    }
  }

  template <class Event>
  void tell(Event const& e) {
    auto const observing = timeline_.during(Doing::observing);
    std::apply([&](auto&... os) { notify(e, os...); }, observers_);
  }

  struct None {};
  template <bool Yes, class C>
  using Only = std::conditional_t<Yes, C, None>;
  template <class N, bool Yes>
  struct WindowOf {
    using type = None;
  };
  template <class N>
  struct WindowOf<N, true> {
    using type = CenterWindow<N, Dev, T>;
  };

  Net& net_;
  Layout layout_;
  Dev& device_;
  View parameters_;
  std::vector<ParameterGroup> tensors_;
  States<Dev, T>& states_;
  Plan const& plan_;
  std::string terms_;
  CenterDesk<Net, Dev, T> desk_;
  std::vector<Place> places_;
  Lineage lineage_;
  std::tuple<Os&...> observers_;
  Timeline<Os...> timeline_;
  View center_;
  std::function<void()> in_turn_;  // of serve_in_turn
  int partner_ = -1;
  long partner_step_ = 0;
  std::optional<typename WindowOf<Net, shared>::type> window_;
  std::optional<Only<!shared, ShardService<Net, Dev, T>>> service_;
  std::vector<int> leaving_;
  std::vector<T> host_;
  Report report_;
  int left_ = 0;
  bool told_to_stop_ = false;
  int turns_ = 0;
  std::exception_ptr last_loss_;
  Clock::time_point heard_{}, commit_due_ = Clock::now();
  std::uint64_t committed_ = 0;  // version of the last commit
  bool saved_ = false;           // there has been one
};

}  // namespace elastic
