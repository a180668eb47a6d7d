// SPDX-License-Identifier: Apache-2.0
// One worker between two steps, as a file: all that a deterministic run needs to go on from there bit for bit.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iosfwd>
#include <limits>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "elastic/agreement.hpp"
#include "elastic/bookmark.hpp"
#include "elastic/error.hpp"
#include "elastic/event.hpp"
#include "elastic/model/safetensors.hpp"
#include "elastic/model/tensor_places.hpp"
#include "elastic/options.hpp"
#include "elastic/plan.hpp"

namespace elastic {

/// What a run that goes on must have in common with the one it continues, as "key=value" lines: the rule and its
/// options, the local step, and the number of workers. Append what else decides the result: seeds, batch, data.
template <class Rule>
std::string checkpoint_terms(Rule const& rule, Plan const& plan, int workers) {
  optimizer::Schedule schedule = plan.sgd.schedule;
  if (schedule.decay != optimizer::Decay::polynomial) schedule.end_epoch = 0;  // it has none
  return "rule=" + std::string(Rule::name) + "\n" + describe(rule) + describe(plan.sgd) + describe(schedule) +
         "steps_per_epoch=" + to_text(plan.steps_per_epoch) + "\n" + "workers=" + std::to_string(workers) +
         "\n";
}

namespace detail {

template <class Data>
concept Streamable = requires(Data& data, std::istream& in, std::ostream& out) {
  out << data;
  in >> data;
};

template <class Value>
std::string written(Value const& value) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << value;
  return text.str();
}

}  // namespace detail

/// Writes what a worker goes on from to `path`, a safetensors file replaced atomically: its parameters and the
/// rule's named vectors ("parameters.0.weight", "velocity.0.weight"), each cut into the model's tensors, and as
/// metadata the bookmark, the model's generator(), the data's samples() or, where it can be streamed, its state,
/// and the keys of `more`, among which "terms" are compared by Checkpoint. Throws Error if it cannot be written.
template <class T, class Memory, class Model, class Data>
void save_checkpoint(std::filesystem::path const& path, event::Turn<T, Memory> const& turn, Model& model,
                     Data const& data, model::Metadata more) {
  std::vector<std::vector<T>> host;  // copies of what is in a device's memory
  std::vector<model::TensorView> tensors;
  auto const places = model::places_of(model);
  auto const add = [&](std::string const& name, Span<T const, Memory> values) {
    Span<T const> here;
    if constexpr (std::is_same_v<Memory, memory::Host>) {
      here = values;
    } else {
      auto& copy = host.emplace_back(values.size());
      model.device().download(values, Span<T>(copy));
      here = Span<T const>(copy);
    }
    for (model::TensorPlace const& place : places)
      tensors.push_back(model::view_tensor<T>(place.name.empty() ? name : name + "." + place.name,
                                              here.part(place.offset, place.count), place.shape));
  };
  add("parameters", turn.parameters);
  std::string names;
  for (auto const& state : turn.states) {
    add(std::string(state.name), state.values);
    names += std::string(state.name) + " ";
  }
  Bookmark const& bookmark = turn.bookmark;
  more.insert({{"format", "elastic checkpoint 1"},
               {"states", names},
               {"steps", std::to_string(bookmark.steps)},
               {"epoch_loss", to_text(bookmark.epoch_loss)},
               {"plateau_best", to_text(bookmark.plateaus.best)},
               {"plateau_waited", std::to_string(bookmark.plateaus.waited)},
               {"plateaus", std::to_string(bookmark.plateaus.plateaus)}});
  if constexpr (requires { model.generator(); }) more["generator"] = detail::written(model.generator());
  if constexpr (requires { data.samples(); })
    more["samples"] = std::to_string(data.samples());
  else if constexpr (detail::Streamable<Data>)
    more["data"] = detail::written(data);
  model::save_tensors(path, tensors, std::move(more));
}

/// What save_checkpoint has written.
class Checkpoint {
 public:
  /// Throws DataError for a file that is damaged or no checkpoint.
  explicit Checkpoint(std::filesystem::path const& path) : file_(path) {
    if (text("format") != "elastic checkpoint 1")
      file_.fail(8, "the format 'elastic checkpoint 1'", "'" + text("format") + "'");
    bookmark_ = {.steps = number<long>("steps"),
                 .epoch_loss = number<double>("epoch_loss"),
                 .plateaus = {.best = number<double>("plateau_best"),
                              .waited = number<long>("plateau_waited"),
                              .plateaus = number<int>("plateaus")}};
  }

