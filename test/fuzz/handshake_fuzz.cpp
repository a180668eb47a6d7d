// SPDX-License-Identifier: Apache-2.0
// Fuzzes both ends of the handshake of transport::Tcp: what a stranger can say to an acceptor, and what whoever
// listens at rank 0's address can answer to a rank that joins.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/tcp_accept.hpp"
#include "elastic/transport/detail/tcp_connect.hpp"
#include "input.hpp"

namespace {

using namespace elastic;
using namespace elastic::transport;
using namespace elastic::transport::detail;
using namespace std::chrono_literals;

TcpOptions options(bool secured, bool tls) {
  TcpOptions o;
  o.size = 4;
  o.timeout = 5s;
  o.star = true;
  o.tls = tls && secured;
  if (secured) o.secret = "correct horse battery staple";
  return o;
}

struct Ends {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor{io, {asio::ip::make_address("127.0.0.1"), 0}};
};

/// Bytes of the input over a record that would pass.
template <class T>
T disturbed(T record, fuzz::Input& input) {
  auto* const bytes = reinterpret_cast<std::uint8_t*>(&record);
  for (int k = input.take<std::uint8_t>() % 4; k > 0; --k) {
    std::size_t const where = input.take<std::uint16_t>() % sizeof record;
    bytes[where] = input.take<std::uint8_t>();
  }
  return record;
}

/// Ends like a process that dies: leaves nothing behind that the next input would meet.
void drop(Socket& socket) {
  error_code ignored;
  socket.set_option(asio::socket_base::linger(true, 0), ignored);
  socket.close(ignored);
}

void visit(fuzz::Input& input, bool secured, bool tls, bool sensible) {
  Ends ends;
  Identity const me(options(secured, tls));
  bool admitted = false;
  Door door(
      ends.io, ends.acceptor, me,
      [&](Hello const& hello) {
        auto const reason = differs(hello, me.hello);
        return Ruling{reason, 1, input.empty()};
      },
      [&](Hello const&, int, Channel&& channel) {
        admitted = true;
        drop(channel.socket());
      });
  Socket stranger(ends.io);
  stranger.connect(ends.acceptor.local_endpoint());
  std::vector<std::uint8_t> said;
  if (sensible) {
    Hello const hello = disturbed(me.fresh_hello(), input);
    auto const* const bytes = reinterpret_cast<std::uint8_t const*>(&hello);
    said.assign(bytes, bytes + sizeof hello);
  }
  auto const rest = input.rest();
  said.insert(said.end(), rest.begin(), rest.end());
  error_code ignored;
  asio::write(stranger, asio::buffer(said), ignored);
  stranger.shutdown(Socket::shutdown_send, ignored);
  std::vector<char> heard(4096);
  bool over = false;
  std::function<void()> const listen = [&] {
    stranger.async_read_some(asio::buffer(heard), [&](error_code error, std::size_t) {
      if (error)
        over = true;
      else
        listen();
    });
  };
  listen();
  auto const deadline = Clock::now() + 20s;
  while (!over && ends.io.run_one_until(deadline) != 0) {
  }
  if (!over) std::abort();                // the visitor was kept waiting
  if (secured && admitted) std::abort();  // without the secret
  drop(stranger);
}

void join(fuzz::Input& input, bool secured, bool tls, bool sensible) {
  Ends ends;
  Identity const me(options(secured, tls));
  Joined link{Channel(ends.io), "nowhere"};
  link.channel.socket().connect(ends.acceptor.local_endpoint());
  Socket impostor = ends.acceptor.accept();
  std::vector<std::uint8_t> said;
  if (sensible) {
    Hello theirs = me.fresh_hello();
    theirs.rank = 0;
    theirs = disturbed(theirs, input);
    Verdict verdict;
    verdict.place = 1;
    verdict = disturbed(verdict, input);
    for (auto [data, size] : {std::pair{reinterpret_cast<std::uint8_t const*>(&theirs), sizeof theirs},
                              std::pair{reinterpret_cast<std::uint8_t const*>(&verdict), sizeof verdict}})
      said.insert(said.end(), data, data + size);
  }
  auto const rest = input.rest();
  said.insert(said.end(), rest.begin(), rest.end());
  error_code ignored;
  asio::write(impostor, asio::buffer(said), ignored);
  impostor.shutdown(Socket::shutdown_send, ignored);
  link.channel.unblock();
  try {
    if (greet(ends.io, link, me, 0).empty() && secured) std::abort();  // without the secret
  } catch (Error const&) {
  }
  drop(impostor);
  drop(link.channel.socket());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size > 60'000) return 0;  // what fits the buffers of a socket
  fuzz::Input input(data, size);
  auto const how = input.take<std::uint8_t>();
  bool const secured = (how & 2) != 0, tls = (how & 4) != 0, sensible = (how & 8) != 0;
  (how & 1) != 0 ? visit(input, secured, tls, sensible) : join(input, secured, tls, sensible);
  return 0;
}
