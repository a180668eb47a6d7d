// SPDX-License-Identifier: Apache-2.0
// Transport x SyncRule x Device, composed: Trainer::run plays this rank's role in the rule until training
// ends.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "elastic/agreement.hpp"
#include "elastic/compose.hpp"
#include "elastic/membership.hpp"
#include "elastic/plan.hpp"
#include "elastic/report.hpp"
#include "elastic/role.hpp"
#include "elastic/server.hpp"
#include "elastic/state.hpp"
#include "elastic/tester.hpp"
#include "elastic/worker.hpp"

namespace elastic {

/// A rule with a server program keeps its center on a server, which is rank 0.
template <class Rule, class Net, class Dev>
concept Served = PointToPoint<Net> && requires(Rule const& rule, Server<Net, Dev, float>& server) {
  rule.server(server);
};

/// Trains with one rule over one transport on one device. `T` is the models' scalar.
template <class Net, class Rule, class Dev, class T = float>
class Trainer : Composition<Net, Rule, Dev> {
 public:
  Trainer(Net& net, Rule rule, Dev& device)
      : net_(net), rule_(std::move(rule)), device_(device), states_(device) {}

  /// Plays this rank's role until training ends: all ranks call it together. A worker leaves its own
  /// parameters in `model`, a server its center, a tester the last center. Observers are called on the
  /// calling thread.
  ///
  /// Throws ConfigError if options cannot work, Disagreement if they differ between ranks, TransportError if
  /// communication fails; when it throws, the other ranks are released with Aborted.
  template <class Model, class Data, class... Os>
  Report run(Model& model, Data& data, Plan const& plan, Os&&... observers) {
    static_assert(Trainable<Model>, "elastic: the model does not model elastic::Trainable (concepts.hpp).");
    static_assert(DataSource<Data, Model>,
                  "elastic: the data does not model elastic::DataSource: next() must return the "
                  "model's batch (concepts.hpp).");
    static_assert((Observer<Os, event::Turn<T, typename Dev::memory>> && ...),
                  "elastic: an observer must be callable with at least one elastic::event.");
    if constexpr (Trainable<Model>)
      static_assert(std::same_as<typename Model::scalar, T> && std::same_as<typename Model::device_type, Dev>,
                    "elastic: the model's scalar and device are not the Trainer's; name them: Trainer<Net, "
                    "Rule, Dev, T>.");
    if constexpr (Composition<Net, Rule, Dev>::ok && Trainable<Model>) {
      try {
        return play(model, data, plan, observers...);
      } catch (Aborted const&) {
        throw;  // nobody is left to release
      } catch (Disagreement const&) {
        throw;
      } catch (std::exception const& failure) {
        bool const tests = net_.rank() >= net_.size() - plan.testers;  // nobody needs a tester to go on
        std::string_view reason = failure.what();
        if (reason.starts_with(Error::prefix)) reason.remove_prefix(Error::prefix.size());
        if (net_.size() > 1 && !tests) net_.abort(reason);
        throw;
      }
    } else {
      return {};
    }
  }

  /// A named vector of the last run (or of restore): "center", "velocity". Throws ConfigError naming those
  /// that exist.
  auto state(std::string_view name) const { return states_.at(name); }
  bool has_state(std::string_view name) const { return states_.contains(name); }

  /// Sets a named vector before a run, which then continues from it.
  void restore(std::string_view name, Span<T const> values) {
    auto buffer = device_.template allocate<T>(values.size());
    device_.upload(values, buffer.span());
    states_.get(name, buffer.span());
  }

