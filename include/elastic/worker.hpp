// SPDX-License-Identifier: Apache-2.0
// What a rule's worker program can say. One file, although long: the vocabulary is what a reader of rules looks up, and
// all of it shares the step counter and the clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "elastic/center_client.hpp"
#include "elastic/center_desk.hpp"
#include "elastic/center_window.hpp"
#include "elastic/concepts.hpp"
#include "elastic/distance.hpp"
#include "elastic/event.hpp"
#include "elastic/membership.hpp"
#include "elastic/message_sum.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/parameter_group.hpp"
#include "elastic/plan.hpp"
#include "elastic/report.hpp"
#include "elastic/role.hpp"
#include "elastic/state.hpp"
#include "elastic/timeline.hpp"
#include "elastic/wire.hpp"

namespace elastic {

template <Transport Net, Trainable Model, DataSource<Model> Data, class... Os>
class Worker {
 public:
  using T = typename Model::scalar;
  using Dev = typename Model::device_type;
  using Memory = typename Dev::memory;
  using View = Span<T, Memory>;
  Worker(Net& net, Layout layout, Model& model, Data& data, States<Dev, T>& states, Plan const& plan,
         Entry entry, Os&... os)
      : net_(net),
        layout_(layout),
        entry_(std::move(entry)),
        model_(model),
        tensors_(groups_of(model)),
        whole_(all_in(tensors_) == model.parameters().size()),
        data_(data),
        states_(states),
        plan_(plan),
        step_maker_(model.device(), plan.sgd, model.parameters(),
                    plan.sgd.momentum > 0 ? velocity() : View()),
        observers_(os...),
        timeline_(net.rank(), os...),
        distance_(model.device(), plan.distance_every),
        bookmark_(plan.from),
        step_(plan.from.steps - 1) {}

  // -- the vocabulary of a worker program
  // -----------------------------------------------------------------------------

  /// Counts on to the next step; false when training ends.
  bool next_step() {
    agree_to_stop();
    bool const fresh = step_ + 1 == plan_.from.steps;
    if (!fresh && plan_.sgd.schedule.decay == optimizer::Decay::plateau) watch_for_plateau();
    bool const ends = report_.stopped || step_ + 1 >= plan_.steps;
    tell_turn(ends);
    if (!ends) ++step_;
    return !ends;
  }
  long step() const { return step_; }
  double epoch() const { return double(step_) / plan_.steps_per_epoch; }
  int workers() const { return layout_.workers(); }

  View parameters() { return model_.parameters(); }
  /// The tensors of the model, as parts of its parameters.
  std::vector<ParameterGroup> const& tensors() const { return tensors_; }
  View gradients() { return model_.gradients(); }
  View velocity() {
    auto zeros = allocate(model_.parameters().size());
    model_.device().for_each(ops::Fill{0}, zeros.span());
    return states_.get("velocity", zeros.span());
  }
  /// A vector that others can find by name; a copy of `initial` unless an earlier run left one.
  View state(std::string_view name, View initial) { return states_.get(name, initial); }
  auto allocate(std::size_t n) { return model_.device().template allocate<T>(n); }

  void copy(View from, View to) {
    auto const running = timeline_.during(Doing::exchanging);
    model_.device().copy(read(from), to);
  }
  template <class F, class... S>
  void for_each(F f, S... views) {
    auto const running = timeline_.during(Doing::exchanging);
    model_.device().for_each(f, views...);
  }

  /// The gradient of the next batch, taken where the local step wants it (Nesterov looks ahead).
  void compute_gradient() {
    auto const& batch = load();
    event::Step done{net_.rank(), step_, plan_.steps, 0, rate()};
    {
      auto const running = timeline_.during(Doing::computing);
      step_maker_.look_ahead();
      done.loss = report_.loss = double(model_.gradient(batch));
      if constexpr (requires { model_.training_error(); }) done.error = model_.training_error();
    }
    bookmark_.epoch_loss += report_.loss;
    tell(done);
  }

  /// The local step: x moves along `share` times what stands in gradients(); a device of its own pace may still be at
  /// it when this returns.
  void apply_gradient(double share = 1) { move(share, View()); }
  /// The same, and x -= d, in the same pass where the tensors are all of x.
  void apply_gradient_and_subtract(View d) {
    move(1, whole_ ? d : View());
    if (!whole_) for_each(ops::Subtract{}, parameters(), read(d));
  }