  std::filesystem::path const& path() const { return file_.path(); }
  Bookmark const& bookmark() const { return bookmark_; }
  /// Samples of the worker's data that it has used: the `start` of the data of a run that goes on; 0 for data that
  /// does not count them.
  std::uint64_t samples() const { return has("samples") ? number<std::uint64_t>("samples") : 0; }
  bool has(std::string const& key) const { return file_.metadata().contains(key); }
  /// What save_checkpoint was given under this key; throws DataError if it was not.
  std::string const& text(std::string const& key) const {
    auto const found = file_.metadata().find(key);
    if (found == file_.metadata().end()) file_.fail(8, "metadata called " + key, "none");
    return found->second;
  }

  /// Throws ConfigError, with the first line that differs, unless the run that was saved had these terms.
  void check_terms(std::string_view terms) const {
    auto const [theirs, mine] = detail::first_different_lines(text("terms"), terms);
    if (theirs != mine)
      throw ConfigError(path().string() + ": the run that was saved had " + theirs + ", this one has " +
                        mine + "; go on with the same options, or start anew in another folder");
  }

  /// Puts everything back: after it `trainer.run(model, data, plan)` goes on where the run was saved. `data` must
  /// start at samples(). Throws ConfigError, naming the first tensor and both shapes, if the model has another
  /// layout than what was saved.
  template <class Model, class Data, class Trainer>
  void restore(Model& model, Data& data, Trainer& trainer, Plan& plan) const {
    using T = typename Model::scalar;
    std::vector<std::string> vectors{"parameters"};
    std::istringstream names(text("states"));
    for (std::string name; names >> name;) vectors.push_back(name);
    auto const places = model::places_of(model);
    check_layout<T>(vectors, places);

    std::vector<T> values(model.parameters().size());
    for (std::string const& vector : vectors) {
      for (model::TensorPlace const& place : places) {
        std::string_view const bytes = file_.find(full_name(vector, place))->bytes;
        if (!bytes.empty()) std::memcpy(values.data() + place.offset, bytes.data(), bytes.size());
      }
      if (vector == "parameters")
        model.device().upload(Span<T const>(values), model.parameters());
      else
        trainer.restore(vector, Span<T const>(values));
    }
    if constexpr (requires { model.generator(); }) read_state("generator", model.generator());
    if constexpr (requires { data.samples(); }) {
      if (data.samples() != samples())
        throw ConfigError(path().string() + ": the run that was saved had used " + std::to_string(samples()) +
                          " samples, the data starts behind " + std::to_string(data.samples()));
    } else if constexpr (detail::Streamable<Data>) {
      read_state("data", data);
    }
    plan.from = bookmark_;
  }

 private:
  static std::string full_name(std::string const& vector, model::TensorPlace const& place) {
    return place.name.empty() ? vector : vector + "." + place.name;
  }

  template <class T>
  void check_layout(std::vector<std::string> const& vectors,
                    std::vector<model::TensorPlace> const& places) const {
    auto const refuse = [&](std::string const& name, std::string const& mine, std::string const& theirs) {
      throw ConfigError(path().string() + ": weights of another layout: " + name + " is " + mine +
                        " in this model and " + theirs + " in the file");
    };
    std::size_t expected = 0;
    for (std::string const& vector : vectors)
      for (model::TensorPlace const& place : places) {
        model::TensorInfo const mine{full_name(vector, place), std::string(model::dtype_of<T>), place.shape};
        auto const* const found = file_.find(mine.name);
        if (found == nullptr) refuse(mine.name, to_string(mine), "missing");
        if (to_string(found->info) != to_string(mine))
          refuse(mine.name, to_string(mine), to_string(found->info));
        ++expected;
      }
    if (file_.tensors().size() == expected) return;
    for (auto const& tensor : file_.tensors()) {
      bool known = false;
      for (std::string const& vector : vectors)
        for (model::TensorPlace const& place : places) known |= full_name(vector, place) == tensor.info.name;
      if (!known) refuse(tensor.info.name, "missing", to_string(tensor.info));
    }
  }

  template <class Number>
  Number number(std::string const& key) const {
    std::string const& all = text(key);
    Number value{};
    auto const [end, failure] = std::from_chars(all.data(), all.data() + all.size(), value);
    if (failure != std::errc() || end != all.data() + all.size())
      file_.fail(8, "a number called " + key, "'" + all + "'");
    return value;
  }

  template <class State>
  void read_state(std::string const& key, State& state) const {
    std::istringstream in(text(key));
    in.imbue(std::locale::classic());
    if (!(in >> state)) file_.fail(8, "the state of a " + key, "something else");
  }

  model::TensorFile file_;
  Bookmark bookmark_;
};

}  // namespace elastic
