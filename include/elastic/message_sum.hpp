// SPDX-License-Identifier: Apache-2.0
// A sum over all ranks by messages: everybody sends each rank its part, which that rank adds and sends to everybody
// (all-to-all, sum, all-gather). This is how a sum travels in 16 bits and is added in full precision.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "elastic/chunks.hpp"
#include "elastic/concepts.hpp"
#include "elastic/error.hpp"
#include "elastic/role.hpp"
#include "elastic/timeline.hpp"
#include "elastic/wire.hpp"

namespace elastic {

/// Sums of vectors of any size over the ranks 0 to `ranks` - 1, any number of them; one sum at a time.
///
/// What a rank gives is rounded to what travels, added as T in rank order, and the sum is rounded once more; all ranks
/// end with the same bits. With `back`, what has not been counted of a rank's values is added there: its own rounding,
/// and on the rank that adds a part also the rounding of that part's sum. So the sum plus all that went back is what
/// was given, to the rounding of T itself, whatever travels.
template <PointToPoint Net, Device Dev, class T, class Line = Timeline<>>
class MessageSum {
 public:
  using View = Span<T, typename Dev::memory>;

  /// Its arithmetic counts as exchanging in `line`, a Timeline.
  MessageSum(Net& net, Dev& device, int ranks, Line& line)
      : net_(net), device_(device), ranks_(ranks), line_(line) {}

  /// Begins the sum of x; everything that has to be added is on its way when this returns. finish() changes x and
  /// `back`, which is empty or as long as x; x is not to be touched until then.
  void start(View x, Wire wire, View back) {
    if (busy_) throw ConfigError("two sums by messages at a time: wait for the first, then start the second");
    busy_ = true;
    x_ = x;
    back_ = back;
    wire_ = wire;
    width_ = width_on<T>(wire);
    each_ = piece_bytes / width_;
    own_ = part(net_.rank());
    reserve(travelling_, x.size() * width_);
    reserve(parts_, own_.count * std::size_t(ranks_ - 1) * width_);
    if (std::size_t const most = std::min(each_, own_.count); !sum_ || sum_->span().size() < most)
      sum_.emplace(device_.template allocate<T>(most));
    with_codec<T>(wire_, [&](auto codec) { send_parts(codec); });
  }

  /// Whether finish() would return without waiting; makes progress.
  bool done() {
    if (!busy_) return true;
    if (!with_codec<T>(wire_, [&](auto codec) { return add_parts(codec, false); })) return false;
    auto const arrived = [](auto& messages) {
      return std::all_of(messages.begin(), messages.end(), [](auto& m) { return m.done(); });
    };
    return arrived(sums_in_) && arrived(sums_out_);
  }

  /// Returns when x is the sum.
  void finish() {
    if (!busy_) return;
    with_codec<T>(wire_, [&](auto codec) {
      add_parts(codec, true);
      for (std::size_t k = 0; k < pieces(own_); ++k) take_sum(codec, piece(own_, k));
      for (std::size_t i = 0; i < sums_in_.size(); ++i) {
        sums_in_[i].wait();
        take_sum(codec, sums_are_[i]);
      }
    });
    for (auto& message : sums_out_) message.wait();
    busy_ = false;
  }

 private:
  using Bytes = Span<std::byte, typename Dev::memory>;
  using Buffer = std::optional<typename Dev::template Buffer<std::byte>>;
  using Receiving = decltype(std::declval<Net&>().start_receive(Bytes(), 0, 0));
  using Sending = decltype(std::declval<Net&>().start_send(read(Bytes()), 0, 0));

  static constexpr std::size_t piece_bytes = std::size_t(256) << 10;  // of one message

  void reserve(Buffer& buffer, std::size_t bytes) {
    if (!buffer || buffer->span().size() < bytes) buffer.emplace(device_.template allocate<std::byte>(bytes));
  }
  Chunk part(int rank) const { return chunk(x_.size(), ranks_, rank); }
  std::size_t pieces(Chunk c) const { return (c.count + each_ - 1) / each_; }
  std::size_t rounds() const { return pieces(part(0)); }  // no part has more
  Chunk piece(Chunk c, std::size_t k) const {
    return {c.first + k * each_, std::min(each_, c.count - k * each_)};
  }
  /// f(rank) for the others, every rank in an order of its own, so that not all send to the same one first.
  template <class F>
  void for_others(F f) const {
    for (int i = 1; i < ranks_; ++i) f((net_.rank() + i) % ranks_);
  }
  /// f(rank, piece `round` of its part) for those that have one.
  template <class F>
  void for_pieces(std::size_t round, F f) const {
    for_others([&](int rank) {
      if (round < pieces(part(rank))) f(rank, piece(part(rank), round));
    });
  }