  /// Only the velocity's half of the local step; returns it. Throws ConfigError with Nesterov's momentum,
  /// which would look ahead along one worker's velocity and move along the sum of all.
  View accumulate_velocity() {
    if (plan_.sgd.looks_ahead())
      throw ConfigError(
          "velocities are summed with heavy-ball momentum only; set momentum_kind to heavy_ball, or average "
          "gradients");
    auto const running = timeline_.during(Doing::computing);
    View const v = velocity();
    optimizer::LocalStep<Dev, T> step(model_.device(), plan_.sgd, parameters(), v);
    for (ParameterGroup const& tensor : tensors_) step.accumulate(gradients(), rate(), tensor);
    ++report_.steps;
    return v;
  }

  /// x becomes the sum over all workers, the same bits on all. Values and sums that travel in 16 bits are rounded; what
  /// that takes from a worker is added to its `back`, unless that is empty, so that the sum of x and all `back` is kept.
  /// Throws ConfigError for 16 bits over a transport that has no messages.
  void all_reduce(View x, Wire wire = Wire::float32, View back = View()) requires Collective<Net> {
    start_all_reduce(x, wire, back).wait();
  }

  /// The same while the caller goes on; wait() on what it returns changes x and `back`.
  [[nodiscard("wait() on it")]] auto start_all_reduce(View x, Wire wire = Wire::float32,
                                                      View back = View()) requires Collective<Net> {
    using Travelling = decltype(net_.start_all_reduce(x));
    auto const running = timeline_.during(Doing::exchanging);
    if (wire == Wire::float32 || workers() == 1)  // whom nothing travels to
      return Exchange<Travelling>(*this, net_.start_all_reduce(x));
    if constexpr (PointToPoint<Net>) {
      start_message_sum(x, wire, back);
      return Exchange<Travelling>(*this, std::nullopt);
    } else {
      throw ConfigError("wire = " + to_text(wire) + ": sums in 16 bits go by messages, which " +
                        std::string(Net::name) + " has not; set wire = float32");
    }
  }

  /// into += gain * sum of x over all workers, x staying as it is, while the caller goes on; wait() on what it returns
  /// changes `into` and `back`. `wire` and `back` are as with all_reduce().
  [[nodiscard("wait() on it")]] auto start_add_sum(View into, double gain, View x, Wire wire = Wire::float32,
                                                   View back = View()) requires Collective<Net> {
    if constexpr (AddsSums<Net>) {
      using Travelling = decltype(net_.start_add_sum(into, gain, x));
      static_assert(std::same_as<Travelling, decltype(net_.start_all_reduce(x))>);
      if (wire == Wire::float32) {
        auto const running = timeline_.during(Doing::exchanging);
        return Exchange<Travelling>(*this, net_.start_add_sum(into, gain, x));
      }
    }
    if (!summed_) summed_.emplace(allocate(x.size()));
    View const sum = summed_->span();
    copy(x, sum);
    return start_all_reduce(sum, wire, back).add_to(into, gain, sum);
  }

  /// The same by messages in any `wire`, one tensor after another.
  void sum_tensors(View x, Wire wire) requires PointToPoint<Net> {
    await([&] {
      for (ParameterGroup const& tensor : tensors_) {
        start_message_sum(x.part(tensor.offset, tensor.count), wire, View());
        sum_->finish();
      }
    });
    exchanged_together();
  }

  /// One elastic exchange with the server: move(d, x, c) makes the delta of each element and moves x by it,
  /// add(c, d) moves the center. Returns when x has moved. With a `wire` of 16 bits the c that arrives is rounded, and so
  /// is the d that both ends apply, also where the center is in shared memory and nothing travels.
  template <class Move, class Add>
  void exchange(Move move, Add add, View x, double limit,
                Wire wire = Wire::float32) requires PointToPoint<Net> {
    std::uint32_t refused = 0;
    if constexpr (shared) {
      auto const running = timeline_.during(Doing::exchanging);
      View const deltas = distance_.begin() ? before(x.size()) : View();
      auto const pass = [&](auto m) { return window().exchange(m, add, x, deltas, limit); };
      auto const moved = wire == Wire::float32 ? pass(move) : with_narrow(wire, [&]<class Codec>(Codec) {
        return pass(ops::MoveRounded<Codec, Move>{move});
      });
      refused = settle(moved, move, deltas);
    } else {
      constexpr std::uint32_t ahead =
          8;  // shards on their way: enough to fill the line, few enough for a cache
      await([&] {
        distance_.begin();
        client(wire).start(step_, report_.loss, distance_.last(), ahead);
        client(wire).finish([&](auto bytes, std::size_t first, std::size_t count) {
          auto const running = timeline_.during(Doing::exchanging);
          View const mine = x.part(first, count);
          if (wire == Wire::float32) {
            View const shard = values_in<T>(bytes, count);
            model_.device().for_each(move, shard, mine, shard);
            distance_.add(read(shard));
          } else {
            with_narrow(wire, [&]<class Codec>(Codec) {
              auto const shard = values_in<typename Codec::Value>(bytes, count);
              model_.device().for_each(ops::MoveDecoded<Codec, Move>{move}, shard, mine);
              distance_.template add<Codec>(read(shard));
            });
          }
        });
        distance_.end(move);
      });
    }
    exchanged(refused);
  }

