// SPDX-License-Identifier: Apache-2.0
// Every byte that transport::Tcp puts on a wire: fixed-size structs of little-endian integers, and the checks
// they must pass before anything in them is believed.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "elastic/transport/detail/secret.hpp"

namespace elastic::transport::detail {

static_assert(std::endian::native == std::endian::little, "transport::Tcp needs a little-endian machine");

inline constexpr std::uint32_t wire_magic = 0x54534c45;  // "ELST"
inline constexpr std::uint32_t wire_version = 3;

inline constexpr std::size_t eager_limit = 64 << 10;  // larger messages wait until they are asked for
inline constexpr std::size_t early_limit = 256
                                           << 10;  // of a collective that its receiver may not have started
inline constexpr std::size_t fragment_limit = 1 << 20;  // what a control message may have to wait for
inline constexpr std::size_t reason_limit = 1 << 10;

enum class Kind : std::uint16_t {
  eager = 1,  // a message of at most eager_limit bytes: tag, length == total, payload
  announce,   // a larger one: tag, id, total; it waits, or follows at once to the receive `serial`
  ready,      // a large receive is posted: tag, total, serial
  grant,      // the receive of a message, or of a part of a collective, is posted: id, total, serial
  refuse,     // its receive has another size: id
  fragment,   // a part of a large message or of a collective: id, length, total, serial, payload
  bye,        // nothing follows: the peer leaves in good order
  abort       // the job is over: tag (the rank that ended it), length, reason
};

struct Header {
  std::uint32_t magic = wire_magic;
  Kind kind{};
  std::uint16_t serial = 0;  // which receive of a large message, 0: one that was posted after the message
  std::int32_t tag = 0;
  std::uint32_t length = 0;  // payload bytes that follow this header
  std::uint64_t id = 0;
  std::uint64_t total = 0;  // bytes of the whole message
};
static_assert(sizeof(Header) == 32 && std::is_trivially_copyable_v<Header>);

/// What is wrong with a header, or nullptr.
inline char const* fault(Header const& h) {
  if (h.magic != wire_magic) return "what arrived is no elastic frame";
  switch (h.kind) {
    case Kind::eager:
      return h.length == h.total && h.length <= eager_limit ? nullptr : "a small message of a wrong length";
    case Kind::announce:
      return h.length == 0 && h.total > eager_limit ? nullptr : "an announcement of a wrong length";
    case Kind::ready: return h.length == 0 && h.total > eager_limit ? nullptr : "a receive of a wrong length";
    case Kind::fragment:
      return h.length <= fragment_limit && h.length <= h.total && (h.length > 0 || h.total == 0)
                 ? nullptr
                 : "a fragment of a wrong length";
    case Kind::grant:
    case Kind::refuse:
    case Kind::bye: return h.length == 0 ? nullptr : "a control frame with a payload";
    case Kind::abort: return h.length <= reason_limit ? nullptr : "a reason that is too long";
  }
  return "a frame of an unknown kind";
}

/// The first thing both ends of a new connection say.
struct Hello {
  std::uint32_t magic = wire_magic;
  std::uint32_t version = wire_version;
  std::uint32_t secured = 0;  // 1: the job has a secret
  std::uint32_t star = 0;     // 1: everybody meets rank 0 only
  std::int32_t rank = -1;     // -1: any place of a star
  std::int32_t size = 0;
  std::uint32_t port = 0;         // where this rank accepts connections
  std::uint32_t tls = 0;          // 1: what follows the hellos is encrypted
  std::uint64_t generation = 0;   // of rank 0; a client says which it saw last
  std::uint64_t incarnation = 0;  // a random number of this process
  std::array<char, 64> job{};
  Bytes32 nonce{};
};
static_assert(sizeof(Hello) == 144 && std::is_trivially_copyable_v<Hello>);

/// The acceptor's last word: the place it gives, or a reason to refuse, and its own proof.
struct Verdict {
  std::array<char, 220> reason{};
  std::uint32_t final = 0;  // 1: trying again is useless
  std::int32_t place = -1;
  std::uint32_t reserved = 0;
  Bytes32 proof{};
};
static_assert(sizeof(Verdict) == 264 && std::is_trivially_copyable_v<Verdict>);

/// Where a rank accepts connections, as rank 0 tells it to the others.
struct Address {
  std::array<char, 60> host{};
  std::uint32_t port = 0;
};
static_assert(sizeof(Address) == 64);

/// Copies what fits and always leaves a terminating zero.
template <std::size_t N>
void put_text(std::array<char, N>& to, std::string_view text) {
  to.fill(0);
  std::memcpy(to.data(), text.data(), text.size() < N ? text.size() : N - 1);
}

/// The text up to the first zero; control characters become '?', for it may end in a log.
template <std::size_t N>
std::string get_text(std::array<char, N> const& from) {
  std::string text;
  for (char const c : from) {
    if (c == 0) break;
    text += c >= ' ' && c != 127 ? c : '?';
  }
  return text;
}

/// HMAC over direction, both hellos, hence both nonces, the job and both ranks, and what is said with it;
/// without a secret it proves nothing and nobody looks at it.
inline Bytes32 prove(std::string_view secret, std::string_view direction, Hello const& connector,
                     Hello const& acceptor, std::string_view said) {
  std::string text(direction);
  text.append(reinterpret_cast<char const*>(&connector), sizeof connector);
  text.append(reinterpret_cast<char const*>(&acceptor), sizeof acceptor);
  text.append(said);
  return hmac_sha256(secret, text);
}

inline Bytes32 connector_proof(std::string_view secret, Hello const& connector, Hello const& acceptor) {
  return prove(secret, "elastic tcp connector", connector, acceptor, {});
}
inline Bytes32 acceptor_proof(std::string_view secret, Hello const& connector, Hello const& acceptor,
                              Verdict const& verdict) {
  return prove(secret, "elastic tcp acceptor", connector, acceptor,
               {reinterpret_cast<char const*>(&verdict), offsetof(Verdict, proof)});
}

}  // namespace elastic::transport::detail