 private:
  template <class Model, class Data, class... Os>
  Report play(Model& model, Data& data, Plan const& plan, Os&... observers) {
    Layout const layout{net_.size(), Served<Rule, Net, Dev> ? 1 : 0, plan.testers};
    layout.check();
    rule_.check(layout.workers());
    plan.sgd.check();
    Entry entry = meet(model, layout, plan);
    Traffic const before = net_.traffic();

    Report report;
    switch (layout.role_of(net_.rank())) {
      case Role::server:
        if constexpr (Served<Rule, Net, Dev>) {
          Server<Net, Dev, T, Os...> server(net_, layout, device_, model.parameters(), groups_of(model),
                                            states_, plan, entry.terms, observers...);
          rule_.server(server);
          device_.copy(states_.at("center"), model.parameters());
          report = server.finish(model.parameters());
        }
        break;
      case Role::tester:
        if constexpr (PointToPoint<Net>) {
          Tester<Net, Dev, T, Os...> tester(net_, layout, plan, std::move(entry), observers...);
          while (auto const snapshot = tester.next_snapshot(model.parameters())) tester.tell(*snapshot);
          report = tester.finish();
        }
        break;
      case Role::worker:
        Worker<Net, Model, Data, Os...> worker(net_, layout, model, data, states_, plan, std::move(entry),
                                               observers...);
        rule_.worker(worker);
        report = worker.finish();
        break;
    }
    Traffic const after = net_.traffic();
    report.traffic = {after.sent_bytes - before.sent_bytes, after.received_bytes - before.received_bytes,
                      after.sent_messages - before.sent_messages,
                      after.received_messages - before.received_messages};
    return report;
  }

  /// Compares what all ranks must have in common, forms the workers' team or joins the server, and gives the
  /// workers one start.
  template <class Model>
  Entry meet(Model& model, Layout const& layout, Plan const& plan) {
    Entry entry;
    entry.incarnation = plan.incarnation != 0 ? plan.incarnation : new_incarnation();
    entry.terms = "messages=2\nrule=" + std::string(Rule::name) + "\n" + describe(rule_) +
                  "scalar=" + std::to_string(sizeof(T) * 8) + " bits\n" +
                  "parameters=" + std::to_string(model.parameters().size()) + "\n" +
                  "testers=" + std::to_string(plan.testers) + "\n" + in_step(plan);
    Role const role = layout.role_of(net_.rank());
    if constexpr (PointToPoint<Net>)
      if (!comes_and_goes(net_)) agree(net_, entry.terms);
    if constexpr (Rule::needs == Needs::collective) {
      net_.team(layout.workers());
      bool const fresh = plan.from.steps == 0;
      if (plan.same_start && fresh && role != Role::tester) net_.broadcast(model.parameters(), 0);
    } else if (role != Role::server) {
      if (comes_and_goes(net_))
        entry.welcome = join(net_, layout.holder(), {entry.incarnation, 0, 1, 0}, entry.terms);
      else if (role == Role::worker)
        net_.receive(as_bytes(entry.welcome), layout.holder(), tag::welcome);
      if (entry.welcome.starts != 0) {
        Status status{};
        net_.receive(as_bytes(status), layout.holder(), tag::status);
        if (plan.from.steps == 0) {
          net_.receive(model.parameters(), layout.holder(), tag::center);
        } else {  // it has parameters of its own
          auto unused = device_.template allocate<T>(model.parameters().size());
          net_.receive(unused.span(), layout.holder(), tag::center);
        }
      }
    }
    return entry;
  }

  /// What workers that meet in collectives must do at the same steps, and workers of a server need not.
  std::string in_step(Plan const& plan) const {
    if constexpr (Rule::needs != Needs::collective) return "";
    std::string transport;
    if constexpr (requires { net_.terms(); }) transport = net_.terms();
    auto const& schedule = plan.sgd.schedule;
    return transport + "steps=" + std::to_string(plan.steps) + "\n" +
           "steps of earlier runs=" + std::to_string(plan.from.steps) + "\n" +
           "decay=" + to_text(schedule.decay) + "\n" + "steps_per_epoch=" + to_text(plan.steps_per_epoch) +
           "\n" + "can be stopped=" + to_text(plan.stop != nullptr) + "\n";
  }

  Net& net_;
  Rule rule_;
  Dev& device_;
  States<Dev, T> states_;
};

}  // namespace elastic