  /// The same, of x and c as they are now, while the caller goes on: move(d, x, c) makes the deltas, and what
  /// this returns gives them. x is the caller's to move.
  template <class Move, class Add>
  [[nodiscard("take its deltas()")]] auto start_exchange(
      Move move, Add add, View x, double limit, Wire wire = Wire::float32) requires PointToPoint<Net> {
    auto const running = timeline_.during(Doing::exchanging);
    before(x.size());
    distance_.begin();
    if constexpr (shared) {
      auto const pass = [&](auto m) { return window().exchange(m, add, x, before_->span(), limit); };
      auto const moved = wire == Wire::float32 ? pass(move) : with_narrow(wire, [&]<class Codec>(Codec) {
        return pass(ops::MakeRounded<Codec, Move>{move});
      });
      std::uint32_t const refused = settle(moved, move, before_->span());
      auto finish_it = [this, refused] {
        exchanged(refused);
        return before_->span();
      };
      return Started<decltype(finish_it)>(std::move(finish_it));
    } else {
      model_.device().copy(read(x), before_->span());
      client(wire).start(step_, report_.loss, distance_.last(), std::numeric_limits<std::uint32_t>::max());
      auto finish_it = [this, move, wire] {
        await([&] {
          client(wire).finish([&](auto bytes, std::size_t first, std::size_t count) {
            auto const computing = timeline_.during(Doing::exchanging);
            View const before = before_->span().part(first, count);
            if (wire == Wire::float32) {
              View const shard = values_in<T>(bytes, count);
              model_.device().for_each(move, shard, before, shard);
              distance_.add(read(shard));
            } else {
              with_narrow(wire, [&]<class Codec>(Codec) {
                model_.device().for_each(ops::MakeDecoded<Codec, Move>{move},
                                         values_in<typename Codec::Value>(bytes, count), before);
              });
              distance_.add(read(before));
            }
          });
          distance_.end(move);
        });
        exchanged(0);
        return wire == Wire::float32 ? values_in<T>(client(wire).deltas(), before_->span().size())
                                     : before_->span();
      };
      return Started<decltype(finish_it)>(std::move(finish_it));
    }
  }

  /// One exchange with a server that serves in turn: waits for its turn, then calls f(), in which swap() reaches the
  /// server.
  template <class F>
  void take_turn(F f) requires PointToPoint<Net> {
    Ask ask{report_.exchanges + 1, 0, 0, 0, 0, step_, report_.loss, distance_.last()};
    net_.send(read(as_bytes(ask)), layout_.holder(), tag::ask);
    await([&] { net_.receive(as_bytes(status_), layout_.holder(), tag::status); });
    f();
    exchanged(0);
  }
  /// Sends `mine` to the server and receives `theirs`; both have arrived when this returns.
  void swap(View mine, View theirs) requires PointToPoint<Net> {
    await([&] {
      auto arriving = net_.start_receive(theirs, layout_.holder(), tag::shard);
      auto leaving = net_.start_send(read(mine), layout_.holder(), tag::delta);
      arriving.wait();
      leaving.wait();
    });
  }

  /// Shows the center to testers that have asked; costs nothing when none has.
  void publish([[maybe_unused]] View center) {
    if constexpr (PointToPoint<Net>) {
      if (layout_.testers == 0 || net_.rank() != layout_.holder()) return;
      auto const running = timeline_.during(Doing::exchanging);
      published_ = center;
      if (!desk_) desk_.emplace(net_, model_.device(), layout_);
      try {
        while (auto const asked = net_.probe()) {
          if (asked->tag != tag::pull) break;  // of a sum that another worker has begun; probe() is fair
          desk_->receive_request(asked->source, tag::pull);
          desk_->reply(asked->source, {report_.exchanges, 0}, center);
        }
      } catch (PeerLost const& lost) {  // the loss of a tester is nothing
        if (lost.peer() < layout_.first_tester()) throw;
      }
    }
  }
  // -------------------------------------------------------------------------------------------------------------------