  /// Where values travel from, and their sums to.
  Bytes bytes(Chunk c) const { return travelling_->span().part(c.first * width_, c.count * width_); }
  /// Where `rank`'s values for a piece of this rank's part are.
  Bytes given(int rank, Chunk c) const {
    if (rank == net_.rank()) return bytes(c);
    std::size_t const slot = std::size_t(rank - (rank > net_.rank() ? 1 : 0));
    return parts_->span().part((slot * own_.count + c.first - own_.first) * width_, c.count * width_);
  }
  template <class Codec>
  static auto values(Bytes bytes) {
    return values_in<typename Codec::Value>(bytes, bytes.size() / sizeof(typename Codec::Value));
  }
  template <class F, class... Views>
  void compute(F f, Views... views) {
    auto const running = line_.during(Doing::exchanging);
    device_.for_each(f, views...);
  }

  template <class Codec>
  void send_parts(Codec codec) {
    parts_in_.clear();
    parts_out_.clear();
    sums_in_.clear();
    sums_are_.clear();
    sums_out_.clear();
    added_ = parts_taken_ = parts_sent_ = 0;
    for (std::size_t k = 0; k < pieces(own_); ++k)
      for_others([&](int rank) {
        parts_in_.push_back(net_.start_receive(given(rank, piece(own_, k)), rank, tag::part));
      });
    for (std::size_t k = 0; k < rounds(); ++k) {
      if (k < pieces(own_)) encode(codec, piece(own_, k));
      for_pieces(k, [&](int rank, Chunk c) {
        encode(codec, c);
        parts_out_.push_back(net_.start_send(read(bytes(c)), rank, tag::part));
      });
    }
  }
  /// What x keeps until the end is what will go back.
  template <class Codec>
  void encode(Codec, Chunk c) {
    View const from = x_.part(c.first, c.count);
    if (back_.empty())
      compute(ops::Encode<Codec>{}, values<Codec>(bytes(c)), from);
    else
      compute(ops::Split<Codec>{}, values<Codec>(bytes(c)), from);
  }

  /// Round by round: adds a piece of this rank's part, sends the sum, and lets in those of the others' parts, which
  /// arrive where this rank's values have left. False if it would have to wait and must not.
  template <class Codec>
  bool add_parts(Codec codec, bool waits) {
    for (; added_ < rounds(); ++added_) {
      std::size_t const in = added_ < pieces(own_) ? std::size_t(ranks_ - 1) : 0;
      std::size_t out = 0;
      for_pieces(added_, [&](int, Chunk) { ++out; });
      auto const here = [](auto& messages, std::size_t first, std::size_t count) {
        for (std::size_t i = first; i < first + count; ++i)
          if (!messages[i].done()) return false;
        return true;
      };
      if (!waits && !(here(parts_in_, parts_taken_, in) && here(parts_out_, parts_sent_, out))) return false;
      for (std::size_t i = 0; i < in; ++i) parts_in_[parts_taken_ + i].wait();
      if (added_ < pieces(own_)) add(codec, piece(own_, added_));
      for (std::size_t i = 0; i < out; ++i) parts_out_[parts_sent_ + i].wait();
      for_pieces(added_, [&](int rank, Chunk c) {
        sums_in_.push_back(net_.start_receive(bytes(c), rank, tag::sum));
        sums_are_.push_back(c);
      });
      parts_taken_ += in;
      parts_sent_ += out;
    }
    return true;
  }
  template <class Codec>
  void add(Codec, Chunk c) {
    View const sum = sum_->span().part(0, c.count);
    compute(ops::Decode<Codec>{}, sum, values<Codec>(given(0, c)));
    for (int rank = 1; rank < ranks_; ++rank)
      compute(ops::AddDecoded<Codec>{}, sum, values<Codec>(given(rank, c)));
    if (back_.empty())
      compute(ops::Encode<Codec>{}, values<Codec>(bytes(c)), sum);
    else
      compute(ops::SplitInto<Codec>{}, values<Codec>(bytes(c)), x_.part(c.first, c.count), sum);
    for_others([&](int rank) { sums_out_.push_back(net_.start_send(read(bytes(c)), rank, tag::sum)); });
  }

  template <class Codec>
  void take_sum(Codec, Chunk c) {
    View const x = x_.part(c.first, c.count);
    if (back_.empty())
      compute(ops::Decode<Codec>{}, x, values<Codec>(bytes(c)));
    else
      compute(ops::GiveBack<Codec>{}, x, back_.part(c.first, c.count), values<Codec>(bytes(c)));
  }

  Net& net_;
  Dev& device_;
  int ranks_;
  Line& line_;

  bool busy_ = false;
  View x_, back_;
  Wire wire_{};
  std::size_t width_ = 0;  // of a value on the wire
  std::size_t each_ = 0;   // values of a message
  Chunk own_{};            // what this rank adds
  std::size_t added_ = 0;  // rounds, and the messages of `parts` that were waited for in them
  std::size_t parts_taken_ = 0, parts_sent_ = 0;

  Buffer travelling_, parts_;  // before what travels in and out of them
  std::optional<typename Dev::template Buffer<T>> sum_;
  std::vector<Receiving> parts_in_, sums_in_;
  std::vector<Chunk> sums_are_;
  std::vector<Sending> parts_out_, sums_out_;
};

}  // namespace elastic
