// SPDX-License-Identifier: Apache-2.0
// Fuzzes what a member of a job can put on a link of transport::Tcp once it is in: any bytes and any frames,
// between any receives, sends and cancellations of this rank.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "elastic/transport/detail/tcp_inbox.hpp"
#include "elastic/transport/detail/tcp_operation.hpp"
#include "elastic/transport/detail/tcp_outbox.hpp"
#include "input.hpp"

namespace {

using namespace elastic;
using namespace elastic::transport::detail;

constexpr std::array<std::size_t, 8> sizes{0, 1, 100, 4096, 65536, 65537, 262144, 300001};

/// What the peer sends, and where what this rank sends disappears.
struct Wire {
  std::vector<std::uint8_t> arriving;
  std::size_t arrived = 0;  // of them
  std::size_t room = 0;     // bytes that it takes now

  template <class Buffers>
  std::size_t read_some(Buffers const& buffers, error_code& error) {
    std::size_t got = 0;
    for (asio::mutable_buffer part : buffers) {
      std::size_t const n = std::min(part.size(), arriving.size() - arrived);
      if (n > 0) std::memcpy(part.data(), arriving.data() + arrived, n);
      arrived += n;
      got += n;
    }
    if (arrived == arriving.size()) {
      arriving.clear();
      arrived = 0;
    }
    if (got == 0) error = asio::error::would_block;
    return got;
  }
  template <class Buffers>
  std::size_t write_some(Buffers const& buffers, error_code& error) {
    std::size_t sent = 0;
    for (asio::const_buffer part : buffers) {
      std::size_t const n = std::min(room, part.size());
      for (std::size_t k = 0; k < n; ++k) sum += static_cast<std::uint8_t const*>(part.data())[k];
      room -= n;
      sent += n;
    }
    if (sent == 0) error = asio::error::would_block;
    return sent;
  }
  unsigned sum = 0;  // every byte is read, so that a sanitizer sees whose it is
};

/// One message of this rank, with a buffer of its exact size.
struct Message {
  TcpOperation operation;
  std::vector<std::byte> buffer;
};

struct Rank {
  Traffic traffic;
  std::uint64_t horizon = Outbox::collective_bit + 4;
  Outbox out{traffic};
  Inbox in{out, traffic, 1, horizon};
  Wire wire;
  std::vector<TcpOperation*> changed;
  std::deque<Message> messages;

  Transfer& message(bool outgoing, std::uint64_t id, std::size_t size) {
    Message& m = messages.emplace_back();
    m.buffer.resize(size);
    m.operation.changed = &changed;
    m.operation.transfers.resize(1);
    return m.operation.add(0, 1, outgoing, id, m.buffer.data(), size);
  }
  void cancel(Message& m) {
    in.cancel(m.operation.transfers[0]);
    out.cancel(m.operation.transfers[0]);
    m.operation.cancelled = true;
  }
  void move() {
    in.pump(wire);
    out.pump(wire);
    for (TcpOperation* const op : changed) op->entered = false;
    changed.clear();
    for (Message& m : messages) {
      if (m.operation.transfers[0].moved > m.buffer.size()) std::abort();
      if (m.operation.failure && !m.operation.cancelled) cancel(m);
    }
    in.peek();
    in.take_news();
  }
  void arrive(void const* data, std::size_t size) {
    auto const* const bytes = static_cast<std::uint8_t const*>(data);
    wire.arriving.insert(wire.arriving.end(), bytes, bytes + size);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  fuzz::Input input(data, size);
  Rank rank;
  std::uint64_t next = 0;
  while (!input.empty() && rank.in.broken() == nullptr && rank.messages.size() < 200) {
    auto const what = input.take<std::uint8_t>();
    auto const choice = input.take<std::uint8_t>();
    std::size_t const length = sizes[choice % sizes.size()];
    std::uint64_t const id = choice / sizes.size();
    switch (what % 8) {
      case 0:
        rank.message(false, 0, length).tag = static_cast<int>(id % 4);
        rank.in.receive(rank.messages.back().operation.transfers[0]);
        break;
      case 1:
        rank.in.expect(rank.message(false, Outbox::collective_bit + id % 8, length), what / 8 % 2 == 0);
        break;
      case 2: {
        Transfer& t = rank.message(true, ++next, length);
        t.tag = static_cast<int>(id % 4);
        rank.out.message(t);
        break;
      }
      case 3:
        rank.out.piece(rank.message(true, Outbox::collective_bit + id % 8, length), what / 8 % 2 == 0);
        break;
      case 4:
        if (!rank.messages.empty()) rank.cancel(rank.messages[choice % rank.messages.size()]);
        break;
      case 5: rank.wire.room += length; break;
      case 6: {  // a frame that makes some sense
        Header h{.kind = Kind{static_cast<std::uint16_t>(1 + what / 8 % 8)},
                 .serial = static_cast<std::uint16_t>(input.take<std::uint8_t>() % 4),
                 .tag = static_cast<int>(id % 4),
                 .length = static_cast<std::uint32_t>(length),
                 .id = id % 8,
                 .total = sizes[input.take<std::uint8_t>() % sizes.size()]};
        if (input.take<std::uint8_t>() % 2 == 0) h.id += Outbox::collective_bit;
        if (fault(h) != nullptr) h.length = h.kind == Kind::eager ? static_cast<std::uint32_t>(h.total) : 0;
        rank.arrive(&h, sizeof h);
        std::vector<std::uint8_t> const payload(h.length, what);
        rank.arrive(payload.data(), payload.size());
        break;
      }
      case 7: {
        auto const raw = input.bytes(choice);
        rank.arrive(raw.data(), raw.size());
        break;
      }
    }
    rank.move();
  }
  rank.in.forget_unfinished();
  for (Message& m : rank.messages) rank.cancel(m);
  return 0;
}