  /// Leaves the server, or ends the testers, and returns what happened.
  Report finish() {
    if constexpr (PointToPoint<Net>) {
      if (layout_.servers > 0) {
        leave();
      } else if (layout_.testers > 0 && net_.rank() == layout_.holder()) {
        if (!desk_) publish(parameters());
        desk_->end(report_.exchanges, published_);
      }
    }
    report_.role = Role::worker;
    report_.seconds = timeline_.seconds();
    return report_;
  }

 private:
  /// A collective under way, or a sum by messages.
  template <Ticket Travelling>
  class Exchange {
   public:
    Exchange(Worker& worker, std::optional<Travelling> travelling)
        : worker_(&worker), travelling_(std::move(travelling)) {}
    void wait() {
      worker_->await([&] {
        if (travelling_) return travelling_->wait();
        if constexpr (PointToPoint<Net>) worker_->sum_->finish();
      });
      if (sum_.size() != 0) worker_->for_each(ops::AddScaled{gain_}, into_, read(sum_));
      worker_->exchanged_together();
    }
    /// What came is to be added, too.
    Exchange add_to(View into, double gain, View sum) && {
      into_ = into, gain_ = gain, sum_ = sum;
      return std::move(*this);
    }
    bool done() {
      if (travelling_) return travelling_->done();
      if constexpr (PointToPoint<Net>) return worker_->sum_->done();
      return true;
    }

   private:
    Worker* worker_;
    std::optional<Travelling> travelling_;
    View into_, sum_;
    double gain_ = 1;
  };

  void move(double share, View less) {
    auto const running = timeline_.during(Doing::computing);
    for (ParameterGroup const& tensor : tensors_) step_maker_.apply(gradients(), rate(), tensor, share, less);
    ++report_.steps;
  }

  void start_message_sum(View x, Wire wire, View back) {
    if (!sum_) sum_.emplace(net_, model_.device(), workers(), timeline_);
    sum_->start(x, wire, back);
  }
  void exchanged_together() {
    ++report_.exchanges;
    met_ = true;
    tell(event::Exchange{net_.rank(), step_, waited_});
  }

  /// An exchange with a server under way.
  template <class F>
  class Started {
   public:
    explicit Started(F finish) : finish_(std::move(finish)) {}
    /// Waits for the exchange and returns what the center has been sent.
    View deltas() { return finish_(); }

   private:
    F finish_;
  };

  static constexpr bool shared = PointToPoint<Net> && shares_center<Net, Dev>;

  auto& client(Wire wire) {
    if (!client_) {
      client_.emplace(net_, layout_.holder(), model_.device(), parameters().size(), width_on<T>(wire),
                      entry_);
      wire_ = wire;
    }
    if (wire != wire_) throw ConfigError("a rule exchanges with one server in one wire, from first to last");
    return *client_;
  }
  auto& window() {
    if (!window_) window_.emplace(net_, model_.device(), entry_.welcome, parameters().size());
    return *window_;
  }

  View before(std::size_t size) {
    if (!before_) before_.emplace(allocate(size));
    return before_->span();
  }

  /// Tells the server what has happened to the shared center.
  template <class Exchanged, class Move>
  std::uint32_t settle(Exchanged const& moved, Move const& move, View deltas) {
    status_ = moved.status;
    distance_.add(read(deltas));
    distance_.end(move);
    Ask told{report_.exchanges + 1, 0, 0, moved.refused, 0, step_, report_.loss, distance_.last()};
    net_.send(read(as_bytes(told)), layout_.holder(), tag::ask);
    return moved.refused;
  }

  void exchanged(std::uint32_t refused) {
    if constexpr (!shared)
      if (client_) status_ = client_->status();
    ++report_.exchanges;
    report_.refused += refused;
    if (status_.stop != 0) report_.stopped = true;
    tell(event::Exchange{net_.rank(), step_, waited_});
  }

  void leave() {
    Request const farewell{report_.exchanges, step_, report_.loss};
    if constexpr (shared) {
      net_.send(read(as_bytes(const_cast<Request&>(farewell))), layout_.holder(), tag::leave);
      net_.receive(Span<char>(), layout_.holder(), tag::ended);
    } else {
      auto& last = client(client_ ? wire_ : Wire::float32);
      last.leave(farewell);
      report_.lost = last.lost();
      report_.rejoined = last.rejoined();
    }
  }

  /// Waiting is what finish() takes, but for the arithmetic in it.
  template <class F>
  void await(F finish) {
    double const before = timeline_.seconds().waiting;
    {
      auto const waiting = timeline_.during(Doing::waiting);
      finish();
    }
    waited_ = timeline_.seconds().waiting - before;
  }

  auto const& load() {
    auto const loading = timeline_.during(Doing::loading);
    return data_.next();
  }

  double rate() const {
    return plan_.sgd.learning_rate * plan_.sgd.schedule.at(step_, plan_.steps_per_epoch, layout_.workers(),
                                                           bookmark_.plateaus.plateaus);
  }

  /// Workers of a collective must stop at the same step, so they ask each other, right after an exchange
  /// only: a rule that seldom communicates still seldom communicates. A server tells its workers instead
  /// (Status::stop).
  void agree_to_stop() {
    if (!plan_.stop) return;
    if (layout_.servers > 0 && plan_.stop->load()) report_.stopped = true;
    if constexpr (Collective<Net>) {
      if (layout_.servers > 0 || !std::exchange(met_, false)) return;
      double votes = plan_.stop->load() ? 1 : 0;
      await([&] { net_.all_reduce(Span<double>(&votes, 1)); });
      if (votes > 0) report_.stopped = true;
    }
  }

  /// At the end of an epoch, its mean loss; the mean over the workers too where they must keep the same rate.
  void watch_for_plateau() {
    long const epoch = std::max(1L, long(plan_.steps_per_epoch));
    if ((step_ + 1) % epoch != 0) return;
    double loss = std::exchange(bookmark_.epoch_loss, 0) / double(epoch);
    if constexpr (Collective<Net>) {
      if (layout_.servers == 0) {
        await([&] { net_.all_reduce(Span<double>(&loss, 1)); });
        loss /= layout_.workers();
      }
    }
    bookmark_.plateaus.report(loss, plan_.sgd.schedule.threshold, plan_.sgd.schedule.patience);
  }

  void tell_turn(bool last) {
    using Turn = event::Turn<T, Memory>;
    if constexpr ((Takes<Os, Turn> || ...)) {
      bookmark_.steps = step_ + 1;
      report_.seconds = timeline_.seconds();
      auto const states = states_.all();
      tell(Turn{net_.rank(), step_ + 1, last, read(parameters()), states, bookmark_, report_});
    }
  }

  template <class Event>
  void tell(Event const& e) {
    auto const observing = timeline_.during(Doing::observing);
    std::apply([&](auto&... os) { notify(e, os...); }, observers_);
  }

  Net& net_;
  Layout layout_;
  Entry entry_;
  Model& model_;
  std::vector<ParameterGroup> tensors_;
  bool whole_;  // the tensors are all parameters; what is frozen may be in none
  Data& data_;
  States<Dev, T>& states_;
  Plan const& plan_;
  optimizer::LocalStep<Dev, T> step_maker_;
  std::tuple<Os&...> observers_;
  Timeline<Os...> timeline_;
  DistanceMeter<Dev, T> distance_;
  Report report_;
  Bookmark bookmark_;
  long step_;
  double waited_ = 0;
  bool met_ = false;
  Status status_{};
  View published_;
  Wire wire_{};                                             // of the exchanges with a server
  std::optional<typename Dev::template Buffer<T>> before_;  // x at the start of an exchange, or its deltas
  std::optional<typename Dev::template Buffer<T>> summed_;  // a sum on its way that will be added

  struct None {};
  template <class N>
  struct Messages {
    using Desk = None;
    using Client = None;
    using Sum = None;
  };
  template <PointToPoint N>
  struct Messages<N> {
    using Desk = CenterDesk<N, Dev, T>;
    using Client = CenterClient<N, Dev>;
    using Sum = MessageSum<N, Dev, T, Timeline<Os...>>;
  };
  template <class N, bool Yes>
  struct Shared {
    using Window = None;
  };
  template <class N>
  struct Shared<N, true> {
    using Window = CenterWindow<N, Dev, T>;
  };
  std::optional<typename Messages<Net>::Desk> desk_;
  std::optional<typename Messages<Net>::Client> client_;
  std::optional<typename Messages<Net>::Sum> sum_;
  std::optional<typename Shared<Net, shared>::Window> window_;
};

}  // namespace elastic
